"""Trains one cell and returns its record. `train_cell` is what a notebook calls and what the workers run."""

import logging
import platform
import subprocess
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import lightning
import timm
import torch
from lightning import Trainer
from torch.utils.data import DataLoader

from vitcnn.data.batches import TrainStream
from vitcnn.data.cell_data import CellData, OnDisk, cell_data
from vitcnn.matrix import Cell
from vitcnn.models.build import build, eyes, facts
from vitcnn.records import Cost, Places, Record, Sight, TestScore, pack_bits, write_progress
from vitcnn.seeds import role_seed
from vitcnn.training.device import pick_device
from vitcnn.training.evaluate import TRAIN_IMAGES, batches, evaluate
from vitcnn.training.keeper import InterruptedCell, Keeper
from vitcnn.training.module import CellModule
from vitcnn.training.tracking import Tracking, tracker
from vitcnn.training.weights import load_weights, save_weights, weights_hash

CURVE_POINTS = 20
CURVE_IMAGES = 1000  # of the validation images, the same ones for every point

for name in ("lightning.pytorch", "lightning.fabric"):  # devices and tips, said again for each of hundreds of cells
    logging.getLogger(name).setLevel(logging.ERROR)


def train_cell(
    cell: Cell,
    *,
    places: Places,
    data_folder: str | Path | None = None,
    device: str = "auto",
    tracking: Tracking = "off",
    workers: int = 1,
    stop: Callable[[], bool] = lambda: False,
    keep: bool = False,
) -> Record:
    """Trains, from the cell's last checkpoint if there is one, and scores the last step's weights on the test set.

    `workers`: how many such cells share the memory. Checkpoints and signs of life go to `places.cell(cell.id)`, with
    `keep` the final weights to `places.weights(cell.id)`; the record is returned, not written. Raises
    `InterruptedCell` once `stop()` is true and a checkpoint is saved, `NotFiniteLoss` where the loss is no number.
    """
    where = pick_device(device)
    data = data_of(cell, where, data_folder, workers)
    if cell.recipe is None:
        from vitcnn.training.linear import train_linear

        def alive() -> None:
            write_progress(places.cell(cell.id), step=0, steps=0, stopped=stop())
            if stop():
                raise InterruptedCell

        record = train_linear(cell, data, made_by(where), alive)
        if logger := tracker(cell, places, tracking):
            logger.finish(record)
        return record
    torch.manual_seed(role_seed(cell.seed, "init"))
    weights = load_weights(cell.start, places) if cell.start else None
    network, size = build(cell.model, data.info, cell.recipe.init, weights)
    network = network.to(memory_format=torch.channels_last)
    module = CellModule(
        network,
        eyes(cell.model, data.info, data.train[0], size, cell.shuffle),
        cell.recipe,
        cell.steps,
        role_seed(cell.seed, "order"),
    )
    val_every = max(2, -(-cell.steps // CURVE_POINTS))  # 2: an interrupted cell is saved between validations
    keeper = Keeper(places.cell(cell.id), val_every, stop)
    logger = tracker(cell, places, tracking)
    trainer = Trainer(
        accelerator={"cuda": "gpu"}.get(where.type, where.type),
        devices=[where.index or 0] if where.type == "cuda" else 1,
        precision={"float32": "32-true", "bf16": "bf16-mixed"}[cell.recipe.precision],
        max_steps=cell.steps,
        val_check_interval=val_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=logger or False,
        callbacks=[keeper],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=places.run,
    )
    resume = keeper.checkpoint if keeper.checkpoint.exists() else None
    start = torch.load(resume, map_location="cpu", weights_only=True)["global_step"] if resume else 0
    stream = TrainStream(
        *data.train, batch_size=cell.recipe.batch_size, steps=cell.steps, seed=module.seed, start=start
    )
    if isinstance(data.train[0], OnDisk):  # a process of its own reads ahead
        stream = DataLoader(stream, batch_size=None, num_workers=1, pin_memory=where.type == "cuda")
    watched = DataLoader(list(batches(data.validation, CURVE_IMAGES)), batch_size=None)  # the batches are ready made
    try:
        with warnings.catch_warnings():
            # torch's own notes on a stream that lives in memory, on LambdaLR, on workers: chosen on purpose here
            warnings.filterwarnings("ignore", module="lightning.*")
            trainer.fit(module, stream, watched, ckpt_path=resume, weights_only=True)
        module.to(where)
        record = _record(cell, data, module, keeper, where)
        if keep:
            save_weights(module.network, places.weights(cell.id))
        if logger:
            logger.finish(record)
    except BaseException:
        if logger:
            logger.abandon()
        raise
    return record


def data_of(cell: Cell, device: torch.device, folder: str | Path | None, workers: int = 1) -> CellData:
    """The images of a cell, on the device where they fit; `workers`: how many such cells share the memory."""
    return cell_data(
        cell.dataset,
        resolution=cell.resolution,
        content=cell.content,
        validation=cell.validation,
        n=cell.n,
        seed=role_seed(cell.seed, "subset"),
        folder=folder,
        device=device,
        workers=workers,
    )


def _record(cell: Cell, data: CellData, module: CellModule, keeper: Keeper, where: torch.device) -> Record:
    if module.loss_count > 0:
        module.mean_loss()  # the steps since the last point of the curve: finite too?
    validation, train = evaluate(module, data.validation)[1], evaluate(module, data.train, TRAIN_IMAGES)[1]
    correct, test = evaluate(module, data.test)
    counted = facts(cell.model, data.info)
    return Record(
        id=cell.id,
        cell=cell,
        test=TestScore(**test.model_dump(), bits=pack_bits(correct)),
        validation=validation,
        train=train,
        curve=tuple(module.curve),
        cost=Cost(
            parameters=counted.parameters,
            macs=counted.macs,
            steps=cell.steps,
            images_seen=cell.images_seen,
            epochs=cell.images_seen / cell.n,
            seconds=keeper.seconds,
            images_per_s=cell.images_seen / keeper.seconds,
            resumed=keeper.resumed,
        ),
        sight=Sight(
            image_size=counted.image_size,
            words=counted.words,
            native_pixels_per_word=counted.native_pixels_per_word,
        ),
        subset=data.subset,
        data=data.facts,
        weights=weights_hash(module.network.state_dict()),
        made_by=made_by(where),
    )


def made_by(where: torch.device) -> dict[str, object]:
    """Versions, machine and time, for the record."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "lightning": lightning.__version__,
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else f"cpu ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "git": git_revision(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@cache
def git_revision() -> str | None:
    """The commit this package is run from, `+` behind it where files were changed; None outside a checkout."""
    here = Path(__file__).parents[1]
    try:
        out = [
            subprocess.run(["git", "-C", here, *command], capture_output=True, text=True, check=True, timeout=20).stdout
            for command in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--", here])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return out[0].strip() + ("+" if out[1].strip() else "")

"""Trains one cell and returns its record. `train_cell` is what a notebook calls."""

import logging
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader, IterableDataset

from vitcnn.cell import Cell
from vitcnn.data.batches import TrainStream
from vitcnn.data.cell_data import CellData, OnDisk, cells_data
from vitcnn.models.build import build, eyes
from vitcnn.models.facts import Facts, facts
from vitcnn.records import Cost, Places, Record, TestScore, pack_bits
from vitcnn.seeds import role_seed
from vitcnn.status import write_progress
from vitcnn.training.checkpoints import CheckedIO, last_good
from vitcnn.training.device import pick_device
from vitcnn.training.evaluate import TRAIN_IMAGES, batches, evaluate
from vitcnn.training.keeper import InterruptedCell, Keeper
from vitcnn.training.module import CellModule
from vitcnn.training.provenance import made_by
from vitcnn.training.tracking import Tracking, tracker
from vitcnn.training.weights import load_weights, save_weights, weights_hash

CURVE_IMAGES = 1000  # of the validation images, the same ones for every point
CURVE_SHARE = 0.025  # of its training that the points of a cell's curve may cost …
CURVE_POINTS = (5, 60)  # … but at least, and at most, so many

rank_zero_only.rank = 0  # a cell is one process, whichever of a scheduler's tasks it is: its W&B run is its own
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
    (data,) = data_of([cell], where, data_folder, workers)
    if cell.recipe is None:
        from vitcnn.training.linear import train_linear

        def alive() -> None:
            write_progress(places.cell(cell.id), step=0, steps=0, stopped=stop())
            if stop():
                raise InterruptedCell

        record = train_linear(cell, data, made_by(where), alive, workers)
        if logger := tracker(cell, places, tracking):
            logger.finish(record)
        return record
    counted = facts(cell.model, data.info)  # now: an edited module or a moved file must not cost a trained cell
    module = module_of(cell, data, places)
    keeper = Keeper([places.cell(cell.id)], val_every(cell), stop)
    start = start_of(cell, places)
    logger = tracker(cell, places, tracking)
    try:
        fit(module, cell, data, stream_of(module, data, start), where, keeper, CheckedIO(), logger)
        record = record_of(cell, data, module, keeper, where, counted)
        if keep:
            save_weights(module.network, places.weights(cell.id))
        if logger:
            logger.finish(record)
    except BaseException:
        if logger:
            logger.abandon()
        raise
    return record


def data_of(cells: Sequence[Cell], device: torch.device, folder: str | Path | None, workers: int = 1) -> list[CellData]:
    """The images of cells of one data set, on the device where they fit; `workers`: how many such share the memory."""
    return cells_data(
        cells[0].dataset,
        [(cell.n, role_seed(cell.seed, "subset")) for cell in cells],
        resolution=cells[0].resolution,
        content=cells[0].content,
        validation=cells[0].validation,
        folder=folder,
        device=device,
        workers=workers,
    )


def module_of(cell: Cell, data: CellData, places: Places) -> CellModule:
    """As it is before the first step. Sets torch's seed."""
    torch.manual_seed(role_seed(cell.seed, "init"))
    weights = load_weights(cell.start, places.of(cell.start_study)) if cell.start else None
    network, size = build(cell.model, data.info, cell.recipe.init, weights, own_head=bool(cell.start_study))
    return CellModule(
        network,
        eyes(cell.model, data.info, data.train[0], size, cell.shuffle),
        cell.recipe,
        cell.steps,
        role_seed(cell.seed, "order"),
    )


def val_every(cell: Cell) -> int:
    """Steps between two points of the curve. A forward pass is taken for a third of training on an image."""
    afforded = CURVE_SHARE * 3 * cell.images_seen / min(CURVE_IMAGES, cell.validation)
    points = min(max(afforded, CURVE_POINTS[0]), CURVE_POINTS[1])
    return max(2, math.ceil(cell.steps / points))  # 2: an interrupted cell is saved between validations


def start_of(cell: Cell, places: Places) -> int:
    """The step that training begins with: of the last whole checkpoint. Broken ones are put aside, with a warning."""
    step, said = last_good(places.cell(cell.id) / "last.ckpt")
    for line in said:
        warnings.warn(f"{cell.title} {'goes on' if step else 'begins anew'}: {line}", stacklevel=2)
    return step


def stream_of(module: CellModule, data: CellData, start: int) -> TrainStream:
    return TrainStream(
        *data.train, batch_size=module.recipe.batch_size, steps=module.steps, seed=module.seed, start=start
    )


def fit(
    module: LightningModule,
    cell: Cell,
    data: CellData,
    stream: IterableDataset,
    where: torch.device,
    keeper: Keeper,
    files: CheckedIO,
    logger: Logger | None = None,
) -> None:
    """Lightning's loop, from the keeper's checkpoint if there is one; the module ends on the device `where`.

    A cell is one process whatever a cluster's scheduler has put into the environment, and saves itself.
    """
    if isinstance(data.train[0], OnDisk):  # a process of its own reads ahead
        stream = DataLoader(stream, batch_size=None, num_workers=1, pin_memory=where.type == "cuda")
    watched = DataLoader(list(batches(data.validation, CURVE_IMAGES)), batch_size=None)  # the batches are ready made
    trainer = Trainer(
        accelerator={"cuda": "gpu"}.get(where.type, where.type),
        devices=[where.index or 0] if where.type == "cuda" else 1,
        precision={"float32": "32-true", "bf16": "bf16-mixed"}[cell.recipe.precision],
        max_steps=cell.steps,
        val_check_interval=keeper.val_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=[keeper],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=keeper.folders[0].parent,
        plugins=[files, LightningEnvironment()],
        logger=logger or False,
    )
    first = keeper.checkpoints[0]
    with warnings.catch_warnings():
        # torch's own notes on a stream that lives in memory, on LambdaLR, on workers: chosen on purpose here
        warnings.filterwarnings("ignore", module="lightning.*")
        trainer.fit(module, stream, watched, ckpt_path=first if first.exists() else None, weights_only=True)
    module.to(where)


def record_of(
    cell: Cell, data: CellData, module: CellModule, keeper: Keeper, where: torch.device, counted: Facts
) -> Record:
    """Scores what training ended with; `counted`: the network's size."""
    if module.loss_count > 0:
        module.mean_loss()  # the steps since the last point of the curve: finite too?
    validation, train = evaluate(module, data.validation)[1], evaluate(module, data.train, TRAIN_IMAGES)[1]
    correct, test = evaluate(module, data.test)
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
            cohort=len(keeper.folders),
        ),
        sight=counted.sight,
        subset=data.subset,
        data=data.facts,
        weights=weights_hash(module.network.state_dict()),
        made_by=made_by(where),
    )

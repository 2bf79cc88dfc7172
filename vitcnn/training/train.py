"""Trains cells and returns their records. `train_cell` is what a notebook calls."""

import contextlib
import gc
import logging
import math
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from lightning import Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

from vitcnn.data.cell_data import CellData
from vitcnn.errors import NotFiniteLoss, evenly
from vitcnn.models.profile import profile
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import Record
from vitcnn.store.status import write_progress
from vitcnn.study.cell import Cell
from vitcnn.training.callback import CheckpointCallback, InterruptedCell
from vitcnn.training.device import is_out_of_memory, pick_device
from vitcnn.training.evaluate import batch_for, batches
from vitcnn.training.lane import Lane
from vitcnn.training.module import CellsModule, Spans
from vitcnn.training.provenance import made_by
from vitcnn.training.result import all_logits, record_of
from vitcnn.training.setup import CURVE_IMAGES, data_of, groups, start_lane, val_every
from vitcnn.training.wandb import Tracker, Tracking, tracker
from vitcnn.training.weights import save_weights

KNOWN = ("cpu", "cuda", "mps")  # to Lightning

rank_zero_only.rank = 0  # a cell is one process, whichever of a scheduler's tasks it is: its W&B run is its own
for name in ("lightning.pytorch", "lightning.fabric"):  # devices and tips, said again for each of hundreds of cells
    logging.getLogger(name).setLevel(logging.ERROR)


def train_cell(
    cell: Cell,
    *,
    paths: StudyPaths,
    data_folder: str | Path | None = None,
    device: str = "auto",
    tracking: Tracking = "off",
    workers: int = 1,
    stop: Callable[[], bool] = lambda: False,
    keep: bool = False,
) -> Record:
    """Trains, from the cell's last checkpoint if there is one, and scores the last step's weights on the test set.

    `workers`: how many processes share the memory. Checkpoints and progress go to `paths.cell(cell.id)`, with `keep`
    the final weights to `paths.weights(cell.id)`; the record is returned, not written. Raises `InterruptedCell` once
    `stop()` is true and a checkpoint is saved, `NotFiniteLoss` where the loss is not a number.
    """
    ((_, record),) = train_cells(
        [cell],
        paths=paths,
        data_folder=data_folder,
        device=device,
        tracking=tracking,
        workers=workers,
        stop=stop,
        keep=lambda _: keep,
    )
    if isinstance(record, NotFiniteLoss):
        raise record
    return record


def train_cells(
    cells: Sequence[Cell],
    *,
    paths: StudyPaths,
    data_folder: str | Path | None = None,
    device: str = "auto",
    tracking: Tracking = "off",
    workers: int = 1,
    stop: Callable[[], bool] = lambda: False,
    keep: Callable[[Cell], bool] = lambda _: False,
    log: Callable[[str], None] = lambda _: None,
) -> Iterator[tuple[Cell, Record | NotFiniteLoss]]:
    """As `train_cell`, of cells on one data set with equal numbers of steps, side by side in lanes; each with its
    record or, where its loss is not a number, the error. Every cell ends as it would have ended alone.

    Cells that were interrupted at different steps go on one group after the other; where memory runs out, half of the
    lanes do. Raises `InterruptedCell` once `stop()` is true and every running cell has saved a checkpoint.
    """
    where, waiting = pick_device(device), deque(groups(cells, paths))
    while waiting:
        gc.collect()  # a trainer and its module hold each other, and the memory that the next ones need
        if where.type == "cuda":
            torch.cuda.empty_cache()
        group = waiting.popleft()
        left = list(group)
        try:
            for cell, record in _train_group(group, where, paths, data_folder, tracking, workers, stop, keep, log):
                left.remove(cell)
                yield cell, record
        except RuntimeError as error:
            if len(left) == 1 or not is_out_of_memory(error):
                raise
            log(f"{len(left)} {group[0].model} cells ran out of memory; half of them at a time")
            for half in reversed(evenly(left, (len(left) + 1) // 2)):
                waiting.extendleft(reversed(groups(half, paths)))


def _train_group(
    cells: Sequence[Cell],
    where: torch.device,
    paths: StudyPaths,
    data_folder: str | Path | None,
    tracking: Tracking,
    workers: int,
    stop: Callable[[], bool],
    keep: Callable[[Cell], bool],
    log: Callable[[str], None],
) -> Iterator[tuple[Cell, Record | NotFiniteLoss]]:
    data = data_of(cells, where, data_folder, workers)
    if cells[0].recipe is None:
        yield cells[0], _train_linear(cells[0], data[0], where, paths, tracking, workers, stop)
        return
    # now: an edited module or a moved file must not cost a trained cell
    counted = profile(cells[0].arch, data[0].info)
    callback = CheckpointCallback([paths.cell(cell.id) for cell in cells], stop)
    lanes = [
        start_lane(cell, its, where, paths, k, callback) for k, (cell, its) in enumerate(zip(cells, data, strict=True))
    ]
    with contextlib.ExitStack() as open_runs:
        trackers = [tracker(cell, paths, tracking) for cell in cells]
        for one in filter(None, trackers):
            open_runs.callback(one.abandon)  # which does nothing once it is finished
        not_deterministic = fit(lanes, trackers, val_every(cells[0]), data[0], where, callback)
        about = _step_facts(lanes, not_deterministic, log, cells[0].model)
        # of all lanes at once: a GPU does not wait in between
        logits = [all_logits(lane, its) for lane, its in zip(lanes, data, strict=True)]
        for k, (cell, its, lane) in enumerate(zip(cells, data, lanes, strict=True)):
            try:
                if lane.failed is not None:
                    raise NotFiniteLoss(lane.failed)
                record = record_of(cell, its, lane, logits[k], callback, k, made_by(where) | about[k], counted)
            except NotFiniteLoss as error:
                yield cell, error
                continue
            if keep(cell):
                save_weights(lane.network, paths.weights(cell.id))
            if trackers[k]:
                trackers[k].finish(record)
            yield cell, record


def _train_linear(
    cell: Cell,
    data: CellData,
    where: torch.device,
    paths: StudyPaths,
    tracking: Tracking,
    workers: int,
    stop: Callable[[], bool],
) -> Record:
    from vitcnn.training.linear import train_linear

    def alive() -> None:
        write_progress(paths.cell(cell.id), step=0, steps=0, stopped=stop())
        if stop():
            raise InterruptedCell

    record = train_linear(cell, data, made_by(where), alive, workers)
    if logger := tracker(cell, paths, tracking):
        logger.finish(record)
    return record


def _step_facts(
    lanes: Sequence[Lane], not_deterministic: Sequence[str], log: Callable[[str], None], name: str
) -> list[dict[str, str]]:
    """What a record says of how the steps of each lane ran on a GPU, where it is not the usual way; logged once."""
    if lanes[0].eager_reason:
        log(f"{name}: its steps run eagerly, several times slower: {lanes[0].eager_reason}")
    if not_deterministic:
        log(f"{name}: a second run may end with other weights: {', '.join(not_deterministic)} is not deterministic")
    shared = {"not_deterministic": ", ".join(not_deterministic)} if not_deterministic else {}
    return [shared | ({"eager": lane.eager_reason} if lane.eager_reason else {}) for lane in lanes]


def fit(
    lanes: Sequence[Lane],
    trackers: Sequence[Tracker | None],
    every: int,
    data: CellData,
    where: torch.device,
    callback: CheckpointCallback,
) -> list[str]:
    """Lightning's loop, from where the lanes are to their last step, with a point of the curve every `every` steps.
    Returns the operations that have no deterministic form.

    A cell is one process whatever a cluster's scheduler has put into the environment, and saves itself.
    """
    module = CellsModule(lanes, trackers, every)
    validation = list(batches(data.validation, CURVE_IMAGES, batch_for(lanes[0])))  # the batches are ready made
    known = where.type in KNOWN
    trainer = Trainer(
        accelerator=where.type if known else _OtherAccelerator(),
        strategy="auto" if known else SingleDeviceStrategy(where),
        devices=[where.index or 0] if where.type == "cuda" else 1,
        max_epochs=math.ceil(module.steps / every) - module.position // every,
        num_sanity_val_steps=0,
        callbacks=[callback],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=callback.folders[0].parent,
        plugins=[LightningEnvironment()],
        logger=False,
    )
    with warnings.catch_warnings():
        # Lightning's notes on a loop without an optimiser of its own, and on workers: chosen on purpose here
        warnings.filterwarnings("ignore", module="lightning.*")
        trainer.fit(module, Spans(module), DataLoader(validation, batch_size=None))
    for lane in lanes:
        lane.release().to(where)
    if where.type == "cuda":
        torch.cuda.empty_cache()
    return module.not_deterministic


class _OtherAccelerator(CPUAccelerator):
    """Of devices that torch knows and Lightning does not (xpu): there is nothing to set up."""

    def setup_device(self, device: torch.device) -> None: ...

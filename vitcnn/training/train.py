"""Trains cells and returns their records. Notebooks call `train_cell`."""

import contextlib
import gc
import logging
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_only

from vitcnn.data.cell_data import CellData, cells_data
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.errors import NotFiniteLoss, evenly
from vitcnn.models.profile import profile
from vitcnn.seeds import role_seed
from vitcnn.store.labels import write_labels
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import Record
from vitcnn.study.cell import Cell
from vitcnn.training.callback import InterruptedCell
from vitcnn.training.checkpoints import last_good
from vitcnn.training.device import is_out_of_memory, pick_device
from vitcnn.training.evaluate import record_of
from vitcnn.training.networks import train_networks
from vitcnn.training.provenance import made_by
from vitcnn.training.ranks import Rank, together
from vitcnn.training.tracker import Tracker, Tracking
from vitcnn.training.weights import save_weights

rank_zero_only.rank = 0  # a cell is one process with its own W&B run, whatever rank a scheduler gives it
for name in ("lightning.pytorch", "lightning.fabric"):  # messages that repeat for every cell
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
    devices: int = 1,
) -> Record:
    """Trains, from the cell's last checkpoint if there is one, and scores the last step's weights on the test set.

    `workers`: how many processes share the memory; `devices`: on how many a network is trained, from `device` on, one
    process each. Checkpoints and progress go to `paths.cell(cell.id)`, with `keep`
    the final weights to `paths.weights(cell.id)`, the test images' labels to `paths.labels`; the record is returned,
    not written. Raises `InterruptedCell` once `stop()` is true and a checkpoint is saved, `NotFiniteLoss` if the loss
    is not finite.
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
        devices=devices,
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
    devices: int = 1,
) -> Iterator[tuple[Cell, Record | NotFiniteLoss]]:
    """As `train_cell`, of cells on one data set with equal numbers of steps, in parallel lanes; yields each with
    its record or, if its loss is not finite, the error. Results are the same as if trained separately.

    Cells interrupted at different steps resume one group after the other. If memory runs out, the lanes are halved.
    Raises `InterruptedCell` once `stop()` is true and every running cell has saved a checkpoint.
    """
    where, waiting = pick_device(device), deque(_groups(cells, paths))
    while waiting:
        gc.collect()  # a trainer and its module form a cycle that keeps memory
        if where.type == "cuda":
            torch.cuda.empty_cache()
        group = waiting.popleft()
        left = list(group)
        try:
            for cell, record in _train_group(
                group, where, paths, data_folder, tracking, workers, stop, keep, log, devices
            ):
                left.remove(cell)
                yield cell, record
        except RuntimeError as error:
            if len(left) == 1 or not is_out_of_memory(error):
                raise
            log(f"{len(left)} {group[0].model} cells ran out of memory; training half of them at a time")
            for half in reversed(evenly(left, (len(left) + 1) // 2)):
                waiting.extendleft(reversed(_groups(half, paths)))


def _groups(cells: Sequence[Cell], paths: StudyPaths) -> list[list[Cell]]:
    """Groups cells by their number of steps and the step of their last valid checkpoint. Damaged ones are quarantined,
    with a warning."""
    groups: dict[tuple[int, int], list[Cell]] = {}
    for cell in cells:
        step, messages = last_good(paths.cell(cell.id) / "last.ckpt")
        for line in messages:
            warnings.warn(f"{cell.title} {'continues' if step else 'starts again'}: {line}", stacklevel=2)
        groups.setdefault((cell.steps, step), []).append(cell)
    return list(groups.values())


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
    devices: int,
) -> Iterator[tuple[Cell, Record | NotFiniteLoss]]:
    data = data_of(cells, where, data_folder, workers)
    # before training: an edited module or a moved file must not lose a trained cell
    counted = profile(cells[0].arch, data[0].info)
    with contextlib.ExitStack() as open_runs:
        runs = _trackers(cells, paths, tracking)
        for one in filter(None, runs):
            open_runs.callback(one.abandon)  # does nothing after finish()
        if cells[0].is_linear:
            from vitcnn.training.linear import train_linear

            ended = [
                train_linear(cell, cell_data, paths, workers, stop) for cell, cell_data in zip(cells, data, strict=True)
            ]
        else:
            with together(devices, where, _follow, cells, where, paths, data_folder, workers) as rank:
                ended = train_networks(cells, data, where, paths, runs, stop, log, rank)
        for cell, cell_data, trained, run in zip(cells, data, ended, runs, strict=True):
            try:
                record = record_of(cell, cell_data, trained, counted, made_by(where))
            except NotFiniteLoss as error:
                yield cell, error
                continue
            if trained.network is not None and keep(cell):
                save_weights(trained.network, paths.weights(cell.id))
            if run:
                run.finish(record)
            write_labels(paths, cell_data.info.names, cell_data.test[1].cpu().numpy())
            yield cell, record


def _follow(
    rank: Rank,
    cells: Sequence[Cell],
    where: torch.device,
    paths: StudyPaths,
    data_folder: str | Path | None,
    workers: int,
) -> None:
    """Trains another rank's share. The first decides when to stop."""
    here = pick_device(str(rank.device(where)))
    data, without = data_of(cells, here, data_folder, workers), [None] * len(cells)
    with contextlib.suppress(InterruptedCell):
        train_networks(cells, data, here, paths, without, lambda: False, lambda _: None, rank)


def _trackers(cells: Sequence[Cell], paths: StudyPaths, tracking: Tracking) -> Sequence[Tracker | None]:
    """A logger for each cell; None where there is none."""
    if tracking == "tensorboard":
        from vitcnn.training import tensorboard

        return tensorboard.trackers(cells, paths)
    from vitcnn.training import wandb

    return wandb.trackers(cells, paths, tracking)


def data_of(cells: Sequence[Cell], device: torch.device, folder: str | Path | None, workers: int = 1) -> list[CellData]:
    """The images of cells of one data set, on the device where they fit; `workers`: how many such share the memory."""
    return cells_data(
        parse_dataset(cells[0].dataset, cells[0].resolution),
        [(cell.n, role_seed(cell.seed, "subset")) for cell in cells],
        content=cells[0].content,
        validation=cells[0].validation,
        folder=folder,
        device=device,
        workers=workers,
    )

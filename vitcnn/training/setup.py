"""What a cell's training starts from: its images, its network, its last checkpoint."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vitcnn.data.batches import Feed, TrainStream
from vitcnn.data.cell_data import CellData, cells_data
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.models.build import build, preprocess
from vitcnn.seeds import role_seed
from vitcnn.store.paths import StudyPaths
from vitcnn.study.cell import Cell
from vitcnn.training.callback import CheckpointCallback
from vitcnn.training.checkpoints import last_good, load_checkpoint
from vitcnn.training.lane import Lane
from vitcnn.training.weights import load_weights

CURVE_IMAGES = 1000  # of the validation images, the same ones for every point
CURVE_SHARE = 0.025  # of its training that the points of a cell's curve may cost …
CURVE_POINTS = (5, 60)  # … but at least, and at most, so many
STEPS = 256  # that a GPU is given at once, at most


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


def lane_of(cell: Cell, data: CellData, paths: StudyPaths) -> Lane:
    """As it is before the first step. Sets torch's seed."""
    torch.manual_seed(role_seed(cell.seed, "init"))
    weights = load_weights(cell.init_from, paths.of(cell.init_from_study)) if cell.init_from else None
    network, size = build(cell.arch, data.info, cell.recipe.init, weights, own_head=bool(cell.init_from_study))
    seen = preprocess(cell.arch, data.info, data.train[0], size, cell.permutation)
    return Lane(network, seen, cell.recipe, cell.steps, role_seed(cell.seed, "order"))


def start_lane(
    cell: Cell, data: CellData, where: torch.device, paths: StudyPaths, k: int, callback: CheckpointCallback
) -> Lane:
    """On the device, with its optimiser and its images, where it was interrupted."""
    lane, file = lane_of(cell, data, paths), paths.cell(cell.id) / "last.ckpt"
    saved: dict[str, Any] | None = load_checkpoint(file) if file.exists() else None
    stream = TrainStream(
        *data.train,
        batch_size=cell.recipe.batch_size,
        steps=cell.steps,
        seed=lane.seed,
        start=saved["step"] if saved else 0,
    )
    lane.start(Feed(stream, where, capacity=min(cell.steps, STEPS) if where.type == "cuda" else 1))
    if saved:
        lane.restore(saved)
        callback.goes_on(k, saved)
    return lane


def val_every(cell: Cell) -> int:
    """Steps between two points of the curve. A forward pass is taken for a third of training on an image."""
    afforded = CURVE_SHARE * 3 * cell.images_seen / min(CURVE_IMAGES, cell.validation)
    points = min(max(afforded, CURVE_POINTS[0]), CURVE_POINTS[1])
    return max(2, math.ceil(cell.steps / points))  # 2: an interrupted cell is saved between validations


def start_of(cell: Cell, paths: StudyPaths) -> int:
    """The step that training begins with: of the last whole checkpoint. Broken ones are quarantined, with a warning."""
    step, said = last_good(paths.cell(cell.id) / "last.ckpt")
    for line in said:
        warnings.warn(f"{cell.title} {'goes on' if step else 'begins anew'}: {line}", stacklevel=2)
    return step


def groups(cells: Sequence[Cell], paths: StudyPaths) -> list[list[Cell]]:
    """By the step that they go on from; logistic regressions each alone."""
    groups: dict[object, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(start_of(cell, paths) if cell.recipe else cell.id, []).append(cell)
    return list(groups.values())

"""A cell that is interrupted, and its result."""

from pathlib import Path

import pytest

from vitcnn.store.paths import StudyPaths
from vitcnn.study.cell import Cell
from vitcnn.training.callback import InterruptedCell
from vitcnn.training.train import train_cell

TEXT = """
dataset: digits
sizes: [50]
seeds: 1
models: {vit: {width: 32, depth: 2, heads: 2}}
budget: {images_seen: 1600}
recipe: {batch_size: 32}
"""


def interrupted(cell: Cell, paths: StudyPaths, at: int, tracking: str = "off") -> Path:
    """Trains until the `at`-th question whether to stop; the checkpoint."""
    asked = [0]

    def stop() -> bool:
        asked[0] += 1
        return asked[0] == at

    with pytest.raises(InterruptedCell):
        train_cell(cell, paths=paths, stop=stop, tracking=tracking)
    return paths.cell(cell.id) / "last.ckpt"


def result(record):
    return record.weights, record.curve, record.test

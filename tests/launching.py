"""A small study that is launched, and what its processes are waited for."""

import time
from pathlib import Path

from vitcnn.launch.worker import Options
from vitcnn.store.paths import StudyPaths
from vitcnn.store.status import read_json
from vitcnn.study.cell import Cell
from vitcnn.study.load import load_study
from vitcnn.study.matrix import cells

OPTIONS = Options(device="cpu", tracking="off")
TEXT = """
dataset: digits
sizes: [50]
seeds: 1
models:
  vit: {width: 32, depth: 1, heads: 2}
  burns: {arch: vit, width: 32, depth: 1, heads: 2, recipe: {lr: 1e30}}
  linear: {C: [1.0]}
budget: {images_seen: 640}
recipe: {batch_size: 32}
"""
LONG = "budget.images_seen=32000"  # 1,000 steps, some seconds: progress is reported once a second


def named(file: Path, name: str, *overrides: str) -> Cell:
    return next(c for c in cells(load_study(file, overrides)) if c.model == name)


def wait_for(condition, seconds: float = 90.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def pid_in_a_step(paths: StudyPaths, cell: Cell) -> int | None:
    progress = read_json(paths.cell(cell.id) / "progress.json") or {}
    return progress["pid"] if progress.get("step", 0) > 5 else None

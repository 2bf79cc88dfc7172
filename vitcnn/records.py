"""What a cell leaves behind, and what a study's folders say about its state. Files only; loads neither torch nor timm.

results/<study>/records/<cell id>.json    written last, atomically: a cell is finished when its record is there
runs/<study>/<cell id>/progress.json      where a worker is (rewritten about once a second)
runs/<study>/<cell id>/failure.json       the error of a cell that gave up
runs/<study>/<cell id>/last.ckpt          from which an interrupted cell goes on
runs/<study>/weights/<cell id>.pt         of a cell whose final weights are kept
"""

import base64
import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from vitcnn.matrix import Cell

SCHEMA = 1
SILENCE = 600  # seconds without a sign of life after which a worker counts as gone


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Score(_Part):
    """Over `images` images: accuracy, its mean over classes, and expected calibration error, all in [0, 1]; mean
    negative log-likelihood in nats. None: not measured when the record was made."""

    accuracy: float
    nll: float
    images: int
    macro_accuracy: float | None = None
    ece: float | None = None


class TestScore(Score):
    """The official test set, scored once. `bits`: one per image, right or wrong, packed and base64-encoded."""

    bits: str

    def correct(self) -> np.ndarray:
        """(images,) bool, official order."""
        return np.unpackbits(np.frombuffer(base64.b64decode(self.bits), np.uint8), count=self.images).astype(bool)


def pack_bits(correct: np.ndarray) -> str:
    return base64.b64encode(np.packbits(correct.astype(bool))).decode()


class Point(_Part):
    """One point of a training curve. `train_loss` is the mean since the point before, label smoothing included."""

    images_seen: int
    train_loss: float
    val_accuracy: float
    val_nll: float


class Cost(_Part):
    """`seconds` of training and its validations, without start-up and the final tests; `images_per_s` follows. Of a
    cell that was one of a `cohort`, trained as one program: its share of the time."""

    parameters: int
    macs: int  # of one forward image
    steps: int
    images_seen: int
    epochs: float
    seconds: float
    images_per_s: float | None
    resumed: int = 0  # how often the cell went on from a checkpoint
    cohort: int = 1


class Sight(_Part):
    """What the network is shown, in pixels; words of its first layer, and the native pixels along a word's side."""

    image_size: int
    words: int | None
    native_pixels_per_word: float | None


class Record(_Part):
    """A finished cell. Its id is the cell's; analysis reads this and nothing else."""

    schema_: Literal[1] = SCHEMA
    id: str
    cell: Cell
    test: TestScore
    validation: Score
    train: Score  # the training subset (its first 10,000 images), not augmented
    curve: tuple[Point, ...]
    cost: Cost
    sight: Sight
    subset: str  # hash of the training images' indices
    weights: str | None = None  # hash of the final weights
    found: dict[str, Any] = {}  # what the cell itself chose on validation (linear: its C)
    data: dict[str, Any] = {}  # the data set: sums, origin, what the leak check found
    made_by: dict[str, Any] = {}  # versions, git revision, device, threads, date


@dataclass(frozen=True)
class Places:
    """The folders of one study."""

    study: str
    results: Path = Path("results")
    runs: Path = Path("runs")

    @property
    def report(self) -> Path:
        return self.results / self.study

    @property
    def records(self) -> Path:
        return self.report / "records"

    @property
    def dataset(self) -> Path:
        """What a run knew of its data set, for one that is not built in."""
        return self.report / "dataset.json"

    @property
    def run(self) -> Path:
        return self.runs / self.study

    def record(self, cell_id: str) -> Path:
        return self.records / f"{cell_id}.json"

    def cell(self, cell_id: str) -> Path:
        return self.run / cell_id

    def weights(self, cell_id: str) -> Path:
        return self.run / "weights" / f"{cell_id}.pt"


def write_atomically(path: Path, text: str) -> None:
    """The file is there whole, or as it was before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def write_record(record: Record, places: Places) -> Path:
    path = places.record(record.id)
    write_atomically(path, record.model_dump_json() + "\n")
    return path


def read_record(path: Path) -> Record:
    """Raises ValueError, naming the file, where it is no record or another cell's."""
    try:
        record = Record.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{path}: no record: {error.errors()[0]['msg']}") from None
    if record.id != path.stem:
        raise ValueError(f"{path}: holds the record of {record.id}")
    if (own := record.cell.id) != record.id:  # edited, or made when a default was another one
        raise ValueError(f"{path}: its fields are those of cell {own}")
    return record


def read_records(folder: Path) -> tuple[list[Record], list[str]]:
    """(records, what is wrong with the files that are none), by file name."""
    records, wrong = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            records.append(read_record(path))
        except (OSError, ValueError) as error:
            wrong.append(str(error))
    return records, wrong


# ---- the state of a study ----


@dataclass(frozen=True)
class State:
    """Where a cell stands, and for one that runs or stopped its progress: step, accuracy, images_per_s, error …"""

    cell: Cell
    kind: Literal["done", "running", "stopped", "failed", "waiting"]
    detail: dict[str, Any] = field(default_factory=dict)


def states(cells: Iterable[Cell], places: Places) -> list[State]:
    """From files alone, whether a run is going on or not. Records are not opened: one that is there is done."""
    done = {path.stem for path in places.records.glob("*.json")}
    begun = {path.name for path in places.run.iterdir()} if places.run.is_dir() else set()
    return [_state(cell, cell.id, done, begun, places) for cell in cells]


def _state(cell: Cell, cell_id: str, done: set[str], begun: set[str], places: Places) -> State:
    if cell_id in done:
        return State(cell, "done")
    if cell_id not in begun:
        return State(cell, "waiting")
    if (failure := read_json(places.cell(cell_id) / "failure.json")) is not None:
        return State(cell, "failed", failure)
    progress = read_json(places.cell(cell_id) / "progress.json")
    if progress is None:
        return State(cell, "waiting")
    return State(cell, "running" if _alive(progress) else "stopped", progress)


def _alive(progress: dict) -> bool:
    if time.time() - progress["time"] > SILENCE or progress.get("stopped"):
        return False
    if progress["host"] != os.uname().nodename:
        return True
    try:
        os.kill(progress["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def read_json(path: Path) -> dict | None:
    """None where there is no such file, or no whole one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def write_progress(folder: Path, **what: Any) -> None:
    """Leaves a sign of life: step, steps, accuracy, images_per_s …"""
    about = {"time": time.time(), "pid": os.getpid(), "host": os.uname().nodename}
    write_atomically(folder / "progress.json", json.dumps(what | about))

"""The record of a finished cell, and the layout of a study's folders. Files only; loads neither torch nor timm.

results/<study>/records/<cell id>.json    written last, atomically: a cell is finished when its record is there
results/<study>/failures/<cell id>.json   instead, of a cell whose loss is not finite
runs/<study>/<cell id>/progress.json      where a worker is (rewritten about once a second)
runs/<study>/<cell id>/failure.json       the error of a failed cell
runs/<study>/<cell id>/last.ckpt          the checkpoint of an interrupted cell
runs/<study>/weights/<cell id>.pt         of a cell whose final weights are kept
"""

import base64
import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from vitcnn.errors import Frozen
from vitcnn.files import open_file
from vitcnn.models.config import InputSpec
from vitcnn.store.paths import StudyPaths, write_atomically
from vitcnn.study.cell import Cell

SCHEMA = 2


class Score(Frozen):
    """Over `images` images: accuracy, its mean over classes, and expected calibration error, all in [0, 1]; mean
    negative log-likelihood in nats. None: not measured at the time."""

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


class Point(Frozen):
    """One point of a training curve. `train_loss` is the mean since the point before, label smoothing included."""

    images_seen: int
    train_loss: float
    val_accuracy: float
    val_nll: float


class Cost(Frozen):
    """`seconds` of training and its validations, without start-up and the final tests; `images_per_s` follows. For a
    cell trained in one of several `lanes`: its share of the time."""

    parameters: int
    macs: int  # of one forward image
    steps: int
    images_seen: int
    epochs: float
    seconds: float
    images_per_s: float | None
    resumed: int = 0  # how often the cell resumed from a checkpoint
    lanes: int = 1


class Record(Frozen):
    """A finished cell. Its id is the cell's; analysis reads this and nothing else."""

    schema_: Literal[2] = SCHEMA
    id: str
    cell: Cell
    test: TestScore
    validation: Score
    train: Score  # the training subset (its first 10,000 images), not augmented
    curve: tuple[Point, ...]
    cost: Cost
    input: InputSpec
    subset: str  # hash of the training images' indices
    weights: str | None = None  # hash of the final weights
    found: dict[str, Any] = Field(default={})  # what the cell itself chose on validation (linear: its C)
    data: dict[str, Any] = Field(default={})  # the data set: sums, origin, what the leak check found
    made_by: dict[str, Any] = Field(default={})  # versions, git revision, device, threads, date


def write_record(record: Record, paths: StudyPaths) -> Path:
    """Raises OSError if the disk is full; then no file is left."""
    path, text = paths.record(record.id), record.model_dump_json()
    write_atomically(path, f'{text[:-1]}{_SUM.decode()}{hashlib.sha256(text.encode()).hexdigest()}"}}\n')
    return path


_SUM = b',"sum":"'  # the last key of the file: SHA-256 of the rest; early records have none


def read_record(path: Path) -> Record:
    """Raises ValueError, naming the file, if it is not a record, is another cell's, or was changed."""
    with open_file(path) as file:
        content = file.read()
    before, mark, rest = content.rpartition(_SUM)
    if mark:
        content = before + b"}"
        if rest.rstrip() != hashlib.sha256(content).hexdigest().encode() + b'"}':
            raise ValueError(f"{path}: the file was changed (its checksum differs)")
    try:
        record = Record.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(f"{path}: not a valid record: {error.errors()[0]['msg']}") from None
    if record.id != path.stem:
        raise ValueError(f"{path}: is the record of cell {record.id}")
    if (own := record.cell.id) != record.id:  # edited, or written when a default was different
        raise ValueError(f"{path}: its fields belong to cell {own}")
    return record


def read_records(folder: Path) -> tuple[list[Record], list[str]]:
    """(records, error messages for the other files), by file name."""
    records, wrong = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            records.append(read_record(path))
        except (OSError, ValueError) as error:
            wrong.append(str(error))
    return records, wrong

"""The record of a finished cell, and the layout of a study's folders. Files only; loads neither torch nor timm.

results/<study>/records/<cell id>.json    written last, atomically: a cell is finished when its record is there
results/<study>/failures/<cell id>.json   instead, of a cell whose loss is not finite
runs/<study>/<cell id>/progress.json      where a worker is (rewritten about once a second)
runs/<study>/<cell id>/failure.json       the error of a failed cell
runs/<study>/<cell id>/last.ckpt          the checkpoint of an interrupted cell
runs/<study>/weights/<cell id>.pt         of a cell whose final weights are kept
"""

import base64
import contextlib
import hashlib
import zlib
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import ConfigDict, Field, ValidationError, model_validator
from typing_extensions import TypedDict

from vitcnn.errors import Frozen, Positive, Share
from vitcnn.models.config import InputSpec
from vitcnn.store.paths import StudyPaths, write_atomically
from vitcnn.study.cell import Cell
from vitcnn.system.files import open_file

SCHEMA = 2


class Score(Frozen):
    """Over `images` images: accuracy, its mean over classes, and expected calibration error, all in [0, 1]; mean
    negative log-likelihood in nats. None: not measured at the time."""

    accuracy: Share
    nll: float = Field(ge=0)
    images: Positive
    macro_accuracy: Share | None = None
    ece: Share | None = None


class TestScore(Score):
    """The test set, scored once. `bits`: one per image, right or wrong, packed and base64-encoded; `predicted`: the
    class that each image was given, in one byte (of more than 256 classes two), compressed and base64-encoded; None in
    early records."""

    bits: str
    predicted: str | None = None

    @model_validator(mode="after")
    def _accuracy_of_the_bits(self) -> Self:
        try:
            packed = base64.b64decode(self.bits, validate=True)
        except ValueError:
            raise ValueError("bits are not base64") from None
        if len(packed) != -(-self.images // 8):
            raise ValueError(f"bits of {self.images:,} images, but {len(packed):,} bytes")
        if abs(self.accuracy - self.correct().mean()) > 1e-6:
            raise ValueError(f"accuracy {self.accuracy:g}, but {self.correct().mean():g} by its bits")
        try:
            classes = self.classes()
        except (ValueError, zlib.error) as error:
            raise ValueError(f"predicted classes cannot be unpacked ({error})") from None
        if classes is not None and len(classes) != self.images:
            raise ValueError(f"predicted classes of {len(classes):,} images, not {self.images:,}")
        return self

    def correct(self) -> np.ndarray:
        """(images,) bool, official order."""
        return np.unpackbits(np.frombuffer(base64.b64decode(self.bits), np.uint8), count=self.images).astype(bool)

    def classes(self) -> np.ndarray | None:
        """(images,) int64, the predicted class of each image, official order; None if the record does not have it."""
        return None if self.predicted is None else unpack_classes(self.predicted)


def unpack_classes(packed: str) -> np.ndarray:
    """(images,) int64. Raises ValueError or zlib.error."""
    wide, values = base64.b64decode(packed, validate=True).split(b" ", 1)
    if wide not in (b"<u1", b"<u2"):
        raise ValueError(f"bytes of an unknown kind {wide[:9]}")
    return np.frombuffer(zlib.decompress(values), wide.decode()).astype(np.int64)


def pack_classes(predicted: np.ndarray, classes: int) -> str:
    """(images,) int -> text, as `unpack_classes` reads it."""
    wide = "<u1" if classes <= 2**8 else "<u2"
    return base64.b64encode(f"{wide} ".encode() + zlib.compress(predicted.astype(wide).tobytes(), 9)).decode()


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


class DataFacts(TypedDict, total=False):
    """Of a cell's data set: its origin and checksums, what the leak check found, images that were left out as
    unreadable, classes without a training image."""

    __pydantic_config__ = ConfigDict(extra="allow", allow_inf_nan=False)

    origin: str
    sha256: list[str]
    test_in_train: int
    other_label: int
    in_train: int
    looked_at: list[int]  # (training images, test images) compared, where that was not all
    left_out: int
    absent: list[str]


class Found(TypedDict, total=False):
    """What logistic regression chose on validation: C, among `trials`; `images`: fitted on, if not all."""

    C: float
    images: int
    trials: list[dict[str, float]]


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
    found: Found = Field(default={})
    data: DataFacts = Field(default={})
    made_by: dict[str, Any] = Field(default={})  # versions, git revision, device, threads, date


def write_record(record: Record, paths: StudyPaths) -> Path:
    """A valid record that is there already is kept. Raises OSError if the disk is full; then no file is left."""
    path, text = paths.record(record.id), record.model_dump_json()
    with contextlib.suppress(OSError, ValueError):
        read_record(path)
        return path
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
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}: not a valid record: {where and f'{where}: '}{first['msg']}") from None
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

"""What a cell's training curve is logged to: W&B or TensorBoard. Errors here never fail a cell, and no result is read
from a logger."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol

from vitcnn.store.records import Record
from vitcnn.study.cell import Cell

Tracking = Literal["auto", "online", "offline", "off", "tensorboard"]  # all but the last are modes of W&B


class Tracker(Protocol):
    """The logger of one cell."""

    def restore(self, curve: Iterable[tuple[dict[str, float], int]]) -> None:
        """Logs the metrics and steps of a checkpoint's curve, when a cell continues."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Logs one point of the curve."""

    def finish(self, record: Record) -> None:
        """Adds the result and ends."""

    def abandon(self) -> None:
        """Ends without a result; does nothing after `finish`."""


def summary(record: Record) -> dict[str, float | int | str]:
    """What a logger keeps of a finished cell, under names such as `test/acc`; what the record does not have is left
    out."""
    out: dict[str, Any] = {}
    for part, score in (("test", record.test), ("train", record.train), ("val_all", record.validation)):
        values = {"acc": score.accuracy, "macro_acc": score.macro_accuracy, "nll": score.nll, "ece": score.ece}
        out |= {f"{part}/{name}": value for name, value in values.items()}
    cost = record.cost
    out |= {"parameters": cost.parameters, "macs": cost.macs, "epochs": cost.epochs, "images_per_s": cost.images_per_s}
    out |= {"subset_hash": record.subset, "weights_hash": record.weights}
    return {name: value for name, value in out.items() if value is not None}


class Guarded:
    """Stops logging after a failure, with one warning."""

    service: str
    broken = False

    def attempt(self, do: Callable[[], Any]) -> None:
        if self.broken:
            return
        try:
            do()
        except Exception as error:
            self.broken = True
            warnings.warn(f"{self.service} stopped working: {in_a_line(error)}; the cell continues", stacklevel=2)


def without(cell: Cell, service: str, error: Exception) -> None:
    """Warns that a cell is trained without its logger."""
    warnings.warn(f"{cell.title} continues without {service}: {in_a_line(error)}", stacklevel=2)


def in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"

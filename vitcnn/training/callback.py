"""A Lightning callback that saves checkpoints and progress of a process's lanes."""

import signal
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer

from vitcnn.errors import seconds_of
from vitcnn.store.status import write_progress
from vitcnn.training.checkpoints import save_checkpoint
from vitcnn.training.module import CellsModule
from vitcnn.training.ranks import Rank

CHECKPOINT_EVERY = 30.0  # seconds ($VITCNN_CHECKPOINT_EVERY); the most work that kill -9 loses
PROGRESS_EVERY = 1.0


class InterruptedCell(Exception):
    """The cell has saved a checkpoint and stopped on request."""


def checkpoint_every() -> float:
    """Seconds between two checkpoints. Raises ConfigError."""
    return seconds_of("VITCNN_CHECKPOINT_EVERY", CHECKPOINT_EVERY)


class CheckpointCallback(Callback):
    """Saves every lane's `last.ckpt` in its folder, every half minute, and when `stop()` is true; then
    raises InterruptedCell.

    Of several ranks only the first writes, and all stop after the same step. Each lane's `seconds` are its share of the
    time of training. Nothing is saved at a point of the curve, so that a resumed run neither repeats nor skips one.
    """

    def __init__(self, folders: Sequence[Path], stop: Callable[[], bool], rank: Rank):
        self.folders, self.stop, self.rank = folders, stop, rank
        self.every = checkpoint_every()
        self._sigterm = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Trainer, module: CellsModule) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._sigterm)  # Lightning's handler may end a cell before it is saved
        self._saved = self._reported = self._began = self._counted = time.monotonic()
        self._from = module.position
        self._report(module)

    def on_train_batch_end(self, trainer: Trainer, module: CellsModule, *_: Any) -> None:
        now = time.monotonic()
        if now - self._reported > PROGRESS_EVERY:
            self._reported = now
            self._report(module)
        if module.position % module.val_every == 0 or module.position >= module.steps:
            return
        stop = self.rank.any(self.stop(), module.lanes[0].feed.device)
        if stop or now - self._saved > self.every:
            self._save(module)
            self._saved = now
        if stop:
            self._report(module, stopped=True)
            raise InterruptedCell

    def on_validation_start(self, trainer: Trainer, module: CellsModule) -> None:
        self._report(module, phase="validation")

    def on_validation_end(self, trainer: Trainer, module: CellsModule) -> None:
        self._report(module)

    def on_train_end(self, trainer: Trainer, module: CellsModule) -> None:
        self._count_seconds(module)
        self._report(module, phase="scoring")

    def _count_seconds(self, module: CellsModule) -> None:
        """Adds to each lane its share of the time since the last call, after waiting for the device."""
        module.wait()
        since, self._counted = self._counted, time.monotonic()
        for lane in module.lanes:
            lane.seconds += (self._counted - since) / len(module.lanes)

    def _save(self, module: CellsModule) -> None:
        """On a full disk training continues without the checkpoint."""
        if not self.rank.is_first:
            return
        self._report(module, phase="checkpoint")
        self._count_seconds(module)
        for lane, folder in zip(module.lanes, self.folders, strict=True):
            if lane.failed is not None:
                continue
            try:
                save_checkpoint(lane.checkpoint(), folder / "last.ckpt")
            except OSError as error:
                warnings.warn(
                    f"{folder}: cannot save a checkpoint: {error.strerror or error}; training continues", stacklevel=2
                )
        self._report(module)

    def _report(self, module: CellsModule, **more: Any) -> None:
        if not self.rank.is_first:
            return
        seen = (module.position - self._from) * module.lanes[0].recipe.batch_size * len(self.folders)
        speed = seen / max(1e-9, time.monotonic() - self._began)
        what = {"step": module.position, "steps": module.steps, "images_per_s": speed, "phase": "step", **more}
        for folder, lane in zip(self.folders, module.lanes, strict=True):
            write_progress(folder, accuracy=lane.curve[-1].val_accuracy if lane.curve else None, **what)

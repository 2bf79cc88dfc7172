"""A Lightning callback that keeps an interrupted cell's work and tells the world where it is."""

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer

from vitcnn.status import write_progress
from vitcnn.training.cohort import CohortModule
from vitcnn.training.module import CellModule

CHECKPOINT_EVERY = 30.0  # seconds; what a kill -9 can cost ($VITCNN_CHECKPOINT_EVERY)
PROGRESS_EVERY = 1.0


class InterruptedCell(Exception):
    """The cell was asked to stop and has saved a checkpoint."""


class Keeper(Callback):
    """Saves `last.ckpt`, atomically, every half minute and when `stop()` says so; then raises InterruptedCell.

    `folders`: of the cells that are trained here, one or a cohort's; `seconds` are each one's share of the time.
    Nothing is saved at a step that a validation follows, so that a resumed run repeats and skips none.
    """

    def __init__(self, folders: Sequence[Path], val_every: int, stop: Callable[[], bool]):
        self.folders, self.val_every, self.stop = folders, val_every, stop
        self.checkpoints = [folder / "last.ckpt" for folder in folders]
        self.every = float(os.environ.get("VITCNN_CHECKPOINT_EVERY", CHECKPOINT_EVERY))
        self.seconds, self.resumed = 0.0, 0  # of training, over all sittings
        self._saved = self._told = self._began = time.monotonic()
        self._from = 0
        self._sigterm = signal.getsignal(signal.SIGTERM)

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds + self._sitting() / len(self.folders), "resumed": self.resumed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seconds, self.resumed = state["seconds"], state["resumed"] + 1

    def on_train_start(self, trainer: Trainer, module: CellModule | CohortModule) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._sigterm)  # Lightning's own may end a cell before it is saved
        self._saved = self._told = self._began = time.monotonic()
        self._from = trainer.global_step
        self._tell(trainer, module)

    def on_train_batch_end(self, trainer: Trainer, module: CellModule | CohortModule, *_: Any) -> None:
        step, now = trainer.global_step, time.monotonic()
        if now - self._told > PROGRESS_EVERY:
            self._told = now
            self._tell(trainer, module)
        if step % self.val_every == 0 or step >= module.steps:
            return
        stop = self.stop()
        if stop or now - self._saved > self.every:
            self._save(trainer, module)
            self._saved = now
        if stop:
            self._tell(trainer, module, stopped=True)
            raise InterruptedCell

    def on_validation_start(self, trainer: Trainer, module: CellModule | CohortModule) -> None:
        self._tell(trainer, module, phase="validation")

    def on_validation_end(self, trainer: Trainer, module: CellModule | CohortModule) -> None:
        self._tell(trainer, module)

    def on_train_end(self, trainer: Trainer, module: CellModule | CohortModule) -> None:
        self.seconds += self._sitting() / len(self.folders)
        self._tell(trainer, module, phase="scoring")

    def _sitting(self) -> float:
        return time.monotonic() - self._began

    def _save(self, trainer: Trainer, module: CellModule | CohortModule) -> None:
        """A disk that is full costs the checkpoint and not the cell."""
        self._tell(trainer, module, phase="checkpoint")
        try:
            trainer.save_checkpoint(self.checkpoints[0])
        except OSError as error:
            where = self.checkpoints[0].parent
            warnings.warn(f"{where}: no checkpoint: {error.strerror or error}; training goes on", stacklevel=2)
        self._tell(trainer, module)

    def _tell(self, trainer: Trainer, module: CellModule | CohortModule, **more: Any) -> None:
        step = trainer.global_step
        seen = (step - self._from) * module.recipe.batch_size * len(self.folders)
        what = {"step": step, "steps": module.steps, "images_per_s": seen / max(1e-9, self._sitting())}
        what |= {"phase": "step", **more}
        for folder, curve in zip(self.folders, module.curves, strict=True):
            write_progress(folder, accuracy=curve[-1].val_accuracy if curve else None, **what)

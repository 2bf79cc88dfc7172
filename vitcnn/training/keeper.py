"""A Lightning callback that keeps an interrupted cell's work and tells the world where it is."""

import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer

from vitcnn.records import write_progress
from vitcnn.training.cohort import CohortModule
from vitcnn.training.module import CellModule

CHECKPOINT_EVERY = 30.0  # seconds; what a kill -9 can cost
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
        if stop or now - self._saved > CHECKPOINT_EVERY:
            self._save(trainer)
            self._saved = now
        if stop:
            self._tell(trainer, module, stopped=True)
            raise InterruptedCell

    def on_train_end(self, *_: Any) -> None:
        self.seconds += self._sitting() / len(self.folders)

    def _sitting(self) -> float:
        return time.monotonic() - self._began

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.checkpoints[0].with_suffix(".new"))  # of a cohort, one beside each checkpoint
        for checkpoint in self.checkpoints:
            checkpoint.with_suffix(".new").replace(checkpoint)

    def _tell(self, trainer: Trainer, module: CellModule | CohortModule, **more: Any) -> None:
        step = trainer.global_step
        seen = (step - self._from) * module.recipe.batch_size * len(self.folders)
        what = {"step": step, "steps": module.steps, "images_per_s": seen / max(1e-9, self._sitting())}
        for folder, curve in zip(self.folders, module.curves, strict=True):
            write_progress(folder, accuracy=curve[-1].val_accuracy if curve else None, **what, **more)

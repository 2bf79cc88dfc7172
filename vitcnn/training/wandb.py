"""Logs a cell to W&B. Nothing is read back, and errors here never fail a cell."""

import os
import warnings
from collections.abc import Callable
from typing import Any, Literal

from lightning.pytorch.loggers import WandbLogger

from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import Record
from vitcnn.study.cell import Cell

Tracking = Literal["auto", "online", "offline", "off"]
PROJECT = "vitcnn"
os.environ.setdefault("WANDB_SILENT", "true")  # no banner for each cell

_unreachable = False


def tracker(cell: Cell, paths: StudyPaths, mode: Tracking) -> "Tracker | None":
    """A logger for one cell; None if off, or with a warning if W&B cannot start.

    If W&B's server cannot be reached, this run and later ones of this process are kept offline.
    """
    global _unreachable
    if mode == "off" or os.environ.get("WANDB_MODE") == "disabled":
        return None
    if not _unreachable:
        try:
            if _online(mode):
                return Tracker(cell, paths, offline=False)
        except Exception as error:
            _unreachable = True
            warnings.warn(f"W&B is kept offline: {type(error).__name__}: {error}", stacklevel=2)
    try:
        return Tracker(cell, paths, offline=True)
    except Exception as error:
        warnings.warn(f"{cell.title} continues without W&B: {type(error).__name__}: {error}", stacklevel=2)
        return None


def _online(mode: Tracking) -> bool:
    """`auto`: WANDB_MODE, else online when logged in. Never prompts."""
    import wandb

    if mode == "auto" and (variable := os.environ.get("WANDB_MODE")):
        return variable == "online"
    return mode == "online" or (mode == "auto" and wandb.login(prompt=False, verify=False))


class Tracker(WandbLogger):
    """Lightning's WandbLogger, started at once; after a failure it warns once and stops logging."""

    def __init__(self, cell: Cell, paths: StudyPaths, offline: bool):
        import wandb

        paths.run.mkdir(parents=True, exist_ok=True)
        self.broken = self.ended = False
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=cell.id,
            name=cell.title,
            group=cell.study,
            job_type=cell.role,
            tags=[tag[:64] for tag in (cell.dataset, cell.model, f"n{cell.n}")],  # W&B's limit
            config=cell.model_dump(mode="json"),
            dir=paths.run,
            mode="offline" if offline else "online",
            resume="allow",
            reinit="create_new",  # beside those of other lanes
            settings=wandb.Settings(
                silent=True, console="off", init_timeout=30, x_save_requirements=False
            ),  # the list of all packages: 0.1 s a cell
        )
        super().__init__(experiment=run, save_dir=paths.run, offline=offline)
        self.experiment.define_metric("images_seen")
        self.experiment.define_metric("*", step_metric="images_seen")

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._try(lambda: super(Tracker, self).log_metrics(metrics, step))

    def finalize(self, status: str) -> None:
        """Lightning calls this at the end of fit; the run stays open until the test is scored."""

    def finish(self, record: Record) -> None:
        """Adds the test result as a last value and ends the run."""

        def last() -> None:
            self.experiment.log({"images_seen": record.cost.images_seen, "test/acc": record.test.accuracy})
            self.experiment.summary.update({"test/acc": record.test.accuracy, "train/acc": record.train.accuracy})

        self._try(last)
        self._end(0)

    def abandon(self) -> None:
        self._end(1)

    def _end(self, exit_code: int) -> None:
        """Ends the run, also after a failure: an open run would never be uploaded."""
        if self.ended:
            return
        self.broken, self.ended = False, True
        self._try(lambda: self.experiment.finish(exit_code=exit_code))

    def _try(self, do: Callable[[], Any]) -> None:
        if self.broken:
            return
        try:
            do()
        except Exception as error:
            self.broken = True
            warnings.warn(f"W&B stopped working: {type(error).__name__}: {error}; the cell continues", stacklevel=2)

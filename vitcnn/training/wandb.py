"""Logs cells to W&B."""

import warnings
from collections.abc import Iterable, Sequence

from lightning.pytorch.loggers import WandbLogger

from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import Record
from vitcnn.study.cell import Cell
from vitcnn.system.wandb import is_disabled, is_online, start_run
from vitcnn.training.tracker import Guarded, Tracking, in_a_line, summary, without

_unreachable = False


def trackers(cells: Sequence[Cell], paths: StudyPaths, mode: Tracking) -> "list[WandbTracker | None]":
    """A logger for each cell; None if W&B is off or disabled, or with a warning if it cannot start.

    If W&B's server cannot be reached, these runs and later ones of this process are kept offline.
    """
    try:
        if is_disabled(mode):
            return [None] * len(cells)
        return _online_ones(cells, paths, mode) or [_offline_one(cell, paths) for cell in cells]
    except Exception as error:
        return [without(cell, "W&B", error) for cell in cells]


def _online_ones(cells: Sequence[Cell], paths: StudyPaths, mode: Tracking) -> "list[WandbTracker | None] | None":
    """None if they are to be kept offline."""
    global _unreachable
    if _unreachable:
        return None
    import wandb

    try:
        return [WandbTracker(cell, paths, offline=False) for cell in cells] if is_online(mode) else None
    except Exception as error:
        _unreachable = True
        warnings.warn(f"W&B is kept offline: {in_a_line(error)}", stacklevel=2)
        if wandb.run is None:  # else a user's own run would end
            wandb.teardown()  # W&B's service holds the id of a run that failed to start
        return None


def _offline_one(cell: Cell, paths: StudyPaths) -> "WandbTracker | None":
    try:
        return WandbTracker(cell, paths, offline=True)
    except Exception as error:
        return without(cell, "W&B", error)


class WandbTracker(Guarded, WandbLogger):
    """Lightning's WandbLogger, started at once.

    Offline a run cannot be resumed, so a new one gets the curve of the cell's checkpoint (`restore`).
    """

    service = "W&B"

    def __init__(self, cell: Cell, paths: StudyPaths, offline: bool):
        self.ended = False
        run = start_run(
            paths.run,
            cell.id,
            offline,
            name=cell.title,
            group=cell.study,
            job_type=cell.role,
            tags=[tag[:64] for tag in (cell.dataset, cell.model, f"n{cell.n}")],  # W&B's limit
            config=cell.model_dump(mode="json"),
        )
        super().__init__(experiment=run, save_dir=paths.run, offline=offline)
        self.experiment.define_metric("images_seen")
        self.experiment.define_metric("*", step_metric="images_seen")
        self.experiment.define_metric("val/acc", step_metric="images_seen", summary="max,last")

    def restore(self, curve: Iterable[tuple[dict[str, float], int]]) -> None:
        """Leaves out what an online run that goes on has."""
        known = self.experiment.summary.get("images_seen", 0) if self.experiment.resumed else 0
        for metrics, step in curve:
            if metrics["images_seen"] > known:
                self.log_metrics(metrics, step)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.attempt(lambda: super(WandbTracker, self).log_metrics(metrics, step))

    def finalize(self, status: str) -> None:
        """Lightning calls this at the end of fit; the run stays open until the test is scored."""

    def finish(self, record: Record) -> None:
        def last() -> None:
            self.experiment.log({"images_seen": record.cost.images_seen, "test/acc": record.test.accuracy})
            self.experiment.summary.update(summary(record))

        self.attempt(last)
        self._end(0)

    def abandon(self) -> None:
        self._end(1)

    def _end(self, exit_code: int) -> None:
        """Ends the run, also after a failure: an open run would never be uploaded."""
        if self.ended:
            return
        self.broken, self.ended = False, True
        self.attempt(lambda: self.experiment.finish(exit_code=exit_code))

"""Logs cells for TensorBoard: `tensorboard --logdir runs/<study>/tensorboard`."""

import shutil
from collections.abc import Iterable, Sequence

from lightning.pytorch.loggers import TensorBoardLogger

from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import Record
from vitcnn.study.cell import Cell
from vitcnn.training.tracker import Guarded, summary, without

NAMES = str.maketrans({"/": "-"})  # in names of models, which become folders


def trackers(cells: Sequence[Cell], paths: StudyPaths) -> "list[TensorBoardTracker | None]":
    """A logger for each cell; None, with a warning, if it cannot start."""
    return [_tracker(cell, paths) for cell in cells]


def _tracker(cell: Cell, paths: StudyPaths) -> "TensorBoardTracker | None":
    try:
        return TensorBoardTracker(cell, paths)
    except Exception as error:
        return without(cell, "TensorBoard", error)


class TensorBoardTracker(Guarded, TensorBoardLogger):
    """Lightning's TensorBoardLogger; the step of every value is images seen. A cell that continues from a checkpoint
    logs its earlier curve again (`restore`), and its files replace those of earlier starts."""

    service = "TensorBoard"

    def __init__(self, cell: Cell, paths: StudyPaths):
        super().__init__(paths.run, "tensorboard", f"{cell.title.translate(NAMES)} {cell.id}", default_hp_metric=False)
        shutil.rmtree(self.log_dir, ignore_errors=True)
        self.cell, self.ended = cell, False
        self.experiment.flush()  # creates the file: a folder that cannot be written to is known now

    def restore(self, curve: Iterable[tuple[dict[str, float], int]]) -> None:
        for metrics, step in curve:
            self.log_metrics(metrics, step)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        values = dict(metrics)
        seen = values.pop("images_seen", step)  # a result has no point of the curve; its step is images seen
        self.attempt(lambda: super(TensorBoardTracker, self).log_metrics(values, seen))

    def finish(self, record: Record) -> None:
        result = summary(record)
        numbers = {name: value for name, value in result.items() if not isinstance(value, str)}
        settings = self.cell.model_dump(mode="json") | {k: v for k, v in result.items() if isinstance(v, str)}
        self.attempt(lambda: self.log_hyperparams(settings, numbers, step=record.cost.images_seen))
        self.abandon()

    def abandon(self) -> None:
        if not self.ended:
            self.broken, self.ended = False, True
            self.attempt(lambda: self.finalize("success"))

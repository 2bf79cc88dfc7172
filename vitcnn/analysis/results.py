"""A study's records put in order: accuracy of each model at each place of an axis, and what is missing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from vitcnn.analysis.axis import Axis, N
from vitcnn.analysis.stats import Mean, mean, paired
from vitcnn.data.permutation import Permutation
from vitcnn.data.sources.cache import Info
from vitcnn.store.records import Record
from vitcnn.study.budget import Budget
from vitcnn.study.cell import Cell
from vitcnn.study.schema import Study

Measure = Callable[[Record], float | None]  # None: the record does not have it


def test_accuracy(record: Record) -> float:
    return record.test.accuracy


def train_accuracy(record: Record) -> float:
    return record.train.accuracy


def overfitting(record: Record) -> float:
    """Train minus test accuracy."""
    return record.train.accuracy - record.test.accuracy


def macro_accuracy(record: Record) -> float | None:
    """On the test set: the mean over classes of the accuracy on each."""
    return record.test.macro_accuracy


def calibration_error(record: Record) -> float | None:
    return record.test.ece


def loss(record: Record) -> float:
    """Negative log-likelihood on the test set, in nats."""
    return record.test.nll


@dataclass(frozen=True)
class Results:
    """The cells that a study asks for and the records that are there; records of other cells are left out.

    Records are found by model and place: their n, or along the axis of images seen their budget's images. Where a study
    has several budgets, take `at_largest_budget`, `budgets()` or `along_budget(n)` first.
    """

    study: Study
    cells: Sequence[Cell]
    records: dict[str, Record]  # by cell id
    about: Info | None = None  # the data set, where the caller knows it
    other_records: int = field(default=0, compare=False)  # of other cells: another recipe, size or seed
    axis: Axis = N

    @classmethod
    def of(cls, study: Study, cells: Sequence[Cell], records: Sequence[Record], about: Info | None = None) -> "Results":
        wanted = {cell.id: cell for cell in cells}  # with the study's names, which may have changed since the training
        mine = {r.id: r.model_copy(update={"cell": wanted[r.id]}) for r in records if r.id in wanted}
        return cls(study, cells, mine, about, len({r.id for r in records}) - len(mine))

    def settings(self) -> list["Results"]:
        """One for each setting of `permutation`; models that none of them touches are in all."""
        return [
            replace(self, cells=[c for c in self.cells if c.permutation in (s, None)]) for s in self.study.permutation
        ]

    @property
    def first_setting(self) -> "Results":
        """What tables and verdict are about."""
        return self.settings()[0] if len(self.study.permutation) > 1 else self

    def budgets(self) -> list["Results"]:
        """One for each budget, the smallest first; the linear baseline is in all."""
        if len(self.study.budget) == 1:
            return [self]
        return [replace(self, cells=[c for c in self.cells if c.budget in (b, None)]) for b in self.study.budget]

    @property
    def at_largest_budget(self) -> "Results":
        return self.budgets()[-1]

    def along_budget(self, n: int) -> "Results":
        """The cells of one n, along the axis of images seen."""
        cells = [c for c in self.cells if c.n == n and c.role == "main"]
        return replace(self, cells=cells, axis=Axis("images seen", n))

    @property
    def setting(self) -> Permutation | None:
        return next((cell.permutation for cell in self.cells if cell.permutation), None)

    @property
    def data(self) -> str:
        """The data set as figures call it."""
        return self.study.dataset_spec.title

    @property
    def title(self) -> str:
        """The data set and the setting of its permutation."""
        return f"{self.data}, {self.setting}" if self.setting else self.data

    @property
    def missing(self) -> list[Cell]:
        return [cell for cell, cell_id in self._ids if cell_id not in self.records]

    @cached_property
    def _ids(self) -> list[tuple[Cell, str]]:
        return [(cell, cell.id) for cell in self.cells]  # a hash each: once

    @cached_property
    def _place_of(self) -> dict[Budget | None, int]:
        """Along images seen: the place of each budget, the most that a model sees (batches may differ)."""
        return {b: max((c.images_seen for c in self.cells if c.budget == b), default=0) for b in self.study.budget}

    @property
    def places(self) -> tuple[int, ...]:
        """Of the axis, in order."""
        if self.axis.kind == "n":
            return self.study.sizes
        return tuple(sorted(place for place in self._place_of.values() if place))

    @cached_property
    def _by_place(self) -> dict[tuple[str, int, str], dict[int, Record]]:
        out: dict[tuple[str, int, str], dict[int, Record]] = {}
        for cell, cell_id in self._ids:
            if cell_id not in self.records:
                continue
            if self.axis.kind == "n":
                places: tuple[int, ...] = (cell.n,)
            else:  # the baseline, which has no budget, is at every place
                places = (self._place_of[cell.budget],) if cell.budget else self.places
            for place in places:
                out.setdefault((cell.model, place, cell.role), {})[cell.seed] = self.records[cell_id]
        return out

    def at(self, model: str, place: int, role: str = "main") -> dict[int, Record]:
        """Records by seed; empty where none is finished."""
        return self._by_place.get((model, place, role), {})

    def values(self, model: str, place: int, measure: Measure = test_accuracy, role: str = "main") -> dict[int, float]:
        """By seed; records that do not have the measure are left out."""
        measured = {seed: measure(record) for seed, record in self.at(model, place, role).items()}
        return {seed: value for seed, value in measured.items() if value is not None}

    def mean(self, model: str, place: int, measure: Measure = test_accuracy, role: str = "main") -> Mean | None:
        """None where no seed is finished."""
        values = self.values(model, place, measure, role)
        return mean(list(values.values())) if values else None

    def gaps(self, place: int, measure: Measure = test_accuracy, role: str = "main") -> dict[int, float]:
        """The pair's first minus second, by seed."""
        first, second = self.study.pair
        return paired(self.values(first, place, measure, role), self.values(second, place, measure, role))

    def difference(self, first: str, second: str, place: int) -> Mean | None:
        """First minus second in test accuracy, paired by seed; None where no seed is finished of both."""
        gaps = paired(self.values(first, place), self.values(second, place))
        return mean(list(gaps.values())) if gaps else None

    @property
    def models(self) -> list[str]:
        """In the study's order."""
        return [model.name for model in self.study.models]

    @property
    def baseline(self) -> str | None:
        """The linear model's name."""
        return next((e.name for e in self.study.models if e.is_linear), None)

"""A study's records put in order: who reached what at which n, what is missing, and what has to be said first."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from vitcnn.analysis.stats import Mean, mean, paired
from vitcnn.cell import Cell
from vitcnn.config import Shuffle, Study
from vitcnn.data.cache import Info
from vitcnn.records import Record

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
    """The cells that a study asks for and the records that are there; records of other cells are left out."""

    study: Study
    cells: Sequence[Cell]
    records: dict[str, Record]  # by cell id
    about: Info | None = None  # the data set, where the caller knows it
    strangers: int = field(default=0, compare=False)  # records of other cells: another recipe, size or seed

    @classmethod
    def of(cls, study: Study, cells: Sequence[Cell], records: Sequence[Record], about: Info | None = None) -> "Results":
        wanted = {cell.id for cell in cells}
        mine = {r.id: r for r in records if r.id in wanted}
        return cls(study, cells, mine, about, len({r.id for r in records}) - len(mine))

    def settings(self) -> list["Results"]:
        """One for each setting of `shuffle`; entrants that none of them touches are in all."""
        return [replace(self, cells=[c for c in self.cells if c.shuffle in (s, None)]) for s in self.study.shuffle]

    @property
    def first_setting(self) -> "Results":
        """What tables and verdict are about."""
        return self.settings()[0] if len(self.study.shuffle) > 1 else self

    @property
    def setting(self) -> Shuffle | None:
        return next((cell.shuffle for cell in self.cells if cell.shuffle), None)

    @property
    def title(self) -> str:
        """The data set as figures call it, and what was done to it."""
        name = self.about.title if self.about else self.study.dataset
        return f"{name}, {self.setting}" if self.setting else name

    @property
    def missing(self) -> list[Cell]:
        return [cell for cell, cell_id in self._ids if cell_id not in self.records]

    @cached_property
    def _ids(self) -> list[tuple[Cell, str]]:
        return [(cell, cell.id) for cell in self.cells]  # a hash each: once

    @cached_property
    def _by_place(self) -> dict[tuple[str, int, str], dict[int, Record]]:
        out: dict[tuple[str, int, str], dict[int, Record]] = {}
        for cell, cell_id in self._ids:
            if cell_id in self.records:
                out.setdefault((cell.entrant, cell.n, cell.role), {})[cell.seed] = self.records[cell_id]
        return out

    def at(self, entrant: str, n: int, role: str = "main") -> dict[int, Record]:
        """Records by seed; empty where none is finished."""
        return self._by_place.get((entrant, n, role), {})

    def values(self, entrant: str, n: int, measure: Measure = test_accuracy, role: str = "main") -> dict[int, float]:
        """By seed; records that do not have the measure are left out."""
        measured = {seed: measure(record) for seed, record in self.at(entrant, n, role).items()}
        return {seed: value for seed, value in measured.items() if value is not None}

    def mean(self, entrant: str, n: int, measure: Measure = test_accuracy, role: str = "main") -> Mean | None:
        """None where no seed is finished."""
        values = self.values(entrant, n, measure, role)
        return mean(list(values.values())) if values else None

    def gaps(self, n: int, measure: Measure = test_accuracy, role: str = "main") -> dict[int, float]:
        """The pair's first minus second, by seed."""
        first, second = self.study.pair
        return paired(self.values(first, n, measure, role), self.values(second, n, measure, role))

    @property
    def entrants(self) -> list[str]:
        """In the study's order."""
        return [entrant.name for entrant in self.study.entrants]

    @property
    def floor(self) -> str | None:
        """The linear entrant's name."""
        return next((e.name for e in self.study.entrants if e.model.model == "linear"), None)


def whole_pool(results: Results) -> str:
    """A sentence where the largest n is all there is to train on; else empty."""
    study = results.study
    if not results.about or len(study.seeds) < 2 or study.sizes[-1] < results.about.train - results.cells[0].validation:
        return ""
    return (
        f"At n = {study.sizes[-1]:,} every seed trains on the same images, all there are: the spread there is that of "
        "initialisation and order alone."
    )


def leak(results: Results) -> str:
    """What the leak check found, as a sentence; empty where no record knows."""
    known = [r.data for r in results.records.values() if "test_in_train" in r.data]
    if not known:
        return ""
    worst = max(known, key=lambda data: data["test_in_train"])
    if "looked_at" in worst:
        trained, tested = (max(data["looked_at"][k] for data in known) for k in (0, 1))
        test, train = f"of the first {tested:,} test images", f"of the first {trained:,} training images of a cell"
        before = worst.get("of", {}).get("test_in_train")
        said = (
            f"**Before they are deformed, {before:,} test images are exact copies of training images.** "
            if before
            else ""
        )
        if not worst["test_in_train"]:
            return f"{said}On a sample: none {test} is an exact copy of one {train}."
        return f"{said}**On a sample: {worst['test_in_train']:,} {test} are exact copies {train}.**"
    if not worst["test_in_train"]:
        return "No test image is an exact copy of a training image."
    images = next(iter(results.records.values())).test.images
    return (
        f"**{worst['test_in_train']:,} of the {images:,} test images are exact copies of images in the training pool** "
        f"({worst['other_label']:,} of them under another class): test accuracy is not that on new images."
    )


def _against_floor(results: Results) -> list[tuple[str, int, Mean, Mean]]:
    """(entrant, its largest n that the floor has too, its mean, the floor's), where there is such an n."""
    floor, out = results.floor, []
    for entrant in results.entrants if floor else ():
        finished = [n for n in results.study.sizes if results.at(entrant, n) and results.at(floor, n)]
        if entrant != floor and finished:
            n = finished[-1]
            out.append((entrant, n, results.mean(entrant, n), results.mean(floor, n)))
    return out


def above_floor(results: Results) -> bool:
    """Is every entrant known to be above the linear floor?"""
    held = _against_floor(results)
    beyond = any(results.at(entrant, m) for entrant, n, _, _ in held for m in results.study.sizes if m > n)
    return len(held) == len(results.entrants) - 1 > 0 and not beyond and not below_floor(results)


def below_floor(results: Results, among: Collection[str] | None = None) -> list[str]:
    """A sentence for each entrant (of `among`) that loses to the linear floor at its largest finished n."""
    out = []
    for entrant, n, own, line in _against_floor(results):
        if own.mean <= line.mean and (among is None or entrant in among):
            out.append(
                f"{entrant} is not above the linear floor at n = {n:,}: {own.mean:.1%} against {line.mean:.1%} "
                f"({own.count} and {line.count} seeds); nothing can be concluded about it."
            )
    return out


@dataclass(frozen=True)
class BudgetShift:
    """What more training did to the gap at one n, over the seeds that were trained for both budgets."""

    n: int
    factor: float
    seeds: int
    gap: float
    longer: float
    half_interval: float | None  # of the gap over all seeds; None below two seeds
    chance: float | None  # the 95 % interval's half, of the difference of two gaps of so many seeds with this spread

    @property
    def limited(self) -> bool | None:
        """Did the gap move by more than half its interval (its half-width)? None where that cannot be said."""
        return None if self.half_interval is None else abs(self.longer - self.gap) > self.half_interval

    @property
    def judged(self) -> str:
        """The end of a sentence on it."""
        if self.limited is None:
            return "no interval to hold it against (one seed)"
        if not self.limited:
            return "within half its interval"
        small = abs(self.longer - self.gap) <= self.chance
        by_chance = f", though no more than chance moves it from seed to seed ({100 * self.chance:.1f} points)"
        return f"more than half its interval{by_chance if small else ''}"


def budget_shifts(results: Results) -> list[BudgetShift]:
    """For the smallest and the largest n, where the longer cells are finished."""
    check, out = results.study.budget_check, []
    for n in sorted({results.study.sizes[0], results.study.sizes[-1]}) if check else ():
        longer, gaps = results.gaps(n, role="budget-check"), results.gaps(n)
        both = sorted(longer.keys() & gaps.keys())
        if not both:
            continue
        spread = mean(list(gaps.values()))
        half = spread.half if spread.count > 1 else None
        out.append(
            BudgetShift(
                n=n,
                factor=check.factor,
                seeds=len(both),
                gap=sum(gaps[s] for s in both) / len(both),
                longer=sum(longer[s] for s in both) / len(both),
                half_interval=half,
                chance=half * math.sqrt(2 * spread.count / len(both)) if half is not None else None,
            )
        )
    return out

"""Where one learning curve meets another, by inverting a test: every n at which "no difference" is not rejected.

Between measured sizes accuracies are joined by straight lines over log n; nothing is read beyond them. Each stretch
between two sizes is judged by the seeds that have both, so that a cell that is missing elsewhere costs it nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import brentq

from vitcnn.analysis.evidence import Evidence, Number
from vitcnn.analysis.twoway import Sample, critical

STEPS = 60  # of the search between two measured sizes; what it brackets is solved


@dataclass(frozen=True)
class Crossing:
    """Where two curves meet on the axis of n (or of multiples of n). An end of the interval that the axis cuts off is
    None: open."""

    turns: tuple[float, ...]  # every place where the one that is ahead changes, in order
    ahead: bool  # at the smallest n the first curve is
    low: float | None
    high: float | None
    excluded: bool  # "no difference" is rejected at every point of the axis

    @property
    def passes(self) -> tuple[float, ...]:
        """The turns at which the second overtakes the first."""
        return self.turns[not self.ahead :: 2]

    @property
    def above(self) -> bool:
        """At the largest n the first curve is (still, or again) ahead."""
        return self.ahead == (len(self.turns) % 2 == 0)

    @property
    def clear(self) -> bool:
        """At the smallest n "no difference" is rejected."""
        return self.excluded or self.low is not None

    def times(self, factor: float) -> "Crossing":
        """On an axis so many times as long."""
        low, high = (None if v is None else v * factor for v in (self.low, self.high))
        return Crossing(tuple(v * factor for v in self.turns), self.ahead, low, high, self.excluded)


@dataclass(frozen=True)
class Stretch:
    """The axis between two measured sizes: along it a number goes from the sample's first (of `sizes[0]`) to its second
    (of `sizes[1]`), straight over log n."""

    sample: Sample
    sizes: tuple[int, int]

    def at(self, share: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        """The number at shares (P,) of the way, and by how much each is further from 0 than half its interval; below 0
        where nothing varies, since there nothing is rejected."""
        values, errors, images = self.sample.along(np.stack([1 - share, share], 1))
        beyond = np.abs(values) - critical(level, self.sample.seeds, images) * errors
        return values, np.where(errors > 0, beyond, -1.0)

    def n(self, share: float) -> float:
        return float(self.sizes[0] ** (1 - share) * self.sizes[1] ** share)


def invert(stretches: Sequence[Stretch], level: float = 0.95) -> Crossing:
    """Where the number passes 0 along stretches that follow each other. A place is a number: its whole part counts the
    points of the search, `STEPS` + 1 a stretch, the rest is the way to the next point."""
    shares, width = np.linspace(0, 1, STEPS + 1), STEPS + 1
    values, beyond = (np.concatenate(both) for both in zip(*(s.at(shares, level) for s in stretches), strict=True))
    k = np.flatnonzero((values[:-1] > 0) != (values[1:] > 0))
    turns = k + values[k] / (values[k] - values[k + 1])
    kept = np.union1d(np.flatnonzero(beyond <= 0), turns)  # at a turn it is 0, however fine the test

    def where(place: float) -> tuple[Stretch, float]:
        number = min(int(place) // width, len(stretches) - 1)
        return stretches[number], min(1.0, (place - number * width) / STEPS)

    def n(place: float) -> float:
        stretch, share = where(place)
        return stretch.n(share)

    def end(inside: float, outside: int) -> float:
        """Between a place that is kept and the next point of the search, which is not."""
        if inside // width != outside // width:  # the seeds differ from one stretch to the next
            return n(inside)

        def short(place: float) -> float:
            stretch, share = where(place)
            return -1.0 if place == inside else float(stretch.at(np.array([share]), level)[1][0])

        return n(brentq(short, inside, outside))

    low = end(kept[0], int(np.ceil(kept[0])) - 1) if len(kept) and kept[0] > 0 else None
    last = len(values) - 1
    high = end(kept[-1], int(np.floor(kept[-1])) + 1) if len(kept) and kept[-1] < last else None
    return Crossing(tuple(n(place) for place in turns), bool(values[0] > 0), low, high, not len(kept))


@dataclass(frozen=True)
class Lines:
    """Both entrants' accuracies at the sizes, joined by straight lines over log n."""

    evidence: Evidence
    first: str
    second: str
    sizes: tuple[int, ...]

    def crossing(self) -> Crossing:
        """The n at which the second overtakes the first. Raises NotEnough where a stretch has no two seeds."""
        return self._along([[(1.0, Number(self.first, n)), (-1.0, Number(self.second, n))] for n in self.sizes])

    def multiplier(self, n: int) -> Crossing:
        """How many times n images the second needs for the accuracy that the first has with n. Raises NotEnough."""
        behind = [[(1.0, Number(self.first, n)), (-1.0, Number(self.second, m))] for m in self.sizes]
        return self._along(behind).times(1 / n)

    def _along(self, numbers: Sequence[list[tuple[float, Number]]]) -> Crossing:
        """`numbers`: one a size, as sums."""
        pairs = [slice(k, k + 2) for k in range(len(numbers) - 1)]
        seeds = {frozenset(self.evidence.seeds(x.entrant, x.n)) for number in numbers for _, x in number}
        if len(seeds) == 1:  # nothing is missing: all at once
            whole = self.evidence.sample(numbers)
            samples = [whole.part(k) for k in pairs]
        else:
            samples = [self.evidence.sample(numbers[k]) for k in pairs]
        return invert([Stretch(*both) for both in zip(samples, pairwise(self.sizes), strict=True)])

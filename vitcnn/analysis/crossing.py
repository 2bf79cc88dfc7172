"""Where two curves cross, by inverting a test: every place at which "no difference" is not rejected.

A place is n, or images seen. Between measured places accuracies are joined by straight lines over its logarithm;
nothing is extrapolated. Each stretch between two places uses the seeds that have both, so a cell missing elsewhere
does not matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import brentq

from vitcnn.analysis.evidence import Evidence, Number
from vitcnn.analysis.random_effects import Sample, critical

TIE = 1e-9  # of accuracy: smaller differences are rounding
STEPS = 60  # of the search between two measured places; what it brackets is solved


@dataclass(frozen=True)
class Crossing:
    """Where two curves cross on an axis (or on multiples of a place). An end of the interval beyond the measured places
    is None: open."""

    turns: tuple[float, ...]  # every place where the lead changes, in order
    ahead: bool  # the first curve leads at the smallest place at which they differ
    low: float | None
    high: float | None
    excluded: bool  # "no difference" is rejected at every point of the axis

    @property
    def passes(self) -> tuple[float, ...]:
        """The turns at which the second overtakes the first."""
        return self.turns[not self.ahead :: 2]

    @property
    def above(self) -> bool:
        """The first curve leads at the largest place at which they differ."""
        return self.ahead == (len(self.turns) % 2 == 0)

    @property
    def clear(self) -> bool:
        """At the smallest place "no difference" is rejected."""
        return self.excluded or self.low is not None

    def times(self, factor: float) -> "Crossing":
        """On an axis so many times as long."""
        low, high = (None if v is None else v * factor for v in (self.low, self.high))
        return Crossing(tuple(v * factor for v in self.turns), self.ahead, low, high, self.excluded)


@dataclass(frozen=True)
class Stretch:
    """The axis between two measured places: a number goes from the sample's first (at `ends[0]`) to its second (at
    `ends[1]`), straight over the place's logarithm."""

    sample: Sample
    ends: tuple[int, int]

    def at(self, share: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        """The number at shares (P,) of the way, and by how much each is further from 0 than half its interval; below 0
        where nothing varies, since there nothing is rejected."""
        values, errors, images = self.sample.along(np.stack([1 - share, share], 1))
        beyond = np.abs(values) - critical(level, self.sample.seeds, images, self.sample.images) * errors
        return values, np.where(errors > 0, beyond, -1.0)

    def place(self, share: float) -> float:
        return float(self.ends[0] ** (1 - share) * self.ends[1] ** share)


def invert(stretches: Sequence[Stretch], level: float = 0.95) -> Crossing:
    """Where the number passes 0 along stretches that follow each other. Inside, a position k + share lies that share of
    the way along the k-th stretch."""
    shares = np.linspace(0, 1, STEPS + 1)
    positions = np.concatenate([k + shares for k in range(len(stretches))])
    values, beyond = (np.concatenate(both) for both in zip(*(s.at(shares, level) for s in stretches), strict=True))
    values = np.where(np.abs(values) < TIE, 0, values)
    apart = np.flatnonzero(values)
    ahead = bool(len(apart)) and bool(values[apart[0]] > 0)
    t = np.flatnonzero(np.diff(np.sign(values[apart])))
    a, b = apart[t], apart[t + 1]  # between them it is 0, if there is anything
    straight = positions[a] + (positions[b] - positions[a]) * values[a] / (values[a] - values[b])
    turns = np.where(b > a + 1, positions[a + 1], straight)
    if len(apart) and apart[-1] + 1 < len(values):  # the last of it: reached at the largest place
        turns = np.append(turns, positions[apart[-1] + 1])
    kept = np.union1d(positions[beyond <= 0], turns)  # at a turn it is 0, however fine the test

    def place(position: float) -> float:
        k = min(int(position), len(stretches) - 1)
        return stretches[k].place(position - k)

    def end(inside: float, outside: float) -> float:
        """Between a position that is kept and the next of the search, which is not."""
        k = int((inside + outside) / 2)

        def short(position: float) -> float:
            return -1.0 if position == inside else float(stretches[k].at(np.array([position - k]), level)[1][0])

        return place(brentq(short, inside, outside))

    low = end(kept[0], positions[positions < kept[0]][-1]) if len(kept) and kept[0] > 0 else None
    high = end(kept[-1], positions[positions > kept[-1]][0]) if len(kept) and kept[-1] < len(stretches) else None
    return Crossing(tuple(place(position) for position in turns), ahead, low, high, not len(kept))


def along(evidence: Evidence, places: Sequence[int], numbers: Sequence[list[tuple[float, Number]]]) -> Crossing:
    """Where a number passes 0 that is known at every place, as a sum. Raises NotEnough where a stretch has no two
    seeds."""
    pairs = [slice(k, k + 2) for k in range(len(numbers) - 1)]
    seeds = {frozenset(evidence.seeds(x.model, x.place)) for number in numbers for _, x in number}
    if len(seeds) == 1:  # nothing is missing: all at once
        whole = evidence.sample(numbers)
        samples = [whole.part(k) for k in pairs]
    else:
        samples = [evidence.sample(numbers[k]) for k in pairs]
    return invert([Stretch(*both) for both in zip(samples, pairwise(places), strict=True)])

"""Where one learning curve meets another, by inverting a test: every n at which "no difference" is not rejected.

Between measured sizes accuracies are joined by straight lines over log n; nothing is read beyond them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vitcnn.analysis.evidence import Evidence, Number
from vitcnn.analysis.twoway import Sample, critical

STEPS = 60  # grid points between two measured sizes


@dataclass(frozen=True)
class Crossing:
    """Where two curves meet on the axis of n (or of multiples of n). `value` is None where they do not; an end of the
    interval that the axis cuts off is None: open."""

    value: float | None
    low: float | None
    high: float | None
    excluded: bool  # "no difference" is rejected at every point of the axis
    above: bool  # at the largest n the first curve is still ahead


def interpolation(sizes: Sequence[int], n: np.ndarray) -> np.ndarray:
    """(len(n), K) weights of the K measured sizes for the straight lines over log n."""
    x, at = np.log(np.asarray(sizes, float)), np.log(n)
    k = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    share, rows = (at - x[k]) / (x[k + 1] - x[k]), np.arange(len(at))
    out = np.zeros((len(at), len(x)))
    out[rows, k], out[rows, k + 1] = 1 - share, share
    return out


def invert(sample: Sample, axis: np.ndarray, weights: np.ndarray, level: float = 0.95) -> Crossing:
    """Where Σ weights · numbers passes from above 0 to below along the axis; `weights`: (points, numbers)."""
    values, errors, shares = sample.along(np.asarray(weights))
    kept = np.abs(values) <= critical(level, sample.seeds, shares) * errors
    kept |= errors == 0  # where nothing varies nothing is rejected
    turns = np.flatnonzero((values[:-1] > 0) != (values[1:] > 0))
    kept[turns] = kept[turns + 1] = True  # it is 0 in between, however fine the test
    down = np.flatnonzero((values[:-1] > 0) & (values[1:] <= 0))
    value = None
    if len(down):
        k = down[-1]
        share = values[k] / (values[k] - values[k + 1])
        value = float(np.exp(np.log(axis[k]) + share * (np.log(axis[k + 1]) - np.log(axis[k]))))
    inside = np.flatnonzero(kept)
    low = float(axis[inside[0]]) if len(inside) and inside[0] > 0 else None
    high = float(axis[inside[-1]]) if len(inside) and inside[-1] < len(axis) - 1 else None
    return Crossing(value, low, high, not len(inside), bool(values[-1] > 0))


def grid(sizes: Sequence[int]) -> np.ndarray:
    """Points of the axis: the measured sizes and `STEPS` between each two, evenly over log n."""
    parts = [np.geomspace(a, b, STEPS, endpoint=False) for a, b in pairwise(sizes)]
    return np.concatenate([*parts, [float(sizes[-1])]])


@dataclass(frozen=True)
class Lines:
    """Both entrants' accuracies at all sizes, of the seeds that have them all, joined by straight lines over log n."""

    sample: Sample
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, evidence: Evidence, first: str, second: str, sizes: Sequence[int]) -> "Lines":
        """Raises NotEnough."""
        return cls(evidence.sample([[(1.0, Number(e, n))] for e in (first, second) for n in sizes]), tuple(sizes))

    def crossing(self) -> Crossing:
        """The n at which the second overtakes the first."""
        axis = grid(self.sizes)
        lines = interpolation(self.sizes, axis)
        return invert(self.sample, axis, np.hstack([lines, -lines]))

    def multiplier(self, n: int) -> Crossing:
        """How many times n images the second needs for the accuracy that the first has with n."""
        axis = grid(self.sizes)
        lines, there = (interpolation(self.sizes, m) for m in (axis, np.full_like(axis, n)))
        place = invert(self.sample, axis, np.hstack([there, -lines]))
        scaled = (None if v is None else v / n for v in (place.value, place.low, place.high))
        return Crossing(*scaled, place.excluded, place.above)

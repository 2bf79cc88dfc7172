"""Means and intervals. Arrays in, numbers out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit


@dataclass(frozen=True)
class Mean:
    """A mean with its Student-t interval at `level`; the ends are nan below two values. `count`: values behind it."""

    mean: float
    low: float
    high: float
    count: int
    level: float = 0.95

    @property
    def half(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2


def mean(values: Sequence[float], level: float = 0.95) -> Mean:
    """Raises ValueError on no values and on values that are not finite."""
    x = np.asarray(values, dtype=float)
    if not len(x) or not np.isfinite(x).all():
        raise ValueError(f"no mean of {values!r}")
    if len(x) == 1:
        return Mean(float(x[0]), np.nan, np.nan, 1, level)
    half = stdtrit(len(x) - 1, (1 + level) / 2) * deviation(x) / np.sqrt(len(x))
    return Mean(float(x.mean()), float(x.mean() - half), float(x.mean() + half), len(x), level)


def deviation(values: Sequence[float]) -> float:
    """The sample's standard deviation; nan below two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> dict[int, float]:
    """First minus second for every seed that both have."""
    return {seed: first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())}

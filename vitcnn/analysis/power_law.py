"""Learning curves as power laws: error = a · n^(−b) + c (Hestness et al. 2017; Rosenfeld et al. 2020).

A law is a description of the sizes that were measured. Where it is asked about others, the answer is flagged, carries
the spread of laws fitted to means that are drawn again within their errors, and stops at ten times the largest size
(Viering & Loog 2022 show how often such extrapolation fails).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, least_squares

from vitcnn.analysis.results import Results

FEWEST = 5  # sizes
FAR = 10  # times the largest size
OFF = 3.0  # standard errors from which a size counts as off the law
RESAMPLES = 200
PRIOR = 4  # degrees of freedom with which all sizes' spread stands beside each one's own


@dataclass(frozen=True)
class Law:
    """`off`: the sizes whose mean error lies `OFF` standard errors or more from the law; `worst`: the largest distance,
    in error; `r2`: share of the variance of log error explained, nan where it does not vary."""

    a: float
    b: float
    c: float
    worst: float
    r2: float
    off: tuple[int, ...]

    def error(self, n: float | np.ndarray) -> float | np.ndarray:
        return self.a * np.asarray(n, float) ** -self.b + self.c


def fit(sizes: Sequence[int], errors: np.ndarray, se: np.ndarray, near: Law | None = None) -> Law:
    """Weighted least squares, a > 0, b ≥ 0, c ≥ 0; `near`: where to begin. Raises ValueError below `FEWEST` sizes."""
    _enough(sizes)
    n, se = np.asarray(sizes, float), np.maximum(se, 1e-4)  # an error's spread below 0.01 points is luck
    x = np.log(n / n[0])
    if near:
        starts = [(np.log(near.a * n[0] ** -near.b), near.b, near.c)]
    else:
        starts = []
        for c in (0.0, 0.5 * errors.min(), 0.9 * errors.min()):  # the surface has more than one valley
            slope = -np.polyfit(x, np.log(np.maximum(errors - c, 1e-6)), 1)[0]
            starts.append((np.log(max(errors[0] - c, 1e-6)), slope, c))
    low, high = [-30, 0, 0], [5, 10, 1]

    def miss(p: np.ndarray) -> np.ndarray:
        return (np.exp(p[0] - p[1] * x) + p[2] - errors) / se

    def slopes(p: np.ndarray) -> np.ndarray:
        power = np.exp(p[0] - p[1] * x)
        return np.stack([power, -x * power, np.ones_like(x)], 1) / se[:, None]

    tries = [least_squares(miss, np.clip(start, low, high), slopes, bounds=(low, high)) for start in starts]
    best = min(tries, key=lambda found: found.cost)
    log_a, b, c = best.x
    logs, fitted = np.log(np.maximum(errors, 1e-6)), np.exp(log_a - b * x) + c
    total = np.sum((logs - logs.mean()) ** 2)
    r2 = 1 - np.sum((np.log(fitted) - logs) ** 2) / total if total > 1e-9 else np.nan
    off = tuple(int(size) for size, d in zip(sizes, np.abs(best.fun), strict=True) if d >= OFF)
    return Law(
        float(np.exp(log_a) * n[0] ** b), float(b), float(c), float(np.abs(fitted - errors).max()), float(r2), off
    )


def _enough(sizes: Sequence[int]) -> None:
    if len(sizes) < FEWEST:
        raise ValueError(f"{len(sizes)} of the {FEWEST} sizes that a fit needs")


@dataclass(frozen=True)
class Curves:
    """The laws of two models, and the n beyond the largest size at which the second would overtake.

    `crossing`: None where the laws do not cross up to `FAR` times the largest size; `range`: of 95 % of the curves that
    are drawn again, None for an end beyond that; `share`: of those that cross at all.
    """

    first: Law
    second: Law
    crossing: float | None
    range: tuple[float | None, float | None]
    share: float


def curves(results: Results, first: str, second: str, seed: int = 0) -> Curves:
    """From the seeds that both have at every size. Raises ValueError below two of these, or below `FEWEST` sizes."""
    sizes = results.study.sizes
    _enough(sizes)
    errors = {e: [results.values(e, n) for n in sizes] for e in (first, second)}
    common = sorted(set.intersection(*(set(values) for e in errors for values in errors[e])))
    if len(common) < 2:
        raise ValueError(f"{len(common)} of the 2 seeds with every size of both that a fit needs")
    table = {e: 1 - np.array([[values[s] for values in errors[e]] for s in common]) for e in errors}  # (S, K)
    means, spread = {e: t.mean(0) for e, t in table.items()}, {e: _spread(t) for e, t in table.items()}
    laws = {e: fit(sizes, means[e], spread[e]) for e in table}
    rng, freedom, found = np.random.default_rng(seed), PRIOR + len(common) - 1, []
    for _ in range(RESAMPLES):
        drawn = {e: means[e] + spread[e] * rng.standard_t(freedom, len(sizes)) for e in table}
        pair = [fit(sizes, drawn[e], spread[e], near=laws[e]) for e in table]
        behind = pair[0].error(sizes[-1]) <= pair[1].error(sizes[-1])
        found.append(beyond(*pair, sizes[-1]) if behind else float(sizes[-1]))  # it has crossed by then
    crossed = [c for c in found if c is not None]
    ends = np.quantile([np.inf if c is None else c for c in found], [0.025, 0.975], method="nearest")
    low, high = (None if np.isinf(end) else float(end) for end in ends)
    return Curves(
        laws[first], laws[second], beyond(laws[first], laws[second], sizes[-1]), (low, high), len(crossed) / len(found)
    )


def _spread(table: np.ndarray) -> np.ndarray:
    """(S, K) -> (K,) standard errors of the mean; each size's variance moderated by that of all (Smyth 2004): what two
    or three seeds show of it is mostly luck."""
    own, freedom = table.var(0, ddof=1), len(table) - 1
    return np.sqrt((PRIOR * own.mean() + freedom * own) / (PRIOR + freedom) / len(table))


def beyond(first: Law, second: Law, largest: int) -> float | None:
    """The first n past `largest` at which the second law's error falls below the first's; None by `FAR` times it."""

    def lead(x: float | np.ndarray) -> float | np.ndarray:
        return second.error(np.exp(x)) - first.error(np.exp(x))

    xs = np.linspace(np.log(largest), np.log(FAR * largest), 200)
    values = lead(xs)
    if values[0] <= 0 or (values > 0).all():
        return None
    k = int(np.argmax(values <= 0))
    return float(np.exp(brentq(lead, xs[k - 1], xs[k])))

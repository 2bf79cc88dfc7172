"""Which gap the seeds of a study can be expected to find, from the spread that its finished cells show."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import nctdtr

from vitcnn.analysis.claims import tests
from vitcnn.analysis.evidence import Evidence
from vitcnn.analysis.pair import Pair
from vitcnn.analysis.random_effects import Sample, critical
from vitcnn.analysis.reasons import NotEnough
from vitcnn.analysis.results import Results
from vitcnn.analysis.verdict import ALPHA


def detectable(spread: float, count: int, images: float = 0.0, level: float = 0.95, power: float = 0.8) -> float:
    """The smallest mean difference that the verdict's test over `count` seeds finds with probability `power`, its sign
    right.

    `spread`: the differences' deviation over seeds; `images`: the standard error that the test images add; `level`: of
    a two-sided test. Solved on the noncentral t distribution (Cohen 1988, chapter 2), with the degrees of freedom that
    a sum of a variance with `count` − 1 and a known one has (Satterthwaite 1946). nan below two seeds.
    """
    if count < 2 or np.isnan(spread):
        return np.nan
    error = np.hypot(spread / np.sqrt(count), images)
    if not error:
        return 0.0
    share = (images / error) ** 2
    freedom, needed = (count - 1) / max(1 - share, 1e-3) ** 2, critical(level, count, share)
    shift = brentq(lambda shift: 1 - nctdtr(freedom, shift, needed) - power, 0, 5 * needed)
    return float(shift * error)


@dataclass(frozen=True)
class DetectableGap:
    """In points, at one n: `alone` for a single test, `strict` for one of `tests` at Holm's first step. `seeds`:
    finished ones, whose spread it is from."""

    n: int
    alone: float
    strict: float
    tests: int
    seeds: int


def detectable_gaps(results: Results) -> list[DetectableGap]:
    """At every n with two finished seeds of the pair, for as many seeds as the study has; empty where there is none."""
    results, count = results.at_largest_budget, tests(len(results.study.budget))
    out = []
    for n, sample in _measured(results).items():
        spread, images = (100 * np.sqrt(max(0.0, cov[0, 0])) for cov in (sample.seed_cov, sample.image_cov))
        one, strict = (
            detectable(spread, len(results.study.seeds), images, 1 - alpha) for alpha in (ALPHA, ALPHA / count)
        )
        out.append(DetectableGap(n, one, strict, count, sample.seeds))
    return out


def _measured(results: Results) -> dict[int, Sample]:
    """The gap at every size that two seeds of both have finished."""
    pair, out = Pair(Evidence(results), *results.study.pair, results.study.sizes), {}
    for n in results.study.sizes:
        try:
            out[n] = pair.evidence.sample([pair.gap(n)])
        except NotEnough:
            continue
    return out

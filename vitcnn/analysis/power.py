"""Which gap the seeds of a study can be expected to find, from the spread that its finished cells show."""

import numpy as np
from scipy.optimize import brentq
from scipy.special import nctdtr

from vitcnn.analysis.claims import TESTS
from vitcnn.analysis.evidence import Evidence, NotEnough
from vitcnn.analysis.pair import Pair
from vitcnn.analysis.random_effects import Sample, critical
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


def detectable_gaps(results: Results) -> str:
    """One sentence for `vitcnn plan`: the gap that one test finds, and in brackets the one that is found whatever the
    verdict's other tests say (Holm's first step). Says what is missing where no spread has been measured."""
    first, second = results.study.pair
    asked = len(results.study.seeds)
    if asked < 2:
        return "One seed: no gap can be told from chance; give two seeds or more."
    measured = _measured(results)
    if not measured:
        return (
            f"Which gap {asked} seeds can find is not known yet: it takes two finished seeds of {first} and {second} "
            "at one size."
        )
    parts = []
    for n, sample in measured.items():
        spread, images = (100 * np.sqrt(max(0.0, cov[0, 0])) for cov in (sample.seed_cov, sample.image_cov))
        one, strict = (detectable(spread, asked, images, 1 - alpha) for alpha in (ALPHA, ALPHA / TESTS))
        parts.append(f"{one:.1f} ({strict:.1f}) at n = {n:,}")
    seeds = sorted({sample.seeds for sample in measured.values()})
    return (
        f"{asked} seeds find a gap {first} − {second} four times in five (5 %, for new seeds and new test images; in "
        f"brackets: as one of the verdict's {TESTS} tests, at worst) if it has, in points, "
        f"{', '.join(parts)} or more; by the spread of the {' or '.join(map(str, seeds))} seeds finished so far."
    )


def _measured(results: Results) -> dict[int, Sample]:
    """The gap at every size that two seeds of both have finished."""
    pair, out = Pair(Evidence(results), *results.study.pair, results.study.sizes, None), {}
    for n in results.study.sizes:
        try:
            out[n] = pair.evidence.sample([pair.gap(n)])
        except NotEnough:
            continue
    return out

"""The study's hypothesis, as claims that records can support, contradict or leave undecided.

Each is declared here, before any result: which numbers, at which places, in which direction. `first` has the strong
inductive bias (the CNN), `second` the weak one (the ViT); any two models can take their places. The sentences are in
`report.claims`.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from vitcnn.analysis.crossing_claims import crossing, data_multiplier
from vitcnn.analysis.evidence import Number
from vitcnn.analysis.pair import Claim, Pair, minus, weaker
from vitcnn.analysis.random_effects import Estimate
from vitcnn.analysis.reasons import NotEnough, NoWindowedModel
from vitcnn.analysis.results import train_accuracy

NEAR = 0.5  # doublings between two places below which a change is not scaled to a doubling
FITTED = 0.999  # train accuracy from which on a model fits its training images perfectly


@dataclass(frozen=True)
class Change:
    """Of the gap from place `before` on to the largest, in points; `per_doubling`: scaled to a doubling."""

    before: int
    points: Estimate
    per_doubling: bool


@dataclass(frozen=True)
class Extremum:
    """A place between the ends whose gap (in points) is larger, or smaller, than at both."""

    place: int
    gap: float
    larger: bool


@dataclass(frozen=True)
class GapChange:
    """The gap at both ends, in points; `last`: from the last but one place on."""

    at_small: float
    at_large: float
    last: Change | None
    inside: Extremum | None


@dataclass(frozen=True)
class ErrorRatios:
    """How many times the errors of the first the second makes, at both ends."""

    at_small: float
    at_large: float


@dataclass(frozen=True)
class Saturation:
    """By how much the error of each changes over the last step (a share; below 0 it falls)."""

    first: float
    second: float


@dataclass(frozen=True)
class Overfitting:
    """Train minus test accuracy in points; `fitted`: both fit their training images perfectly."""

    first: Estimate
    second: Estimate
    fitted: bool


@dataclass(frozen=True)
class Between:
    """How far the model is below the first and above the second, in points."""

    model: str
    below: Estimate
    above: Estimate


def cnn_wins_small(p: Pair) -> Claim:
    place = p.places[0]
    return p.claim("cnn-wins-small", effect=p.estimate(p.gap(place), 100), places=(place,))


def gap_closes(p: Pair, key: str = "gap-closes") -> Claim:
    small, large = p.ends
    both = p.evidence.sample([[(100 * w, x) for w, x in p.gap(place)] for place in (small, large)])
    found = GapChange(*map(float, both.mean), _last_change(p), _inside(p))
    return p.claim(key, effect=both.estimate([1, -1]), places=(small, large), found=found)


def _last_change(p: Pair) -> Change | None:
    """None where there are only two places, or no two seeds have both of the last ones."""
    if len(p.places) == 2:
        return None
    before, large = p.places[-2:]
    factor, per_doubling = pace(before, large)
    try:
        return Change(before, p.estimate(p.gap(large) + minus(p.gap(before)), 100 * factor), per_doubling)
    except NotEnough:
        return None


def _inside(p: Pair) -> Extremum | None:
    """The most extreme gap inside that differs from those at both ends beyond chance."""
    found: dict[float, Extremum] = {}
    for place in p.places[1:-1]:
        try:
            here = p.evidence.sample([[(100 * w, x) for w, x in p.gap(m)] for m in (place, *p.ends)])
        except NotEnough:
            continue
        over = [here.estimate(weights) for weights in ([1, -1, 0], [1, 0, -1])]
        if all(e.low > 0 for e in over) or all(e.high < 0 for e in over):
            found[min(abs(e.value) for e in over)] = Extremum(place, float(here.mean[0]), over[0].value > 0)
    return found[max(found)] if found else None


def pace(a: int, b: int) -> tuple[float, bool]:
    """What a change from place a to place b is multiplied with, and whether that makes it a doubling's; places too near
    to tell a doubling are left as they are."""
    doublings = math.log2(b / a)
    return (1 / doublings, True) if doublings >= NEAR else (1.0, False)


def gap_closes_log_error(p: Pair) -> Claim:
    small, large = p.ends
    both = p.evidence.sample([p.gap(place, "log error") for place in (small, large)])
    ratios = ErrorRatios(*map(float, np.exp(both.mean)))
    effect = both.estimate([1, -1])
    return p.claim("gap-closes-log-error", effect=effect, unit="log error", places=(small, large), found=ratios)


def cnn_saturates(p: Pair) -> Claim:
    large, before = p.ends[1], p.places[-2]
    factor, per_doubling = pace(before, large)
    effect = p.estimate(minus(p.gap(large, "log error")) + p.gap(before, "log error"), factor)
    changes = []
    for name in (p.first, p.second):
        slope = [(1.0, Number(name, large, "log error")), (-1.0, Number(name, before, "log error"))]
        changes.append(math.exp(p.estimate(slope, factor).value) - 1)
    unit = "log error per doubling" if per_doubling else "log error"
    return p.claim("cnn-saturates", effect=effect, unit=unit, places=(before, large), found=Saturation(*changes))


def vit_overfits_small(p: Pair) -> Claim:
    place = p.places[0]
    over = {name: [(1.0, Number(name, place, "overfitting"))] for name in (p.first, p.second)}
    effect = p.estimate(over[p.second] + minus(over[p.first]), 100)
    each = (p.estimate(over[name], 100) for name in (p.first, p.second))
    fitted = all(p.evidence.results.mean(name, place, train_accuracy).mean > FITTED for name in over)
    return p.claim("vit-overfits-small", effect=effect, places=(place,), found=Overfitting(*each, fitted))


def swin_in_between(p: Pair) -> Claim:
    place = p.places[0]
    if p.between is None:
        raise NotEnough(NoWindowedModel())
    below = p.estimate([(1.0, Number(p.first, place)), (-1.0, Number(p.between, place))], 100)
    above = p.estimate([(1.0, Number(p.between, place)), (-1.0, Number(p.second, place))], 100)
    found = Between(p.between, below, above)
    return p.claim("swin-in-between", effect=weaker(below, above), places=(place,), found=found)


CLAIMS: dict[str, Callable[[Pair], Claim]] = {
    "cnn-wins-small": cnn_wins_small,
    "gap-closes": gap_closes,
    "gap-closes-log-error": gap_closes_log_error,
    "crossing": crossing,
    "cnn-saturates": cnn_saturates,
    "vit-overfits-small": vit_overfits_small,
    "data-multiplier": data_multiplier,
    "swin-in-between": swin_in_between,
}
BUDGET_CLAIMS: dict[str, Callable[[Pair, str], Claim]] = {  # of studies with several budgets: along images seen
    "gap-closes-budget": gap_closes,
    "crossing-budget": crossing,
}


def tests(budgets: int) -> int:
    """How many tests a study with so many budgets has at most: data-multiplier's is that of cnn-wins-small."""
    return len(CLAIMS) - 1 + (len(BUDGET_CLAIMS) if budgets > 1 else 0)


def same_test(claims: Iterable[Claim]) -> dict[str, str]:
    """The claims whose test is another's; it is counted once in Holm's correction."""
    by_key = {claim.key: claim for claim in claims}
    same = {"data-multiplier": "cnn-wins-small"}
    if by_key["cnn-saturates"].effect and by_key["cnn-saturates"].places == by_key["gap-closes-log-error"].places:
        same["cnn-saturates"] = "gap-closes-log-error"  # of two sizes the last step is the whole way
    return same

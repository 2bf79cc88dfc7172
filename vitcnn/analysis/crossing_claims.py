"""The claims about where two curves cross: the crossing, and how many times the images one model needs."""

from dataclasses import dataclass

from vitcnn.analysis.crossing import TIE, Crossing
from vitcnn.analysis.pair import Claim, Pair, minus, weaker
from vitcnn.analysis.random_effects import Estimate
from vitcnn.analysis.reasons import NotEnough, Reason, SeedsDisagree


@dataclass(frozen=True)
class Meeting:
    """`at_small`, `at_large`: by how much the first leads at the smallest place, and the second at the largest, in
    points. `place`: where they cross; None where that cannot be had, for the reason `why`."""

    at_small: Estimate
    at_large: Estimate
    place: Crossing | None
    why: Reason | None = None


@dataclass(frozen=True)
class Multiple:
    """How many times n images the second needs for what the first reaches with n. `least`, `most`: the smallest and the
    largest multiple of n that was measured."""

    n: int
    least: float
    most: float
    place: Crossing | None
    why: Reason | None = None


def crossing(p: Pair, key: str = "crossing") -> Claim:
    """Supported where the first leads at the smallest place and the second at the largest; contradicted where either
    lead is the other way. The effect is the weaker of the two."""
    small, large = p.ends
    at_small, at_large = p.estimate(p.gap(small), 100), p.estimate(minus(p.gap(large)), 100)
    found = _meeting(p, at_small, at_large)
    return p.claim(key, effect=weaker(at_small, at_large), places=p.places, found=found)


def _meeting(p: Pair, at_small: Estimate, at_large: Estimate) -> Meeting:
    try:
        place = p.crossing()
        _same_seeds(place.ahead, at_small.value)
        _same_seeds(place.above, -at_large.value)
    except NotEnough as short:
        return Meeting(at_small, at_large, None, short.reason)
    return Meeting(at_small, at_large, place)


def tied(e: Estimate) -> bool:
    """Is a difference in points only rounding?"""
    return abs(e.value) < 100 * TIE


def _same_seeds(leads: bool, lead: float) -> None:
    """Raises NotEnough where the seeds that neighbouring places share have another sign than those of one place."""
    if abs(lead) > 1e-9 and leads != (lead > 0):
        raise NotEnough(SeedsDisagree())


def data_multiplier(p: Pair) -> Claim:
    """The test of cnn-wins-small, read along n instead of along accuracy."""
    n, _ = p.ends
    e = p.estimate(p.gap(n), 100)
    found = tuple(multiple(p, size, e.value if size == n else 0.0) for size in p.places[:-1])
    return p.claim("data-multiplier", effect=e, places=p.places, found=found)


def multiple(p: Pair, n: int, lead: float = 0.0) -> Multiple:
    """`lead`: the first's at n by all seeds of that size, to be compared with its sign by the seeds used here."""
    least, most = p.places[0] / n, p.places[-1] / n
    try:
        place = p.multiplier(n)
        _same_seeds(place.ahead, lead)
    except NotEnough as short:
        return Multiple(n, least, most, None, short.reason)
    return Multiple(n, least, most, place)

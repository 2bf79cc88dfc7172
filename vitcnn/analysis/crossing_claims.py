"""The claims about where two learning curves meet: the crossing, and how many times the images one needs."""

import math

from vitcnn.analysis.crossing import TIE
from vitcnn.analysis.evidence import NotEnough
from vitcnn.analysis.format import interval, points, times, unmet
from vitcnn.analysis.pair import Claim, Pair, minus, two_sizes, weaker
from vitcnn.analysis.random_effects import Estimate


def overtakes(p: Pair) -> Claim:
    """Supported where the first leads at the smallest n and the second at the largest; contradicted where either lead
    is the other way. The effect is the weaker of the two."""
    small, large = two_sizes(p)
    at_small, at_large = p.estimate(p.gap(small), 100), p.estimate(minus(p.gap(large)), 100)
    says = f"{p.first} leads at n = {small:,}, and {p.second} has overtaken it at n = {large:,}."
    found = _met(p, at_small, at_large)
    return Claim("crossing", says, effect=weaker(at_small, at_large), sizes=p.sizes, found=found)


def _met(p: Pair, at_small: Estimate, at_large: Estimate) -> str:
    """Where the two meet. `at_small`: by how much the first leads at the smallest n; `at_large`: the second at the
    largest."""
    (small, large), last = p.ends, points(at_large, absolute=True)
    try:
        place = p.crossing()
        _same_seeds(place.ahead, at_small.value)
        _same_seeds(place.above, -at_large.value)
    except NotEnough as reason:
        return f"{_ends(p, at_small, at_large)}; where they meet cannot be said: {reason}."
    if level(at_small) or level(at_large):
        turned = [f"n ≈ {n:,.0f}" for n in place.turns if n < large * (1 - TIE)]
        return f"{_ends(p, at_small, at_large)}{'; the lead changes at ' if turned else ''}{', '.join(turned)}."
    if place.passes:
        vague = ", on average," if place.low is None and place.high is None else ""
        before = f"leads at n = {small:,}, falls behind, and " if at_small.value < 0 else ""
        again = " for the last time" if len(place.passes) > 1 else ""
        every = ", all places where they may meet" if len(place.turns) > 1 else ""
        back = f"; at n = {large:,} {p.first} leads again, by {last}" if at_large.value < 0 else ""
        where = f"n ≈ {place.passes[-1]:,.0f} ({interval(place)}{every})"
        return f"{p.second} {before}overtakes {p.first}{again}{vague} at {where}{back}."
    if at_small.value < 0 and at_large.value < 0:
        return f"{p.second} leads at n = {small:,}, {p.first} at n = {large:,}, by {last}."
    if at_large.value < 0 and place.excluded:
        return f"Not reached: up to n = {large:,} {p.first} leads, there by {last}."
    if at_large.value < 0:
        return f"{p.first} leads up to n = {large:,}, there by {last}; {unmet(place)}."
    if at_small.value < 0:
        return f"{p.second} leads from n = {small:,} on, there by {points(at_small, absolute=True)}."
    return f"At n = {small:,} {p.first} leads by {points(at_small)}, at n = {large:,} {p.second} by {last}."


def level(e: Estimate) -> bool:
    """Is a difference in points none but of rounding?"""
    return abs(e.value) < 100 * TIE


def _ends(p: Pair, at_small: Estimate, at_large: Estimate) -> str:
    """Who leads at the smallest and at the largest n, and by how much; by each end's own seeds."""
    ends = ((p.ends[0], at_small, at_small.value), (p.ends[1], at_large, -at_large.value))
    told = [
        f"neither leads at n = {n:,}"
        if level(e)
        else f"{p.first if lead > 0 else p.second} leads at n = {n:,} by {points(e, absolute=True)}"
        for n, e, lead in ends
    ]
    return ", ".join(told)


def _same_seeds(leads: bool, lead: float) -> None:
    """Raises NotEnough where the seeds that neighbouring sizes share say another thing than those of one size."""
    if abs(lead) > 1e-9 and leads != (lead > 0):
        raise NotEnough("the seeds that neighbouring sizes have in common say otherwise than all of one size")


def data_multiplier(p: Pair) -> Claim:
    """The test of cnn-wins-small, read along n instead of along accuracy."""
    two_sizes(p)
    n = p.sizes[0]
    e = p.estimate(p.gap(n), 100)
    return Claim(
        "data-multiplier",
        f"{p.second} needs more data than {p.first} for the accuracy that {p.first} has with n = {n:,}.",
        effect=e,
        sizes=p.sizes,
        found=" ".join(describe_multiplier(p, size, e.value if size == n else 0.0) for size in p.sizes[:-1]),
    )


def describe_multiplier(p: Pair, n: int, lead: float = 0.0) -> str:
    """`lead`: the first's at n by all seeds of that size, where it is to be held against."""
    try:
        place = p.multiplier(n)
        _same_seeds(place.ahead, lead)
    except NotEnough as reason:
        what = f"How many times the images {p.second} needs for what {p.first} reaches with n = {n:,}"
        return f"{what} cannot be said: {reason}."
    start, found = f"For what {p.first} reaches with n = {n:,}, {p.second} needs", interval(place, "times")
    if not place.ahead:
        least = times(p.sizes[0] / n, math.ceil)
        again = "; with more it falls behind again" if place.turns else ""
        return f"{start} no more than {least} times the images{'' if place.clear else f' ({found})'}{again}."
    if place.passes:
        again = "; with more it falls behind again" if len(place.turns) > 1 else ""
        return f"{start} {times(place.passes[0])} times the images ({found}){again}."
    most = times(p.sizes[-1] / n, math.floor)
    if place.excluded:
        return f"{start} more than {most} times the images (as many were measured: not enough)."
    return f"{start}, on average, more than {most} times the images ({unmet(place, 'times')})."

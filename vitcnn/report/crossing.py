"""The claim about the crossing in words."""

from vitcnn.analysis.axis import Axis
from vitcnn.analysis.crossing import TIE, Crossing
from vitcnn.analysis.crossing_claims import Meeting, tied
from vitcnn.analysis.pair import Claim
from vitcnn.report.format import interval, points
from vitcnn.report.reasons import reason


def crossing(c: Claim) -> tuple[str, str]:
    small, large = c.axis.name(c.places[0]), c.axis.name(c.places[-1])
    at = "" if c.axis.n is None else f"At n = {c.axis.n:,}, "
    return f"{at}{c.first} leads at {small} and {c.second} leads at {large}.", found(c)


def found(c: Claim) -> str:
    """Where the two curves cross, or who leads."""
    m: Meeting = c.found
    if m.place is None:
        return f"{_ends(c)}. Where they cross is not estimated: {reason(m.why)}."
    if tied(m.at_small) or tied(m.at_large):
        turns = [about(c.axis, place) for place in m.place.turns if place < c.places[-1] * (1 - TIE)]
        lead = f" The lead changes at {', '.join(turns)}." if turns else ""
        return f"{_ends(c)}.{lead}"
    return _crossed(c, m, m.place) if m.place.passes else _not_crossed(c, m, m.place)


def about(axis: Axis, place: float) -> str:
    """`n ≈ 1,234`, or `≈ 123,456 images seen`."""
    return f"n ≈ {place:,.0f}" if axis.kind == "n" else f"≈ {place:,.0f} images seen"


def _crossed(c: Claim, m: Meeting, place: Crossing) -> str:
    small, large = c.axis.name(c.places[0]), c.axis.name(c.places[-1])
    before = f"leads at {small}, falls behind, and " if m.at_small.value < 0 else ""
    again = " for the last time" if len(place.passes) > 1 else ""
    vague = ", on average," if place.low is None and place.high is None else ""
    every = "; the interval covers every possible crossing" if len(place.turns) > 1 else ""
    where = f"{about(c.axis, place.passes[-1])} ({interval(place, c.axis)}{every})"
    back = f" At {large} {c.first} leads again, by {points(m.at_large, absolute=True)}." if m.at_large.value < 0 else ""
    return f"{c.second} {before}overtakes {c.first}{again}{vague} at {where}.{back}"


def _not_crossed(c: Claim, m: Meeting, place: Crossing) -> str:
    small, large = c.axis.name(c.places[0]), c.axis.name(c.places[-1])
    last = points(m.at_large, absolute=True)
    if m.at_small.value < 0 and m.at_large.value < 0:
        return f"{c.second} leads at {small}, {c.first} at {large}, by {last}."
    if m.at_large.value < 0:
        text = f"No crossing up to {large}. There {c.first} leads by {last}."
        unsure = "" if place.excluded else f" An earlier crossing is not excluded ({interval(place, c.axis)})."
        return text + unsure
    if m.at_small.value < 0:
        return f"{c.second} leads from {small} on. There it leads by {points(m.at_small, absolute=True)}."
    return f"At {small} {c.first} leads by {points(m.at_small)}, at {large} {c.second} by {last}."


def _ends(c: Claim) -> str:
    """Who leads at the smallest and at the largest place, and by how much; by each end's own seeds."""
    m: Meeting = c.found
    ends = ((c.places[0], m.at_small, m.at_small.value), (c.places[-1], m.at_large, -m.at_large.value))
    return ", ".join(
        f"neither leads at {c.axis.name(place)}"
        if tied(e)
        else f"{c.first if lead > 0 else c.second} leads at {c.axis.name(place)} by {points(e, absolute=True)}"
        for place, e, lead in ends
    )

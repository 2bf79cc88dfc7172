"""The claims in words: for each, what it says, and what was found."""

import math
from collections.abc import Callable

from vitcnn.analysis.axis import N
from vitcnn.analysis.claims import Between, ErrorRatios, GapChange, Overfitting, Saturation
from vitcnn.analysis.crossing_claims import Multiple, tied
from vitcnn.analysis.pair import Claim
from vitcnn.report.crossing import crossing
from vitcnn.report.format import bounds, multiples, points, signed, times
from vitcnn.report.reasons import reason


def words(claim: Claim) -> tuple[str, str]:
    """(what a tested claim says, what was found), whole sentences."""
    return CLAIMS[claim.key](claim)


def _smallest(c: Claim) -> str:
    return f"At the smallest n ({c.axis.name(c.places[0])})"


def cnn_wins_small(c: Claim) -> tuple[str, str]:
    leader = c.first if c.effect.value > 0 else c.second
    lead = f"{leader} leads by {points(c.effect, absolute=True)}"
    tie = f"neither leads ({bounds(c.effect)} points)"
    return (
        f"{_smallest(c)} {c.first} is more accurate than {c.second}.",
        f"At {c.axis.name(c.places[0])} {tie if tied(c.effect) else lead}.",
    )


def gap_closes(c: Claim) -> tuple[str, str]:
    found: GapChange = c.found
    small, large = map(c.axis.name, c.places)
    e = c.effect
    parts = [
        f"The gap goes from {found.at_small:+z.1f} points at {small} to {found.at_large:+z.1f} at {large}, a change of "
        f"{signed(-e.value, -e.high, -e.low, unit='points')}."
    ]
    if last := found.last:
        each = "points per doubling" if last.per_doubling else "points"
        change = signed(last.points.value, last.points.low, last.points.high, unit=each)
        parts.append(f"From {c.axis.name(last.before)} on it changes by {change}.")
    if inside := found.inside:
        size = "larger" if inside.larger else "smaller"
        parts.append(f"In between it is {size} than at both ends: {inside.gap:+z.1f} at {c.axis.name(inside.place)}.")
    at = "From" if c.axis.n is None else f"At n = {c.axis.n:,}, from"
    between = c.axis.interval(*(f"{place:,}" for place in c.places))
    return f"{at} {between} the accuracy gap ({c.first} minus {c.second}) falls.", " ".join(parts)


def gap_closes_log_error(c: Claim) -> tuple[str, str]:
    ratio: ErrorRatios = c.found
    small, large = map(c.axis.name, c.places)
    factor, low, high = (math.exp(-v) for v in (c.effect.value, c.effect.high, c.effect.low))
    return (
        f"From {small} to {large} the ratio of errors ({c.second} to {c.first}) falls.",
        f"{c.second} makes {ratio.at_small:.2f} times the errors of {c.first} at {small} and {ratio.at_large:.2f} "
        f"times at {large}. The ratio changes by a factor of {factor:.2f} (95 %: {low:.2f} to {high:.2f}).",
    )


def cnn_saturates(c: Claim) -> tuple[str, str]:
    found: Saturation = c.found
    before, large = map(c.axis.name, c.places)
    data = "each doubling of the data" if c.unit == "log error per doubling" else "more data"
    first, second = (
        f"{'lowers' if change < 0 else 'raises'} the error of {name} by {100 * abs(change):.1f} %"
        for name, change in ((c.first, found.first), (c.second, found.second))
    )
    e = c.effect
    return (
        f"From {before} to {large} more data lowers the error of {c.first} less than that of {c.second}.",
        f"From {before} to {large} {data} {first} and {second}. The difference is "
        f"{signed(e.value, e.low, e.high, '+z.3f')} in log error.",
    )


def vit_overfits_small(c: Claim) -> tuple[str, str]:
    found: Overfitting = c.found
    fitted = " Both fit their training images perfectly, so this equals the difference in test accuracy."
    return (
        f"{_smallest(c)} {c.second} overfits more than {c.first} (train minus test accuracy).",
        f"At {c.axis.name(c.places[0])} train minus test accuracy is {found.second.value:.1f} points for {c.second} "
        f"and {found.first.value:.1f} for {c.first}. The difference is {points(c.effect)}."
        f"{fitted if found.fitted else ''}",
    )


def data_multiplier(c: Claim) -> tuple[str, str]:
    return (
        f"{c.second} needs more data than {c.first} for the accuracy of {c.first} at {c.axis.name(c.places[0])}.",
        " ".join(multiple(c.first, c.second, m) for m in c.found),
    )


def multiple(first: str, second: str, m: Multiple) -> str:
    """How many times n images the second needs, in one sentence or two."""
    match = f"match {first} at {N.name(m.n)}"
    if m.place is None:
        return f"How many times the images {second} needs to {match} is not estimated: {reason(m.why)}."
    start, found = f"To {match}, {second} needs", multiples(m.place)
    again = " With more images it falls behind again."
    if not m.place.ahead:
        least = f"{start} no more than {times(m.least, math.ceil)} times the images"
        return f"{least}{'' if m.place.clear else f' ({found})'}.{again if m.place.turns else ''}"
    if m.place.passes:
        return (
            f"{start} {times(m.place.passes[0])} times the images ({found}).{again if len(m.place.turns) > 1 else ''}"
        )
    most = f"more than {times(m.most, math.floor)} times the images"
    if m.place.excluded:
        return f"{start} {most}, the largest multiple measured."
    unless = "" if m.place.high is None else ", not excluded there"
    return f"{start}, on average, {most} ({found}{unless})."


def swin_in_between(c: Claim) -> tuple[str, str]:
    found: Between = c.found
    opposite = " A negative number means the opposite order." if min(found.below.value, found.above.value) < 0 else ""
    return (
        f"{_smallest(c)} the Swin-style model is better than {c.second} and worse than {c.first}.",
        f"At {c.axis.name(c.places[0])} {found.model} is {points(found.below)} below {c.first} and "
        f"{points(found.above)} above {c.second}.{opposite}",
    )


CLAIMS: dict[str, Callable[[Claim], tuple[str, str]]] = {
    "cnn-wins-small": cnn_wins_small,
    "gap-closes": gap_closes,
    "gap-closes-log-error": gap_closes_log_error,
    "crossing": crossing,
    "cnn-saturates": cnn_saturates,
    "vit-overfits-small": vit_overfits_small,
    "data-multiplier": data_multiplier,
    "swin-in-between": swin_in_between,
    "gap-closes-budget": gap_closes,
    "crossing-budget": crossing,
}

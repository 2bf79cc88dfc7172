"""The note's claim, taken apart into claims that records can support, contradict or leave open.

Each is declared here, before any result: which numbers, at which sizes, in which direction. `first` is the limited
model (the CNN), `second` the flexible one (the ViT); any pair of models can take their places.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np

from vitcnn.analysis.crossing_claims import data_multiplier, level, overtakes
from vitcnn.analysis.evidence import NotEnough, Number
from vitcnn.analysis.format import bounds, points, signed
from vitcnn.analysis.pair import Claim, Pair, minus, two_sizes, weaker
from vitcnn.analysis.results import train_accuracy

DOUBLING = "a doubling"
NEAR = 0.5  # doublings between two sizes below which none is told
KNOWS = 0.999  # train accuracy from which on a network knows its images by heart


def cnn_wins_small(p: Pair) -> Claim:
    n = p.sizes[0]
    e = p.estimate(p.gap(n), 100)
    who = p.first if e.value > 0 else p.second
    leads = f"{who} leads by {points(e, absolute=True)} in test accuracy"
    tie = f"neither leads in test accuracy ({bounds(e)} points)"
    return Claim(
        "cnn-wins-small",
        f"On the least data (n = {n:,}) {p.first} is better than {p.second}.",
        effect=e,
        sizes=(n,),
        found=f"At n = {n:,} {tie if level(e) else leads}.",
    )


def gap_closes(p: Pair) -> Claim:
    small, large = two_sizes(p)
    both = p.evidence.sample([[(100 * w, x) for w, x in p.gap(n)] for n in (small, large)])  # seeds that have both
    e, at = both.estimate([1, -1]), both.mean
    return Claim(
        "gap-closes",
        f"From n = {small:,} to n = {large:,} {p.second} gains on {p.first} in accuracy.",
        effect=e,
        sizes=(small, large),
        found=(
            f"{p.first} minus {p.second} goes from {at[0]:+z.1f} points at n = {small:,} to {at[1]:+z.1f} at "
            f"n = {large:,}, a change of {signed(-e.value, -e.high, -e.low)} points{_of_late(p)}.{_inside(p)}"
        ),
    )


def _of_late(p: Pair) -> str:
    """How the lead changes at the end; nothing where that is all there is, or no two seeds have both of the last
    sizes."""
    if len(p.sizes) == 2:
        return ""
    before, large = p.sizes[-2:]
    factor, each = pace(before, large)
    try:
        last = p.estimate(p.gap(large) + minus(p.gap(before)), 100 * factor)
    except NotEnough:
        return ""
    return f"; from n = {before:,} on it changes by {signed(last.value, last.low, last.high)} points {each}"


def _inside(p: Pair) -> str:
    """A sentence where the lead is wider, or narrower, at a size between the ends than at both of them."""
    found = {}
    for n in p.sizes[1:-1]:
        try:
            here = p.evidence.sample([[(100 * w, x) for w, x in p.gap(m)] for m in (n, *p.ends)])
        except NotEnough:
            continue
        over = [here.estimate(weights) for weights in ([1, -1, 0], [1, 0, -1])]
        if all(e.low > 0 for e in over) or all(e.high < 0 for e in over):
            which = "larger" if over[0].value > 0 else "smaller"
            said = f" In between it is {which} than at both: {here.mean[0]:+z.1f} at n = {n:,}."
            found[min(abs(e.value) for e in over)] = said
    return found[max(found)] if found else ""


def pace(a: int, b: int) -> tuple[float, str]:
    """What a change from n = a to n = b is multiplied with, and as what it is told: a doubling's, unless they are too
    near to tell it."""
    doublings = math.log2(b / a)
    return (1 / doublings, DOUBLING) if doublings >= NEAR else (1.0, "in all")


def gap_closes_log_error(p: Pair) -> Claim:
    small, large = two_sizes(p)
    both = p.evidence.sample([p.gap(n, "log error") for n in (small, large)])  # seeds that have both
    e, ratio = both.estimate([1, -1]), np.exp(both.mean)
    return Claim(
        "gap-closes-log-error",
        f"From n = {small:,} to n = {large:,} {p.second} gains on {p.first} in the ratio of errors.",
        effect=e,
        unit="log error",
        sizes=(small, large),
        found=(
            f"{p.second} makes {ratio[0]:.2f} times the errors of {p.first} at n = {small:,} and {ratio[1]:.2f} times "
            f"at n = {large:,}: {math.exp(-e.value):.2f} times the ratio (95 %: {math.exp(-e.high):.2f} to "
            f"{math.exp(-e.low):.2f})."
        ),
    )


def cnn_saturates(p: Pair) -> Claim:
    large, before = two_sizes(p)[1], p.sizes[-2]
    factor, each = pace(before, large)
    e = p.estimate(minus(p.gap(large, "log error")) + p.gap(before, "log error"), factor)
    helps = []
    for name in (p.first, p.second):
        slope = [(1.0, Number(name, large, "log error")), (-1.0, Number(name, before, "log error"))]
        change = 100 * (math.exp(p.estimate(slope, factor).value) - 1)
        helps.append(f"{abs(change):.1f} % {'off' if change < 0 else 'on top of'} the error of {name}")
    return Claim(
        "cnn-saturates",
        f"From n = {before:,} to n = {large:,} more data helps {p.first} less than {p.second}.",
        effect=e,
        unit=f"log error {each}",
        sizes=(before, large),
        found=(
            f"From n = {before:,} to n = {large:,} {f'{each} of the data' if each == DOUBLING else 'the data'} brings "
            f"{helps[0]} and {helps[1]}, a difference of {signed(e.value, e.low, e.high, '+z.3f')} in log error."
        ),
    )


def vit_overfits_small(p: Pair) -> Claim:
    n = p.sizes[0]
    over = {name: [(1.0, Number(name, n, "overfitting"))] for name in (p.first, p.second)}
    e = p.estimate(over[p.second] + minus(over[p.first]), 100)
    a, b = (p.estimate(over[name], 100) for name in (p.second, p.first))
    fitted = all(p.evidence.results.mean(name, n, train_accuracy).mean > KNOWS for name in over)
    same = "; both know their training images by heart, so that this is their difference in test accuracy"
    return Claim(
        "vit-overfits-small",
        f"On the least data (n = {n:,}) {p.second} overfits more than {p.first} (train minus test accuracy).",
        effect=e,
        sizes=(n,),
        found=(
            f"At n = {n:,} train minus test accuracy is {a.value:.1f} points for {p.second} and {b.value:.1f} for "
            f"{p.first}, a difference of {points(e)}{same if fitted else ''}."
        ),
    )


def swin_in_between(p: Pair) -> Claim:
    n = p.sizes[0]
    says = f"On the least data (n = {n:,}) the local model is better than {p.second} and worse than {p.first}."
    if p.between is None:
        return Claim("swin-in-between", says, why="the study has no local-window model beside the pair")
    below = p.estimate([(1.0, Number(p.first, n)), (-1.0, Number(p.between, n))], 100)
    above = p.estimate([(1.0, Number(p.between, n)), (-1.0, Number(p.second, n))], 100)
    return Claim(
        "swin-in-between",
        says,
        effect=weaker(below, above),
        sizes=(n,),
        found=(
            f"At n = {n:,} {p.between} is {points(below)} below {p.first} and {points(above)} above {p.second} "
            "(negative: on the other side)."
        ),
    )


CLAIMS: dict[str, Callable[[Pair], Claim]] = {
    "cnn-wins-small": cnn_wins_small,
    "gap-closes": gap_closes,
    "gap-closes-log-error": gap_closes_log_error,
    "crossing": overtakes,
    "cnn-saturates": cnn_saturates,
    "vit-overfits-small": vit_overfits_small,
    "data-multiplier": data_multiplier,
    "swin-in-between": swin_in_between,
}


TESTS = len(CLAIMS) - 1  # data-multiplier's is that of cnn-wins-small


def same_test(claims: Iterable[Claim]) -> dict[str, str]:
    """The claims whose test is another's, which is counted once among several."""
    by_key = {claim.key: claim for claim in claims}
    same = {"data-multiplier": "cnn-wins-small"}
    if by_key["cnn-saturates"].effect and by_key["cnn-saturates"].sizes == by_key["gap-closes-log-error"].sizes:
        same["cnn-saturates"] = "gap-closes-log-error"  # of two sizes the largest and the one before are all there are
    return same

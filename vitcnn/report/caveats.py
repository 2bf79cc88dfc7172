"""Caveats in words, one function each: whole sentences."""

from collections.abc import Sequence
from functools import singledispatch

from vitcnn.analysis import caveats as c
from vitcnn.analysis.budget_check import BudgetShift, BudgetUnchecked
from vitcnn.report.format import counted, seeds, signed


@singledispatch
def caveat(what: object) -> str:
    raise TypeError(what)


@caveat.register
def _(what: c.MissingCells) -> str:
    return f"{what.missing:,} of {counted(what.cells, 'cell')} missing."


@caveat.register
def _(what: c.LeftOut) -> str:
    return f"Left out, since fewer than two seeds of both models are finished: {', '.join(what.places)}."


@caveat.register
def _(what: c.UnequalSeeds) -> str:
    each = ", ".join(f"{count} at {place}" for place, count in what.seeds)
    return (
        f"Sizes differ in their finished seeds ({each}). A comparison of two sizes uses the seeds that both have, so "
        "it may differ from the numbers of one size."
    )


@caveat.register
def _(what: c.BelowBaseline) -> str:
    return (
        f"{what.model} is not above the linear baseline at n = {what.n:,}: {what.own.mean:.1%} against "
        f"{what.baseline.mean:.1%} ({what.own.count} and {what.baseline.count} seeds). Nothing can be concluded about "
        "it."
    )


@caveat.register
def _(what: c.BelowBaselineAtSmall) -> str:
    return (
        f"At n = {what.n:,} {_who(what.models)} not above the linear baseline ({what.baseline:.1%}). Claims about the "
        "smallest n say little there."
    )


@caveat.register
def _(what: c.NearChance) -> str:
    return (
        f"At n = {what.n:,} {_who(what.models)} close to chance ({what.chance:.1%}). The gap there says little about "
        "the models."
    )


def _who(models: Sequence[tuple[str, float]]) -> str:
    """`cnn (40.0%) and vit (30.0%) are`."""
    return f"{' and '.join(f'{name} ({v:.1%})' for name, v in models)} {'are' if len(models) > 1 else 'is'}"


@caveat.register
def _(what: c.AboveBaseline) -> str:
    fewer = " (which was fitted on fewer images, see below)" if what.fitted else ""
    leads = (f"{name} by {signed(*(100 * v for v in (m.mean, m.low, m.high)))} points" for name, m in what.unsure)
    unsure = f" This may be chance: {', '.join(leads)}." if what.unsure else ""
    return f"Every model is above the linear baseline at its largest finished n{fewer}.{unsure}"


@caveat.register
def _(what: c.BaselineFitted) -> str:
    return f"{what.baseline} is fitted on the first {what.images:,} of its training images at most, at every n."


@caveat.register
def _(what: c.NoBaseline) -> str:
    return "The study has no linear baseline, so it does not show that both models are trained well."


@caveat.register
def _(what: c.NoSearch) -> str:
    return "The recipes do not come from a search."


@caveat.register
def _(what: c.Synthetic) -> str:
    return what.text


@caveat.register
def _(what: c.WholePool) -> str:
    return (
        f"At n = {what.n:,} every seed trains on the same images, the whole training set. The spread there comes from "
        "initialisation and order alone."
    )


@caveat.register
def _(what: c.OtherRecords) -> str:
    return f"Ignored: {counted(what.count, 'record')} of cells outside this study (another recipe, size or seed)."


@caveat.register
def _(what: c.Unpermuted) -> str:
    verb = "is" if len(what.models) == 1 else "are"
    return (
        f"{' and '.join(what.models)} {verb} trained without permutation (`permuted: false`). The same cells stand in "
        "every setting."
    )


@caveat.register
def _(what: c.CopiedTestImages) -> str:
    if what.sample:
        trained, tested = what.sample
        test, train = f"of the first {tested:,} test images", f"of the first {trained:,} training images of a cell"
        copies = f"{what.copies:,} {test} are exact copies" if what.copies else f"none {test} is an exact copy"
        return f"On a sample: {copies} of one {train}."
    if not what.copies:
        return "No test image is an exact copy of a training image."
    return (
        f"{what.copies:,} of the {what.images:,} test images are exact copies of images in the training pool "
        f"({what.other_label:,} of them under another class). Test accuracy is not that on new images."
    )


@caveat.register
def _(what: BudgetUnchecked) -> str:
    return (
        f"No budget check of this pair is finished at n = {' and '.join(f'{n:,}' for n in what.sizes)}. The effect of "
        "more training there is unknown."
    )


@caveat.register
def _(what: BudgetShift) -> str:
    return f"Budget-limited at n = {what.n:,}: {shift(what)}"


def shift(s: BudgetShift) -> str:
    """What the budget check found at one n, without its n."""
    before, after = (f"{100 * gap:+.1f}" for gap in (s.gap, s.longer))
    return (
        f"with {s.factor:g}× the training the gap goes from {before} to {after} points ({seeds(s.seeds)}). {_judged(s)}"
    )


def _judged(s: BudgetShift) -> str:
    if s.limited is None:
        return "One seed gives no interval to compare this with."
    by = f"{100 * s.chance:.1f} points"
    if not s.limited:
        return "This is within half the width of its interval."
    if s.move <= s.chance:
        return f"This is more than half the width of its interval, but not more than chance between seeds ({by})."
    if s.move <= s.half_interval:
        return f"This is within half the width of its interval, but more than chance, paired by seed ({by})."
    return "This is more than half the width of its interval."

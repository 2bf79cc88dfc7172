"""The verdict in words, for the terminal and for the report."""

import math
import textwrap
from collections.abc import Sequence

from vitcnn.analysis import power_law
from vitcnn.analysis.claims import same_test
from vitcnn.analysis.crossing import TIE
from vitcnn.analysis.pair import Claim
from vitcnn.analysis.results import Results
from vitcnn.analysis.verdict import ALPHA, Verdict
from vitcnn.report.caveats import caveat
from vitcnn.report.claims import words
from vitcnn.report.format import counted
from vitcnn.report.markdown import bullets, heading, join, paragraph, table
from vitcnn.report.reasons import reason

METHOD = """\
A claim is supported or contradicted if p ≤ {alpha:g} after Holm's correction over the {tested} tested{twins}. This
bounds the chance of any false decision among them at the same level. It is valid for a single analysis; testing after
each seed and stopping at significance inflates it. The claims were fixed before any result. They use the smallest and
the largest n with two finished seeds{budgets}. Each interval is for one claim, paired by seed. It covers new seeds
(subset, initialisation, order) and new test images. The last column is the share of the variance that comes from the
finite test set. Few seeds can miss rare training failures. Crossings and multiples invert the paired test along
{axis}, with straight lines over its logarithm between the measured places.
"""
BUDGETS = "; those that end in -budget use the smallest and the largest budget at the largest n"


def verdict_text(results: Results, verdict: Verdict) -> str:
    """Caveats first, then a table of the claims, what was found, the fitted curves and the method. Markdown. `results`:
    what the verdict is of."""
    parts = []
    if verdict.caveats:
        parts += [heading(3, "Caveats"), bullets(map(caveat, verdict.caveats))]
    parts.append(heading(3, "Claims"))
    if all(claim.effect is None for claim in verdict.claims):
        return join([*parts, paragraph(f"None can be tested: {reason(verdict.claims[0].why)}.")])
    head = [
        "claim",
        "outcome",
        "effect (above 0: as claimed)",
        "95 % interval",
        "adjusted p",
        "seeds",
        "test set's share",
    ]
    parts += [table(head, map(_row, verdict.claims)), bullets(map(sentence, verdict.claims))]
    parts += [heading(3, "Fitted learning curves"), *_curves(results.at_largest_budget, verdict)]
    same, several = same_test(verdict.claims), len(results.study.budget) > 1
    tested = {claim.key for claim in verdict.claims if not math.isnan(claim.adjusted)}
    twins = "; ".join(f"{twin} is the test of {key}" for twin, key in same.items() if {twin, key} <= tested)
    method = METHOD.format(
        alpha=ALPHA,
        tested=counted(len(tested - same.keys()), "claim"),
        twins=f" ({twins})" if twins else "",
        budgets=BUDGETS if several else "",
        axis="n or images seen" if several else "n",
    )
    return join([*parts, heading(3, "Method"), paragraph(*textwrap.wrap(method, 120))])


def sentence(claim: Claim) -> str:
    """`supported: At the smallest n … . At n = 250 …`; a person can quote it."""
    if claim.effect is None or claim.outcome == "not tested":
        return f"`{claim.key}` **not tested**: {reason(claim.why)}."
    says, found = words(claim)
    return f"`{claim.key}` **{claim.outcome}**: {says} {found}"


def _row(claim: Claim) -> list[str]:
    e = claim.effect
    if e is None:
        return [claim.key, claim.outcome, "–", "–", "–", "–", "–"]
    digits = 1 if claim.unit == "points" else 3
    bounds = "none" if math.isnan(e.half) else f"{e.low:+.{digits}f} to {e.high:+.{digits}f}"
    return [
        claim.key,
        claim.outcome,
        f"{e.value:+.{digits}f} {claim.unit}",
        bounds,
        _p(claim.adjusted),
        str(e.seeds),
        f"{e.image_share:.0%}",
    ]


def _p(p: float) -> str:
    """With as many digits as it takes to see on which side of the level it is."""
    if math.isnan(p):
        return "–"
    digits = next((d for d in range(3, 9) if round(p, d) != ALPHA), 3)
    return f"{p:.{digits}f}" if p >= 0.001 else "under 0.001"


def _curves(results: Results, verdict: Verdict) -> list[str]:
    """The laws fitted to both models, and their crossing beyond the largest n, marked as extrapolated."""
    try:
        both = power_law.curves(results, verdict.first, verdict.second)
    except ValueError as short:
        return [paragraph(f"error = a · n^−b + c: not fitted, there are {short}.")]
    rows = []
    for name, law in ((verdict.first, both.first), (verdict.second, both.second)):
        off = ", ".join(f"{n:,}" for n in law.off) or "none"
        r2 = "–" if math.isnan(law.r2) else f"{law.r2:.3f}"
        rows.append([name, f"{law.a:.3g}", f"{law.b:.3f}", f"{law.c:.4f}", f"{100 * law.worst:.1f}", r2, off])
    head = [
        "error = a · n^−b + c",
        "a",
        "b",
        "c",
        "largest residual, points",
        "R² of log error",
        f"n with a residual of {power_law.OFF:g} standard errors or more",
    ]
    sizes = results.study.sizes
    measured = [results.mean(name, sizes[-1]).mean for name in (verdict.first, verdict.second)]
    if measured[1] > measured[0] + TIE:
        beyond = f"At n = {sizes[-1]:,} {verdict.second} already leads, as measured."
    else:
        beyond = _extrapolated(both, sizes, verdict.second)
    return [table(head, rows), paragraph(beyond)]


def _extrapolated(both: power_law.Curves, sizes: Sequence[int], second: str) -> str:
    largest = sizes[-1]
    if both.second.error(largest) < both.first.error(largest):
        return f"At n = {largest:,} the fitted error of {second} is already the lower one."
    if both.crossing is None:
        far = f"{power_law.FAR * largest:,} (the largest × {power_law.FAR})"
        text = f"Extrapolated: the fitted curves do not cross up to n = {far}."
    else:
        low, high = (
            f"beyond {power_law.FAR * largest:,}" if v is None else f"{v:,.0f}" if v > largest else f"by {largest:,}"
            for v in both.range
        )
        where = f"n ≈ {both.crossing:,.0f} (95 % of refitted curves: {low} to {high})"
        text = f"Extrapolated, not measured: the fitted curves cross at {where}."
    by = f"{power_law.FAR * largest:,}"
    text += f" Refitted to means drawn again within their errors, {both.share:.0%} cross by n = {by}."
    if missed := max((both.first, both.second), key=lambda law: len(law.off)).off:
        text += f" One law misses {len(missed)} of {len(sizes)} sizes, so the extrapolation is weak."
    return text

"""The verdict in words, for the terminal and for the report."""

import math
import textwrap
from collections.abc import Sequence

from vitcnn.analysis import power_law
from vitcnn.analysis.claims import same_test
from vitcnn.analysis.crossing import TIE
from vitcnn.analysis.format import counted
from vitcnn.analysis.pair import Claim
from vitcnn.analysis.results import Results
from vitcnn.analysis.verdict import ALPHA, Verdict
from vitcnn.report.tables import escape, markdown

FINE_PRINT = """\
Supported and contradicted: p ≤ {alpha:g} after Holm's correction over the {tested} tested{twins}, so that the chance of
any false one among them is at most that, for one look: who looks after every seed and stops at a decision has more
chances to be wrong. The claims are fixed beforehand, at the smallest and the largest n that two
seeds have finished. Intervals are for one claim each, paired by seed, and speak of new seeds (subset, initialisation,
order) and new test images alike; the last column says how much of their variance the finite test set is behind. They
take seeds to scatter evenly: of trainings that fail once in a while a few seeds cannot know. Crossings and multiples
invert the paired test over n, on straight lines over log n between the sizes measured.
"""


def verdict_text(results: Results, verdict: Verdict) -> str:
    """Caveats first, then a table of the claims, what was found, and what the words mean. Markdown."""
    parts = []
    if verdict.caveats:
        parts.append("Read first:\n\n" + "\n".join(f"- {escape(c)}" for c in verdict.caveats) + "\n")
    if all(claim.effect is None for claim in verdict.claims):
        parts.append(f"No claim can be judged: {escape(verdict.claims[0].why)}.\n")
        return "\n".join(parts)
    head = ["claim", "outcome", "effect (above 0: as claimed)", "95 % interval", "p, Holm", "seeds", "test set's share"]
    parts.append(markdown(head, [_row(claim) for claim in verdict.claims]))
    parts.append("\n".join(f"- {sentence(claim)}" for claim in verdict.claims) + "\n")
    parts.append(_curves(results, verdict))
    same = same_test(verdict.claims)
    tested = {claim.key for claim in verdict.claims if not math.isnan(claim.adjusted)}
    twins = "; ".join(f"{twin} is the test of {key}" for twin, key in same.items() if {twin, key} <= tested)
    count = counted(len(tested - same.keys()), "claim")
    told = FINE_PRINT.format(alpha=ALPHA, tested=count, twins=f" ({twins})" if twins else "")
    parts.append(textwrap.fill(told, 120) + "\n")
    return "\n".join(parts)


def sentence(claim: Claim) -> str:
    """`**supported**: On the least data … . At n = 250 …`; a person can quote it."""
    if claim.effect is None or claim.outcome == "cannot be said":
        return f"`{claim.key}` **cannot be said**: {escape(claim.why)}."
    return f"`{claim.key}` **{claim.outcome}**: {escape(claim.says)} {escape(claim.found)}"


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
        _chance(claim.adjusted),
        str(e.seeds),
        f"{e.image_share:.0%}",
    ]


def _chance(p: float) -> str:
    """With as many digits as it takes to see on which side of the level it is."""
    if math.isnan(p):
        return "–"
    digits = next((d for d in range(3, 9) if round(p, d) != ALPHA), 3)
    return f"{p:.{digits}f}" if p >= 0.001 else "under 0.001"


def _curves(results: Results, verdict: Verdict) -> str:
    """The laws fitted to both models, and the crossing that they promise: flagged as extrapolated."""
    try:
        both = power_law.curves(results, verdict.first, verdict.second)
    except ValueError as reason:
        return f"Learning curves (error = a · n^−b + c): none fitted, {escape(str(reason))}.\n"
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
        "largest miss, points",
        "R² of log error",
        f"n off by {power_law.OFF:g} se or more",
    ]
    sizes = results.study.sizes
    measured = [results.mean(name, sizes[-1]).mean for name in (verdict.first, verdict.second)]
    if measured[1] > measured[0] + TIE:
        return f"{markdown(head, rows)}\nAt n = {sizes[-1]:,} {escape(verdict.second)} leads already, as measured.\n"
    return f"{markdown(head, rows)}\n{_extrapolated(both, sizes, escape(verdict.second))}\n"


def _extrapolated(both: power_law.Curves, sizes: Sequence[int], second: str) -> str:
    largest = sizes[-1]
    if both.second.error(largest) < both.first.error(largest):
        return f"At n = {largest:,} the fitted error of {second} is the lower one already."
    if both.crossing is None:
        far = f"{power_law.FAR * largest:,} (the largest × {power_law.FAR})"
        said = f"Extrapolated: the fitted curves do not cross up to n = {far}"
    else:
        low, high = (
            f"beyond {power_law.FAR * largest:,}" if v is None else f"{v:,.0f}" if v > largest else f"by {largest:,}"
            for v in both.range
        )
        where = f"n ≈ {both.crossing:,.0f} (95 % of curves drawn again within their errors: {low} to {high})"
        said = f"Extrapolated, not measured: the fitted curves cross at {where}"
    said += f"; of curves drawn again within their errors {both.share:.0%} cross by n = {power_law.FAR * largest:,}."
    if missed := max((both.first, both.second), key=lambda law: len(law.off)).off:
        said += f" A law that misses {len(missed)} of {len(sizes)} sizes is a weak ground for that."
    return said

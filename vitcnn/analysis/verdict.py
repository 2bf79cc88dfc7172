"""What a study's records say about the note's claim: claim by claim, and what weakens it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vitcnn.analysis.caveats import (
    below_baseline,
    below_baseline_on_little,
    budget_shifts,
    few_for_the_baseline,
    hardly_learnt,
    leak,
    whole_pool,
)
from vitcnn.analysis.claims import CLAIMS, same_test
from vitcnn.analysis.evidence import Evidence, NotEnough
from vitcnn.analysis.format import counted
from vitcnn.analysis.pair import Claim, Pair
from vitcnn.analysis.random_effects import holm
from vitcnn.analysis.results import Results
from vitcnn.errors import ConfigError, suggest

ALPHA = 0.05  # the chance that any claim at all is decided where the two do not differ


@dataclass(frozen=True)
class Verdict:
    """Claims in a fixed order, and caveats: sentences to be read before them."""

    first: str
    second: str
    claims: tuple[Claim, ...]
    caveats: tuple[str, ...]


def verdict(results: Results, pair: tuple[str, str] | None = None) -> Verdict:
    """`pair`: in the places of CNN and ViT; by default the study's. Raises ConfigError for names it does not have."""
    first, second = pair or results.study.pair
    for name in (first, second):
        if name not in results.models:
            raise ConfigError(f"pair: no model is called {name!r}{suggest(name, results.models)}")
    if first == second:
        raise ConfigError(f"pair: {first!r} cannot be compared with itself")
    sizes = tuple(n for n in results.study.sizes if _in_common(results, first, second, n) > 1)
    compared = Pair(Evidence(results), first, second, sizes, _between(results, first, second))
    claims = [_claim(key, compared) for key in CLAIMS]
    caveats = tuple(_caveats(results, first, second, sizes))
    return Verdict(first, second, tuple(_decide(claims)), caveats)


def _in_common(results: Results, first: str, second: str, n: int) -> int:
    """Seeds that both have finished."""
    return len(results.at(first, n).keys() & results.at(second, n).keys())


def _between(results: Results, first: str, second: str) -> str | None:
    """The local-window model whose number of parameters is the nearest to the second's."""
    windowed = [e.name for e in results.study.models if e.arch.name == "swin" and e.name not in (first, second)]
    size = {r.cell.model: r.cost.parameters for r in results.records.values()}
    wanted = size.get(second, 0)
    return min(windowed, key=lambda name: abs(size.get(name, math.inf) - wanted), default=None)


def _claim(key: str, pair: Pair) -> Claim:
    says = key.replace("-", " ")
    if not pair.sizes:
        return Claim(key, says, why=f"no size has two seeds finished of both {pair.first} and {pair.second}")
    try:
        claim = CLAIMS[key](pair)
        return replace(claim, p=claim.effect.p) if claim.effect else claim
    except NotEnough as reason:
        return Claim(key, says, why=str(reason))


def _decide(claims: Sequence[Claim]) -> list[Claim]:
    """Outcomes at the family-wise level `ALPHA`, after Holm, over the claims that could be tested."""
    same = same_test(claims)
    tested = [c for c in claims if c.effect and c.key not in same]
    adjusted = dict(zip((c.key for c in tested), holm([c.p for c in tested]), strict=True))
    out = []
    for claim in claims:
        if claim.effect is None:
            out.append(claim)
            continue
        p = adjusted[same.get(claim.key, claim.key)]
        if math.isnan(p):
            out.append(replace(claim, why="no variance between seeds and test images could be estimated"))
            continue
        outcome = "undecided" if p > ALPHA else "supported" if claim.effect.value > 0 else "contradicted"
        out.append(replace(claim, adjusted=p, outcome=outcome))
    return out


def _caveats(results: Results, first: str, second: str, sizes: Sequence[int]) -> list[str]:
    out = []
    if results.missing:
        out.append(f"{len(results.missing):,} of {counted(len(results.cells), 'cell')} missing.")
    if left := [n for n in results.study.sizes if n not in sizes]:
        out.append(f"Left out for want of two seeds of both: n = {', '.join(f'{n:,}' for n in left)}.")
    both = {n: _in_common(results, first, second, n) for n in sizes}
    if len(set(both.values())) > 1:
        each = ", ".join(f"{count} at n = {n:,}" for n, count in both.items())
        out.append(
            f"Sizes have not the same seeds of both ({each}): what is said of two sizes is by the seeds that both "
            "have, and may differ from what is said of one."
        )
    out += below_baseline(results, {first, second})
    out += below_baseline_on_little(results, (first, second), sizes)
    out += hardly_learnt(results, (first, second), sizes)
    if few := few_for_the_baseline(results):
        out.append(few)
    if results.baseline is None:
        out.append("There is no linear baseline in this study: that both networks are trained well is not shown.")
    checked, sign = {first, second} == set(results.study.pair), 1 if first == results.study.pair[0] else -1
    shifts = budget_shifts(results) if checked else []
    for shift in shifts:
        if shift.limited:
            out.append(f"Budget-limited at n = {shift.n:,}: {shift.told(sign)}.")
    known = {shift.n for shift in shifts if shift.limited is not None}
    if unknown := [n for n in sorted({*sizes[:1], *sizes[-1:]}) if n not in known]:
        out.append(
            f"No budget check of this pair is finished at n = {' and '.join(f'{n:,}' for n in unknown)}: whether more "
            "training moves the gap there is not known."
        )
    if not results.study.search:
        out.append("No recipe search stands behind this study.")
    if results.about and results.about.made:
        out.append(results.about.made)
    if shared := whole_pool(results):
        out.append(shared)
    if results.strangers:
        count = counted(results.strangers, "record")
        out.append(f"Left out: {count} in the folder of other cells (another recipe, size or seed).")
    if any(data.get("test_in_train") for r in results.records.values() for data in (r.data, r.data.get("of", {}))):
        out.append(leak(results).replace("**", ""))
    return out

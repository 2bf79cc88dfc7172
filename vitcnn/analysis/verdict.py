"""A study's claims judged, and what weakens them. The sentences are in `report.verdict`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vitcnn.analysis import caveats as c
from vitcnn.analysis.budget_check import BudgetUnchecked, budget_shifts
from vitcnn.analysis.claims import BUDGET_CLAIMS, CLAIMS, same_test
from vitcnn.analysis.evidence import Evidence
from vitcnn.analysis.pair import Claim, Pair
from vitcnn.analysis.random_effects import holm
from vitcnn.analysis.reasons import NoSharedPlace, NotEnough, NoVariance
from vitcnn.analysis.results import Results
from vitcnn.errors import ConfigError, suggest

ALPHA = 0.05  # the chance that any claim at all is decided where the two do not differ


@dataclass(frozen=True)
class Verdict:
    """Claims in a fixed order, and caveats (dataclasses of `analysis.caveats`)."""

    first: str
    second: str
    claims: tuple[Claim, ...]
    caveats: tuple[object, ...]


def verdict(results: Results, pair: tuple[str, str] | None = None) -> Verdict:
    """`results`: of one setting of `permutation`, at all budgets. The claims are about the largest budget, and, of
    several budgets, about what changes from the smallest to the largest at the largest n. `pair`: in the places of CNN
    and ViT; by default the study's. Raises ConfigError for names it does not have."""
    first, second = pair or results.study.pair
    for name in (first, second):
        if name not in results.models:
            raise ConfigError(f"pair: no model is called {name!r}{suggest(name, results.models)}")
    if first == second:
        raise ConfigError(f"pair: {first!r} cannot be compared with itself")
    at_most = results.at_largest_budget
    along_n = pair_of(at_most, first, second)
    claims = [_claim(key, test, along_n) for key, test in CLAIMS.items()]
    if len(results.study.budget) > 1:
        n = along_n.places[-1] if along_n.places else results.study.sizes[-1]
        along_budget = pair_of(results.along_budget(n), first, second)
        claims += [_claim(key, lambda p, t=test, k=key: t(p, k), along_budget) for key, test in BUDGET_CLAIMS.items()]
    missing = [c.MissingCells(len(results.missing), len(results.cells))] if results.missing else []
    return Verdict(first, second, tuple(_decide(claims)), (*missing, *_caveats(at_most, along_n)))


def pair_of(results: Results, first: str, second: str) -> Pair:
    """The pair at the places where two seeds of both are finished."""
    places = tuple(place for place in results.places if _in_common(results, first, second, place) > 1)
    return Pair(Evidence(results), first, second, places, _between(results, first, second))


def _in_common(results: Results, first: str, second: str, place: int) -> int:
    """Seeds that both have finished."""
    return len(results.at(first, place).keys() & results.at(second, place).keys())


def _between(results: Results, first: str, second: str) -> str | None:
    """The Swin-style model whose number of parameters is the nearest to the second's."""
    windowed = [e.name for e in results.study.models if e.arch.name == "swin" and e.name not in (first, second)]
    size = {r.cell.model: r.cost.parameters for r in results.records.values()}
    wanted = size.get(second, 0)
    return min(windowed, key=lambda name: abs(size.get(name, math.inf) - wanted), default=None)


def _claim(key: str, test, pair: Pair) -> Claim:
    if not pair.places:
        return pair.claim(key, why=NoSharedPlace(pair.first, pair.second, pair.axis))
    try:
        claim = test(pair)
        return replace(claim, p=claim.effect.p)
    except NotEnough as short:
        return pair.claim(key, why=short.reason)


def _decide(claims: Sequence[Claim]) -> list[Claim]:
    """Outcomes at the family-wise level `ALPHA`, after Holm, over the claims that could be tested."""
    same = same_test(claims)
    tested = [claim for claim in claims if claim.effect and claim.key not in same]
    adjusted = dict(zip((claim.key for claim in tested), holm([claim.p for claim in tested]), strict=True))
    out = []
    for claim in claims:
        if claim.effect is None:
            out.append(claim)
            continue
        p = adjusted[same.get(claim.key, claim.key)]
        if math.isnan(p):
            out.append(replace(claim, why=NoVariance()))
            continue
        outcome = "undecided" if p > ALPHA else "supported" if claim.effect.value > 0 else "contradicted"
        out.append(replace(claim, adjusted=p, outcome=outcome))
    return out


def _caveats(results: Results, pair: Pair) -> list[object]:
    """`results`: at the largest budget; `pair`: along n."""
    first, second, sizes, study = pair.first, pair.second, pair.places, results.study
    out: list[object] = []
    if left := tuple(results.axis.name(n) for n in study.sizes if n not in sizes):
        out.append(c.LeftOut(left))
    both = {n: _in_common(results, first, second, n) for n in sizes}
    if len(set(both.values())) > 1:
        out.append(c.UnequalSeeds(tuple((results.axis.name(n), count) for n, count in both.items())))
    out += c.below_baseline(results, {first, second})
    out.append(c.below_baseline_at_small(results, (first, second), sizes))
    out += c.near_chance(results, (first, second), sizes)
    out.append(c.baseline_fitted(results))
    out += [c.NoBaseline()] if results.baseline is None else []
    out += _budget(results, pair) if len(study.budget) == 1 else []
    out += [c.NoSearch()] if not study.search else []
    out += [c.Synthetic(results.about.made)] if results.about and results.about.made else []
    out.append(c.whole_pool(results))
    out.append(c.unpermuted(results))
    out += [c.OtherRecords(results.other_records)] if results.other_records else []
    if (copies := c.copied_test_images(results)) and copies.copies:
        out.append(copies)
    return [caveat for caveat in out if caveat is not None]


def _budget(results: Results, pair: Pair) -> list[object]:
    """What the budget check found, in the pair's own direction."""
    of_study = {pair.first, pair.second} == set(results.study.pair)
    shifts = budget_shifts(results) if of_study else []
    if pair.first != results.study.pair[0]:
        shifts = [replace(shift, gap=-shift.gap, longer=-shift.longer) for shift in shifts]
    known = {shift.n for shift in shifts if shift.limited is not None}
    unknown = tuple(n for n in sorted({*pair.places[:1], *pair.places[-1:]}) if n not in known)
    return [*(s for s in shifts if s.limited), *([BudgetUnchecked(unknown)] if unknown else [])]

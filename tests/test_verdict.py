"""What the verdict says: each claim's three outcomes, what weakens it, and sentences that hold the numbers."""

import itertools
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import TRIO, every, make_study, record, write

from vitcnn.analysis.axis import N
from vitcnn.analysis.budget_check import BudgetUnchecked
from vitcnn.analysis.caveats import LeftOut, MissingCells, OtherRecords, above_baseline
from vitcnn.analysis.claims import CLAIMS, same_test
from vitcnn.analysis.random_effects import holm
from vitcnn.analysis.reasons import FewErrors, FewPlaces, NoSharedPlace, NoVariance, NoWindowedModel, UnequalTestSets
from vitcnn.analysis.results import Results
from vitcnn.analysis.simulate import Truth, draw
from vitcnn.analysis.verdict import ALPHA, verdict
from vitcnn.data.sources.fetch import about_data
from vitcnn.errors import ConfigError
from vitcnn.report.caveats import caveat
from vitcnn.report.claims import words
from vitcnn.report.reasons import reason
from vitcnn.report.verdict import sentence, verdict_text
from vitcnn.store.records import pack_bits

# ---- planted truths: accuracy at n = 50, 200, 1,000 ----

AS_SAID = {"cnn": (0.80, 0.85, 0.88), "swin": (0.70, 0.82, 0.90), "vit": (0.60, 0.78, 0.93)}
OPPOSITE = {"cnn": (0.60, 0.78, 0.93), "swin": (0.45, 0.60, 0.70), "vit": (0.80, 0.85, 0.88)}
ALIKE = dict.fromkeys(("cnn", "swin", "vit"), (0.80, 0.85, 0.90))
TRUTHS = {"supported": AS_SAID, "contradicted": OPPOSITE, "undecided": ALIKE}


def drawn(folder, accuracy: dict, *overrides: str, spread: float = 0.03, seed: int = 0, **more) -> Results:
    study, all_cells, _ = make_study(folder, "seeds=6", *overrides)
    count = len(study.sizes)
    curves = {e: np.array(a[:count]) for e, a in accuracy.items()}
    truth = Truth(curves, own=np.full(count, spread), shared=np.full(count, spread), taste=0.2, images=1500, **more)
    return draw(study, all_cells, truth, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The three truths, drawn once."""
    return {name: drawn(tmp_path_factory.mktemp("planted"), truth) for name, truth in TRUTHS.items()}


def claims(results: Results, pair: tuple[str, str] | None = None) -> dict:
    return {claim.key: claim for claim in verdict(results, pair).claims}


def found(claim) -> str:
    """What was found, in words."""
    return words(claim)[1]


def one_line(text: str) -> str:
    return " ".join(text.split())


def says(claim) -> str:
    return words(claim)[0]


def said(judged) -> str:
    """All caveats in words."""
    return "\n".join(map(caveat, judged.caveats))


def without(results: Results, lost) -> Results:
    """The same study without the cells that `lost(cell)` is true of."""
    kept = [r for r in results.records.values() if not lost(r.cell)]
    return Results.of(results.study, results.cells, kept, results.about)


def wobbly(cell) -> float:
    """Far apart, and each cell a little off on its own: above the baseline, with intervals."""
    level = {"vit": 0.6, "swin": 0.7, "cnn": 0.8, "linear": 0.5}[cell.model]
    own = np.random.default_rng([cell.seed, cell.n, len(cell.model), ord(cell.model[0])]).normal(0, 0.01)
    return level + 0.05 * math.log10(cell.n) + own


# ---- outcomes ----


@pytest.mark.parametrize("outcome", list(TRUTHS))
@pytest.mark.parametrize("key", list(CLAIMS))
def test_each_claim_can_be_supported_contradicted_and_left_open(planted, key, outcome):
    claim = claims(planted[outcome])[key]
    assert claim.outcome == outcome
    assert claim.effect.seeds == 6
    assert (claim.adjusted <= ALPHA) == (outcome != "undecided")
    if outcome != "undecided":
        assert (claim.effect.value > 0) == (outcome == "supported")


def test_effects_are_the_differences_of_means_in_the_direction_claimed(planted):
    results, found = planted["supported"], claims(planted["supported"])
    a = {(e, n): results.mean(e, n).mean for e in AS_SAID for n in (50, 200, 1000)}
    gap = {n: 100 * (a["cnn", n] - a["vit", n]) for n in (50, 200, 1000)}
    assert found["cnn-wins-small"].effect.value == pytest.approx(gap[50])
    assert found["gap-closes"].effect.value == pytest.approx(gap[50] - gap[1000])
    assert found["crossing"].effect.value == pytest.approx(-gap[1000])
    assert found["vit-overfits-small"].effect.value == pytest.approx(gap[50])  # all of them train to 1
    assert found["data-multiplier"].effect == found["cnn-wins-small"].effect
    between = 100 * np.array([a["cnn", 50] - a["swin", 50], a["swin", 50] - a["vit", 50]])
    assert found["swin-in-between"].effect.value == pytest.approx(between.min(), abs=3)


def test_log_errors_are_compared_as_ratios_and_slopes_a_doubling(planted):
    results, found = planted["supported"], claims(planted["supported"])
    error = {
        (e, n): np.mean([math.log(((1 - v) * 1500 + 0.5) / 1501) for v in results.values(e, n).values()])
        for e in ("cnn", "vit")
        for n in (50, 200, 1000)
    }
    ratio = {n: error["vit", n] - error["cnn", n] for n in (50, 200, 1000)}
    assert found["gap-closes-log-error"].effect.value == pytest.approx(ratio[50] - ratio[1000])
    assert found["cnn-saturates"].effect.value == pytest.approx((ratio[200] - ratio[1000]) / math.log2(5))


def test_overfitting_is_train_minus_test_and_not_test_alone(tmp_path):
    study, all_cells, _ = make_study(tmp_path)
    rng, train = np.random.default_rng(0), {"vit": 0.8, "cnn": 1.0, "swin": 1.0, "linear": 1.0}
    records = [record(c, wobbly(c), train=train[c.model], rng=rng) for c in all_cells]
    claim = claims(Results.of(study, all_cells, records))["vit-overfits-small"]
    gap = claims(Results.of(study, all_cells, records))["cnn-wins-small"].effect.value
    assert claim.effect.value == pytest.approx(gap - 20)


MIRRORED = ["cnn-wins-small", "gap-closes", "gap-closes-log-error", "cnn-saturates", "vit-overfits-small"]


@pytest.mark.parametrize("key", MIRRORED)
@pytest.mark.parametrize("truth", list(TRUTHS))
def test_the_pair_the_other_way_round_turns_the_claim_over(planted, key, truth):
    one, other = claims(planted[truth])[key], claims(planted[truth], ("vit", "cnn"))[key]
    assert other.effect.value == pytest.approx(-one.effect.value)
    assert (other.effect.low, other.effect.high) == pytest.approx((-one.effect.high, -one.effect.low))
    assert other.p == pytest.approx(one.p)
    turned = {"supported": "contradicted", "contradicted": "supported", "undecided": "undecided"}
    assert other.outcome == turned[one.outcome]


def test_any_two_models_can_take_the_places(planted):
    found = verdict(planted["supported"], ("swin", "vit"))
    assert (found.first, found.second) == ("swin", "vit")
    wins = found.claims[0]
    assert wins.outcome == "supported"
    assert "swin is more accurate than vit" in says(wins)
    assert {c.key: c.why for c in found.claims}["swin-in-between"] == NoWindowedModel()


def test_a_crossing_needs_the_first_ahead_at_the_least_data_and_the_second_at_the_most(tmp_path):
    ahead = {"cnn": (0.60, 0.65, 0.70), "vit": (0.80, 0.85, 0.90), "swin": (0.70, 0.75, 0.80)}
    assert claims(drawn(tmp_path, ahead))["crossing"].outcome == "contradicted"
    unsure = {"cnn": (0.80, 0.80, 0.80), "vit": (0.80, 0.85, 0.95), "swin": (0.80, 0.82, 0.85)}
    found = claims(drawn(tmp_path, unsure))["crossing"]
    assert (found.outcome, found.effect.low < 0 < found.effect.high) == ("undecided", True)  # that at n = 50


@pytest.mark.parametrize("accuracy", [0.80, 0.60, 0.40, 0.95])
def test_the_local_model_is_in_between_only_where_it_is_behind_one_and_ahead_of_the_other(tmp_path, accuracy):
    curves = AS_SAID | {"swin": (accuracy, 0.8, 0.9)}
    outcome = claims(drawn(tmp_path, curves))["swin-in-between"].outcome
    assert outcome == {0.80: "undecided", 0.60: "undecided", 0.40: "contradicted", 0.95: "contradicted"}[accuracy]


# ---- Holm ----


@pytest.mark.parametrize("truth", list(TRUTHS))
def test_holm_goes_over_the_claims_tested_and_counts_a_test_once(planted, truth):
    found = claims(planted[truth])
    family = [key for key in found if key not in same_test(found.values())]
    assert same_test(found.values()) == {"data-multiplier": "cnn-wins-small"}
    assert len(family) == 7
    assert [found[key].adjusted for key in family] == pytest.approx(holm([found[key].p for key in family]))
    assert found["data-multiplier"].adjusted == found["cnn-wins-small"].adjusted
    assert "over the 7 claims tested" in one_line(verdict_text(planted[truth], verdict(planted[truth])))


def test_a_claim_that_cannot_be_said_is_not_counted(planted):
    fewer = without(planted["supported"], lambda c: c.model == "swin")
    found = claims(fewer)
    assert found["swin-in-between"].outcome == "not tested"
    assert math.isnan(found["swin-in-between"].adjusted)
    assert "over the 6 claims tested" in one_line(verdict_text(fewer, verdict(fewer)))
    assert found["cnn-wins-small"].p == claims(planted["supported"])["cnn-wins-small"].p


# ---- what is missing ----


def test_shuffled_records_change_nothing(planted):
    results = planted["supported"]
    records = list(results.records.values())
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(records))
        other = Results.of(results.study, results.cells, [records[i] for i in order])
        assert verdict(other) == verdict(results)
        assert verdict_text(other, verdict(other)) == verdict_text(results, verdict(results))


PAIR, SMALL, LAST = ("cnn", "vit"), 50, 1000
USES = {  # what the effect is made of
    "cnn-wins-small": [(e, SMALL) for e in PAIR],
    "gap-closes": [(e, n) for e in PAIR for n in (SMALL, LAST)],
    "gap-closes-log-error": [(e, n) for e in PAIR for n in (SMALL, LAST)],
    "crossing": [(e, n) for e in PAIR for n in (SMALL, LAST)],
    "cnn-saturates": [(e, n) for e in PAIR for n in (200, LAST)],
    "vit-overfits-small": [(e, SMALL) for e in PAIR],
    "data-multiplier": [(e, SMALL) for e in PAIR],
    "swin-in-between": [(e, SMALL) for e in ("cnn", "vit", "swin")],
}


@given(st.integers(0, 53), st.sampled_from(list(TRUTHS)))
@settings(max_examples=12, deadline=None)
def test_a_missing_cell_changes_the_numbers_of_claims_that_use_it_and_of_no_other(planted, index, truth):
    results = planted[truth]
    cell = [c for c in results.cells if c.model != "linear"][index]
    whole, fewer = claims(results), claims(without(results, lambda c: c.id == cell.id))
    for key, uses in USES.items():
        if (cell.model, cell.n) in uses:
            assert fewer[key].effect.seeds in (5, 6)
        else:
            assert (fewer[key].effect, fewer[key].p, fewer[key].places) == (
                whole[key].effect,
                whole[key].p,
                whole[key].places,
            )


def test_missing_cells_and_sizes_are_said(planted):
    fewer = without(planted["supported"], lambda c: (c.model, c.n) == ("vit", 200))
    found = verdict(fewer)
    assert {MissingCells(24, 72), LeftOut(("n = 200",))} <= set(found.caveats)
    assert {c.key: c.places for c in found.claims}["cnn-saturates"] == (50, 1000)


def test_without_the_least_data_the_claim_is_about_the_next_size_and_says_so(planted):
    fewer = without(planted["supported"], lambda c: (c.model, c.n) == ("cnn", 50) and c.seed > 0)
    found = verdict(fewer)
    assert found.claims[0].places == (200,)
    assert "At the smallest n (n = 200)" in says(found.claims[0])
    assert "fewer than two seeds of both models are finished: n = 50." in said(found)


@pytest.mark.parametrize(
    ("overrides", "reasons"),
    [
        (["seeds=1"], dict.fromkeys(CLAIMS, NoSharedPlace("cnn", "vit", N))),
        (["models=[cnn, vit]"], {"swin-in-between": NoWindowedModel()}),
        (["sizes=[50]"], {key: FewPlaces(N) for key in CLAIMS if "gap" in key or key in (
            "crossing", "cnn-saturates", "data-multiplier")}),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_said_with_its_reason_and_the_rest_is_judged(tmp_path, overrides, reasons):
    results = drawn(tmp_path, AS_SAID, *overrides)
    found = claims(results)
    assert {key: c.why for key, c in found.items() if c.outcome == "not tested"} == reasons
    assert all(c.effect and not c.why for key, c in found.items() if key not in reasons)
    text = verdict_text(results, verdict(results))
    assert all(reason(why) in text for why in reasons.values())


@pytest.mark.parametrize("missing", ["all", "vit", "cnn at two sizes", "all but one seed", "test sets alike"])
def test_a_study_with_little_in_it_gives_sentences_and_no_error(planted, missing):
    lost = {
        "all": lambda c: True,
        "vit": lambda c: c.model == "vit",
        "cnn at two sizes": lambda c: c.model == "cnn" and c.n > 50,
        "all but one seed": lambda c: c.seed > 0,
        "test sets alike": lambda c: (c.seed, c.n) in {(0, 50), (1, 200), (2, 1000), (3, 50), (4, 200)},
    }[missing]
    fewer = without(planted["supported"], lost)
    for pair in itertools.permutations(["vit", "cnn", "swin", "linear"], 2):
        found = verdict(fewer, pair)
        assert [c.key for c in found.claims] == list(CLAIMS)
        assert all(c.effect or c.why for c in found.claims)
        assert any(isinstance(c, MissingCells) for c in found.caveats)
        assert "nan" not in verdict_text(fewer, found)


def test_test_sets_of_different_size_are_not_compared(planted, tmp_path):
    results = planted["supported"]
    longer = drawn(tmp_path, AS_SAID).records
    cut = {
        i: r.model_copy(update={"test": r.test.model_copy(update={"images": 1400})}) if r.cell.model == "vit" else r
        for i, r in longer.items()
    }
    found = claims(Results(results.study, results.cells, cut))
    assert found["cnn-wins-small"].why == UnequalTestSets((1400, 1500))


@pytest.mark.parametrize("pair", [("cnn", "vit2"), ("CNN", "vit"), ("cnn", "cnn"), ("", "vit")])
def test_a_pair_that_the_study_does_not_have_is_refused_with_what_it_has(planted, pair):
    with pytest.raises(ConfigError, match="pair: ") as error:
        verdict(planted["supported"], pair)
    assert "itself" in str(error.value) or "known: cnn, linear, swin, vit" in str(error.value)


@pytest.mark.parametrize("level", [0.5, 1.0, 0.0])
def test_where_nothing_varies_there_is_no_interval_and_that_is_said(tmp_path, level):
    """Also at accuracies of 0 and 1, whose errors would have no logarithm."""
    study, all_cells, _ = make_study(tmp_path)
    one = every(all_cells, lambda _: level)
    bits = one[0].test.bits
    same = [r.model_copy(update={"test": r.test.model_copy(update={"bits": bits})}) for r in one]
    results = Results.of(study, all_cells, same)
    for claim in verdict(results).claims:
        assert claim.outcome == "not tested"
        none_wrong = level == 1 and claim.key in {"gap-closes-log-error", "cnn-saturates"}
        assert isinstance(claim.why, FewErrors if none_wrong else NoVariance)
    assert "nan" not in verdict_text(results, verdict(results))


def test_a_ratio_of_errors_takes_more_than_a_few_wrong_images(tmp_path):
    """Below that, half an image counted as wrong decides it: the better model can only seem to lose its lead."""
    found = claims(drawn(tmp_path, AS_SAID | {"cnn": (0.9, 0.95, 0.999)}, spread=0.001))
    for key in ("gap-closes-log-error", "cnn-saturates"):
        assert found[key].outcome == "not tested"
        assert re.match(r"cnn gets [\d.]+ test images wrong at n = 1,000", reason(found[key].why))
    assert found["gap-closes"].effect is not None


def test_of_two_sizes_the_last_doubling_is_the_whole_way_and_is_tested_once(tmp_path):
    study, all_cells, _ = make_study(tmp_path, "sizes=[50, 1000]")
    results = Results.of(study, all_cells, every(all_cells, lambda c: 0.5 + 0.01 * c.seed + (c.n > 50) * 0.1))
    assert same_test(verdict(results).claims)["cnn-saturates"] == "gap-closes-log-error"


def test_each_end_without_a_finished_budget_check_is_named(tmp_path):
    study, all_cells, _ = make_study(tmp_path, "budget_check={factor: 2, seeds: [0, 1]}")
    made = every([c for c in all_cells if c.role == "main" or c.n == 50], lambda c: 0.5 + 0.01 * c.seed)
    assert BudgetUnchecked((1000,)) in verdict(Results.of(study, all_cells, made)).caveats


def test_a_model_finished_beyond_the_baseline_is_not_known_to_be_above_it(tmp_path):
    study, all_cells, _ = make_study(tmp_path, "models=[vit, cnn, linear]")
    levels = {"linear": 0.5}
    all_of_it = every(all_cells, lambda c: levels.get(c.model, 0.8))
    assert above_baseline(Results.of(study, all_cells, all_of_it))
    short = [r for r in all_of_it if not (r.cell.model == "linear" and r.cell.n > 50)]
    assert not above_baseline(Results.of(study, all_cells, short))


def test_a_lead_on_the_least_data_without_an_interval_does_not_make_a_crossing(tmp_path):
    """Each seed of vit has as many images wrong, and never the same: nothing varies there, whatever n = 1,000 shows."""
    results = drawn(tmp_path, AS_SAID)
    records = dict(results.records)
    for record_ in results.records.values():
        if record_.cell.n == 50:
            wrong = np.arange(1500) // 150 == (record_.cell.seed if record_.cell.model == "vit" else -1)
            score = {"accuracy": 1 - wrong.mean(), "bits": pack_bits(~wrong)}
            records[record_.id] = record_.model_copy(update={"test": record_.test.model_copy(update=score)})
    found = claims(Results(results.study, results.cells, records))
    assert (found["cnn-wins-small"].effect.value, found["cnn-wins-small"].effect.se) == (pytest.approx(10), 0)
    assert found["cnn-wins-small"].outcome == "not tested"
    assert found["crossing"].outcome == "not tested"


# ---- caveats ----


def caveats(folder, *overrides: str, accuracy=wobbly, lost=lambda c: False, change=lambda r: r, pair=None) -> str:
    study, all_cells, _ = make_study(folder, *overrides)
    records = [change(r) for r in every(all_cells, accuracy) if not lost(r.cell)]
    return said(verdict(Results.of(study, all_cells, records, about_data("digits")), pair))


CHECK = "budget_check={factor: 3, seeds: [0]}"


def test_a_loser_to_the_linear_baseline_weakens_the_verdict_and_another_model_does_not(tmp_path):
    low = {name: caveats(tmp_path, accuracy=lambda c, x=name: 0.3 if c.model == x else wobbly(c)) for name in (
        "vit", "cnn", "swin")}  # fmt: skip
    assert "vit is not above the linear baseline at n = 1,000: 30.0% against" in low["vit"]
    assert "cnn is not above the linear baseline at n = 1,000" in low["cnn"]
    assert "not above" not in low["swin"] + caveats(tmp_path)


def test_losers_to_the_baseline_on_the_least_data_are_named_though_they_are_above_it_on_the_most(tmp_path):
    def few(**low):
        return lambda c: low.get(c.model, wobbly(c)) if c.n == 50 else wobbly(c)

    text = caveats(tmp_path, accuracy=few(vit=0.3, cnn=0.4, local=0.2))
    assert "At n = 50 cnn (40.0%) and vit (30.0%) are not above the linear baseline (" in text
    assert "At n = 50 vit (30.0%) is not above the linear baseline (" in caveats(tmp_path, accuracy=few(vit=0.3))
    assert "not above" not in caveats(tmp_path, accuracy=few(local=0.3))
    one_size = caveats(tmp_path, "sizes=[50]", accuracy=few(vit=0.3))
    assert one_size.count("not above") == 1  # where the only size is the largest, it is said of that


def test_a_lead_that_is_widest_in_between_is_told_with_the_change_from_end_to_end(tmp_path):
    hump = {"cnn": (0.30, 0.85, 0.88), "vit": (0.28, 0.45, 0.80)}
    told = found(claims(drawn(tmp_path, hump, spread=0.01))["gap-closes"])
    size = re.search(r" In between it is larger than at both ends: \+(\d+\.\d) at n = 200\.$", told)
    assert float(size[1]) == pytest.approx(40, abs=4)
    trough = {"cnn": (0.60, 0.70, 0.88), "vit": (0.20, 0.68, 0.40)}
    assert "smaller than at both" in found(claims(drawn(tmp_path, trough, spread=0.01))["gap-closes"])
    assert claims(drawn(tmp_path, AS_SAID))["gap-closes"].found.inside is None


def test_the_local_model_in_between_is_the_one_of_the_seconds_size(tmp_path):
    models = "models={vit: {}, cnn: {}, swin: {}, big: {arch: swin, width: 120, heads: [4, 8]}}"
    levels = {"vit": 0.5, "cnn": 0.8, "swin": 0.6, "big": 0.7}

    def of_size(parameters: dict):
        def change(r):
            cost = r.cost.model_copy(update={"parameters": parameters.get(r.cell.model, 500_000)})
            return r.model_copy(update={"cost": cost})

        study, all_cells, _ = make_study(tmp_path, models)
        records = [change(r) for r in every(all_cells, lambda c: levels[c.model] + 0.01 * c.seed)]
        return found(claims(Results.of(study, all_cells, records))["swin-in-between"])

    assert "swin is 20.0 points" in of_size({"big": 2_000_000})
    assert "big is 10.0 points" in of_size({"big": 2_000_000, "vit": 2_100_000, "cnn": 1_900_000})


@pytest.mark.parametrize(
    ("p", "shown"), [(0.0497, "0.0497"), (0.0503, "0.0503"), (0.04998, "0.04998"), (0.03, "0.030")]
)
def test_a_chance_is_shown_with_the_digits_that_tell_its_side_of_the_level(planted, p, shown):
    found = verdict(planted["supported"])
    odd = replace(found, claims=(replace(found.claims[0], adjusted=p), *found.claims[1:]))
    assert f"| {shown} |" in verdict_text(planted["supported"], odd)


def test_the_baseline_of_a_model_whose_name_begins_alike_is_another_matter(tmp_path):
    found = caveats(tmp_path, "models={vit: {}, vit big: {arch: vit, depth: 2}, cnn: {}, linear: {}}",
                    accuracy=lambda c: 0.3 if c.model == "vit big" else wobbly(c))  # fmt: skip
    assert "not above" not in found


def test_a_network_that_has_hardly_learnt_anything_is_named_with_what_chance_is(tmp_path):
    def few(low):
        return lambda c: low.get(c.model, 0.6) if c.n == 50 else wobbly(c)

    text = caveats(tmp_path, accuracy=few({"vit": 0.106, "cnn": 0.09, "swin": 0.1}))
    assert "At n = 50 cnn (9.0%) and vit (10.6%) are close to chance (10.0%). The gap there says" in text
    text = caveats(tmp_path, accuracy=few({"vit": 0.1}))
    assert "At n = 50 vit (10.0%) is close to chance" in text
    assert "close to" not in caveats(tmp_path, accuracy=few({"vit": 0.11, "swin": 0.1})) + caveats(tmp_path)


def test_a_study_without_a_baseline_says_so(tmp_path):
    assert "no linear baseline" in caveats(tmp_path, "models=[vit, cnn]")
    assert "no linear baseline" not in caveats(tmp_path)


def longer(cell) -> float:
    return wobbly(cell) + (0.1 if cell.role == "budget-check" and (cell.model, cell.n) == ("vit", 1000) else 0)


@pytest.mark.parametrize("pair", [None, ("cnn", "vit"), ("vit", "cnn")])
def test_a_gap_that_more_training_moves_is_budget_limited_whichever_way_round_the_pair_stands(tmp_path, pair):
    text = caveats(tmp_path, CHECK, accuracy=longer, pair=pair)
    assert "No budget check" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("Budget-limited")]
    assert line.startswith("Budget-limited at n = 1,000: with 3× the training the gap goes from ")
    before, after = map(float, re.findall(r"([+-]\d+\.\d) (?:to|points)", line))
    assert abs(after - before) == pytest.approx(10, abs=0.3)
    assert (before > 0) == (pair != ("vit", "cnn"))


def test_a_gap_that_more_training_leaves_alone_is_not(tmp_path):
    text = caveats(tmp_path, CHECK)
    assert "Budget-limited" not in text
    assert "budget check" not in text.lower()


@pytest.mark.parametrize("pair", [("cnn", "swin"), ("swin", "vit")])
def test_another_pairs_budget_was_not_checked(tmp_path, pair):
    assert "No budget check of this pair" in caveats(tmp_path, CHECK, accuracy=longer, pair=pair)


def test_a_study_without_a_budget_check_or_with_an_unfinished_one_says_so(tmp_path):
    assert "No budget check" in caveats(tmp_path)
    assert "budget check" in caveats(tmp_path, CHECK, lost=lambda c: c.role == "budget-check").lower()


def test_no_search_is_said_and_a_search_is_not(tmp_path):
    assert "The recipes do not come from a search." in caveats(tmp_path)
    path = tmp_path / "found.yaml"
    path.write_text("search: trial\nmodels: {vit: {50: {lr: 0.01}}, cnn: {50: {lr: 0.01}}, swin: {50: {lr: 0.01}}}")
    assert "a search" not in caveats(tmp_path, f"recipes={path}")


def test_copies_of_test_images_are_said_where_there_are_any(tmp_path):
    def leaks(copies: int):
        return lambda r: r.model_copy(update={"data": {"test_in_train": copies, "other_label": 1}})

    text = caveats(tmp_path, change=leaks(7))
    assert "7 of the 500 test images are exact copies" in text
    assert "exact cop" not in caveats(tmp_path, change=leaks(0)) + caveats(tmp_path)


def test_a_largest_size_that_is_the_whole_pool_is_said(tmp_path):
    about = about_data("digits")
    pool = about.train - about.validation
    assert f"At n = {pool:,} every seed trains on the same images" in caveats(tmp_path, f"sizes=[50, {pool}]")
    assert "same images" not in caveats(tmp_path, f"sizes=[50, {pool - 1}]")


def test_records_of_another_recipe_in_the_folder_are_counted_and_left_out(tmp_path):
    study, all_cells, _ = make_study(tmp_path)
    _, others, _ = make_study(tmp_path, "recipe.lr=0.02", "models=[vit]")
    mine, strangers = every(all_cells, wobbly), every(others, lambda _: 0.1)
    clean, mixed = (verdict(Results.of(study, all_cells, r)) for r in (mine, strangers + mine))
    assert mixed.claims == clean.claims
    assert set(mixed.caveats) - set(clean.caveats) == {OtherRecords(9)}


# ---- in words ----

NUMBER = re.compile(r"[+-]?\d+\.\d+")


def numbers(text: str) -> list[float]:
    return [float(x) for x in NUMBER.findall(text.replace(",", ""))]


@pytest.mark.parametrize("pair", [("cnn", "vit"), ("vit", "cnn")])
@pytest.mark.parametrize("truth", list(TRUTHS))
@pytest.mark.parametrize("key", ["cnn-wins-small", "gap-closes", "vit-overfits-small", "swin-in-between"])
def test_a_sentence_holds_effect_and_interval_and_outcome(planted, key, truth, pair):
    claim = claims(planted[truth], pair)[key]
    text = sentence(claim)
    assert text.startswith(f"`{key}` **{claim.outcome}**: {says(claim)}")
    shown = sorted(map(abs, numbers(found(claim))))
    for value in (claim.effect.value, claim.effect.low, claim.effect.high):
        assert any(abs(abs(value) - x) <= 0.0501 for x in shown), (value, shown)


@pytest.mark.parametrize("truth", list(TRUTHS))
def test_who_leads_is_who_leads(planted, truth):
    for pair in (("cnn", "vit"), ("vit", "cnn")):
        claim = claims(planted[truth], pair)["cnn-wins-small"]
        means = {e: planted[truth].mean(e, 50).mean for e in pair}
        assert f"{max(means, key=means.get)} leads by " in found(claim)
        assert numbers(found(claim))[0] == pytest.approx(100 * (max(means.values()) - min(means.values())), abs=0.051)


def test_the_lead_at_both_ends_and_its_change_add_up(planted):
    before, after, change, low, high, *_ = numbers(found(claims(planted["supported"])["gap-closes"]))
    assert after - before == pytest.approx(change, abs=0.11)
    assert low < change < high


@pytest.mark.parametrize(
    ("cnn", "vit", "pattern"),
    [
        ((0.8, 0.85, 0.88), (0.6, 0.78, 0.93), r"^vit overtakes cnn at n ≈ [3-7]\d\d \(95 %: n = \d+ to \d+\)\.$"),
        (
            (0.8, 0.85, 0.9),
            (0.6, 0.65, 0.7),
            r"^No crossing up to n = 1,000\. There cnn leads by (19|2[01])\.",
        ),
        ((0.8, 0.85, 0.88), (0.6, 0.78, 0.879), r"upper end not measured"),
        (
            (0.6, 0.65, 0.7),
            (0.8, 0.85, 0.9),
            r"^vit leads from n = 50 on\. There it leads by (17|18|19|20|21)\.\d points",
        ),
    ],
)
def test_where_the_curves_cross_is_said(tmp_path, cnn, vit, pattern):
    claim = claims(drawn(tmp_path, {"cnn": cnn, "vit": vit, "swin": vit}))["crossing"]
    assert re.search(pattern, found(claim)), found(claim)


def test_who_was_behind_on_the_least_data_does_not_lead_up_to_the_most(tmp_path):
    """The first begins behind and ends ahead: it was not ahead all the way."""
    results = drawn(tmp_path, {"cnn": (0.6, 0.78, 0.93), "vit": (0.8, 0.85, 0.88), "swin": (0.7, 0.8, 0.9)})
    claim = claims(results)["crossing"]
    assert claim.outcome == "contradicted"
    assert re.match(r"vit leads at n = 50, cnn at n = 1,000, by \d\.\d points", found(claim))


def test_the_table_has_a_row_a_claim_and_the_sentences_follow(planted):
    results = planted["supported"]
    text = verdict_text(results, verdict(results))
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    keys = [line.split(" | ")[0].removeprefix("| ") for line in rows if "claim" not in line and "---" not in line]
    assert keys == list(CLAIMS)
    assert [k for k in re.findall(r"^- `([a-z-]+)` \*\*", text, re.M)] == list(CLAIMS)
    assert text.index("### Caveats") < text.index("| claim |")


# ---- the commands ----


@pytest.fixture
def on_disk(tmp_path):
    _, all_cells, paths = make_study(tmp_path)
    write(every(all_cells, wobbly), paths)
    return tmp_path / "trio.yaml"


def test_the_command_and_the_report_say_the_same(on_disk, vitcnn):
    code, out, err = vitcnn("verdict", on_disk)
    assert (code, err) == (0, "")
    assert vitcnn("report", on_disk)[0] == 0
    report = (on_disk.parent / "results/trio/report.md").read_text(encoding="utf-8")
    assert report.split("## Verdict\n\n")[1].split("## Overfitting")[0].strip() == out.strip()
    assert "`cnn-wins-small` **supported**" in out


def test_another_pair_is_asked_for_by_name(on_disk, vitcnn):
    code, out, _ = vitcnn("verdict", on_disk, "--pair", "swin", "vit")
    assert code == 0
    assert "swin is more accurate than vit" in out
    code, out, err = vitcnn("verdict", on_disk, "--pair", "swin", "vitt")
    assert (code != 0, out) == (True, "")
    assert "did you mean 'vit'" in err


def test_without_records_the_command_says_what_is_missing_and_files_that_are_none_are_named(tmp_path, vitcnn):
    _, _, paths = make_study(tmp_path, text=TRIO)
    paths.records.mkdir(parents=True)
    (paths.records / "0123456789ab.json").write_text("{}")
    code, out, err = vitcnn("verdict", tmp_path / "trio.yaml")
    assert code == 0
    assert "36 of 36 cells missing." in out
    assert "None can be tested: no size has two finished seeds of both cnn and vit." in out
    assert "0123456789ab" in err

"""The verdict's claims: each one's three outcomes, Holm's correction, and sentences that hold the numbers."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from planted import AS_SAID, TRUTHS, claims, drawn, found, one_line, says, without, wobbly
from synthetic import every, make_study, record, write

from vitcnn.analysis.claims import CLAIMS, same_test
from vitcnn.analysis.random_effects import holm
from vitcnn.analysis.reasons import NoWindowedModel
from vitcnn.analysis.results import Results
from vitcnn.analysis.verdict import ALPHA, verdict
from vitcnn.report.verdict import sentence, verdict_text

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
        ((0.8, 0.85, 0.9), (0.6, 0.65, 0.7), r"^No crossing up to n = 1,000\. There cnn leads by (19|2[01])\."),
        ((0.6, 0.78, 0.93), (0.8, 0.85, 0.88), r"^vit leads at n = 50, cnn at n = 1,000, by \d\.\d points"),
    ],
)
def test_where_the_curves_cross_is_said(tmp_path, cnn, vit, pattern):
    claim = claims(drawn(tmp_path, {"cnn": cnn, "vit": vit, "swin": vit}))["crossing"]
    assert re.search(pattern, found(claim)), found(claim)


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

"""A verdict of unfinished or unusual studies: what cannot be said is said, with its reason."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import AS_SAID, TRUTHS, claims, drawn, said, says, without
from synthetic import TRIO, every, make_study

from vitcnn.analysis.axis import N
from vitcnn.analysis.caveats import LeftOut, MissingCells
from vitcnn.analysis.claims import CLAIMS, same_test
from vitcnn.analysis.reasons import FewErrors, FewPlaces, NoSharedPlace, NoVariance, NoWindowedModel, UnequalTestSets
from vitcnn.analysis.results import Results
from vitcnn.analysis.verdict import verdict
from vitcnn.errors import ConfigError
from vitcnn.report.reasons import reason
from vitcnn.report.verdict import verdict_text
from vitcnn.store.records import pack_bits


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
            one, other = fewer[key], whole[key]
            assert (one.effect, one.p, one.places) == (other.effect, other.p, other.places)


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


def test_without_records_the_command_says_what_is_missing_and_files_that_are_none_are_named(tmp_path, vitcnn):
    _, _, paths = make_study(tmp_path, text=TRIO)
    paths.records.mkdir(parents=True)
    (paths.records / "0123456789ab.json").write_text("{}")
    code, out, err = vitcnn("verdict", tmp_path / "trio.yaml")
    assert code == 0
    assert "36 of 36 cells missing." in out
    assert "None can be tested: no size has two finished seeds of both cnn and vit." in out
    assert "0123456789ab" in err

"""What the verdict says of studies that are out of the ordinary: perfect, tied, close together, full of holes."""

import math
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
from synthetic import every, make_study

from vitcnn.analysis import power_law
from vitcnn.analysis.random_effects import Estimate
from vitcnn.analysis.results import Results
from vitcnn.analysis.simulate import Truth, draw
from vitcnn.analysis.verdict import verdict
from vitcnn.report.caveats import caveat
from vitcnn.report.claims import words
from vitcnn.report.format import points, signed
from vitcnn.report.verdict import verdict_text

LEVELS = [0.2, 0.5, 0.8, 0.995, 1.0]


def drawn(folder, accuracy: dict[str, tuple[float, ...]], *overrides: str, images=500, spread=0.02, seed=0) -> Results:
    study, all_cells, _ = make_study(folder, "models=[vit, cnn, linear]", *overrides)
    count = len(study.sizes)
    curves = {e: np.clip(np.array(a[:count]), 1e-9, 1 - 1e-9) for e, a in accuracy.items()}
    truth = Truth(curves, np.full(count, spread), np.full(count, spread), images=images)
    return draw(study, all_cells, truth, np.random.default_rng(seed))


def told(results: Results) -> tuple[dict, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = verdict(results)
        return {claim.key: claim for claim in found.claims}, verdict_text(results, found)


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("cnn", LEVELS)
@pytest.mark.parametrize("vit", LEVELS)
def test_no_sentence_holds_a_number_that_is_none(tmp_path, cnn, vit, seeds):
    """Perfect at the end, among others: there nothing varies."""
    rising = {"cnn": (0.5, (0.5 + cnn) / 2, cnn), "vit": (0.4, vit, vit)}
    _, text = told(drawn(tmp_path, rising, f"seeds={seeds}", images=100))
    assert not re.search(r"\b(nan|inf)\b", text)


def test_where_nothing_varies_there_is_no_interval_in_tokens():
    still = Estimate(2.0, 0.0, 0.0, 3)
    assert points(still) == "2.0 points (no interval: no variance)"
    assert signed(still.value, still.low, still.high) == "+2.0 (no interval: no variance)"


def test_two_sizes_close_together_are_not_told_as_a_doubling(tmp_path):
    """Of [50, 200, 1400, 1437] a doubling was said to bring 1,068 % more errors; of 59,999 and 60,000 it overflowed."""
    close, text = told(drawn(tmp_path, {"cnn": (0.6, 0.7, 0.8, 0.8), "vit": (0.5, 0.6, 0.7, 0.7)},
                             "sizes=[50, 200, 900, 1000]", images=200, spread=0.3))  # fmt: skip
    assert close["cnn-saturates"].unit == "log error"
    assert "From n = 900 to n = 1,000 more data raises" in text or "From n = 900 to n = 1,000 more data lowers" in text
    assert "From n = 900 on it changes by " in text
    assert "doubling" not in text
    far, text = told(drawn(tmp_path, {"cnn": (0.6, 0.7, 0.8), "vit": (0.5, 0.6, 0.7)}))
    assert far["cnn-saturates"].unit == "log error per doubling"
    assert "each doubling of the data lowers" in text


def test_a_tie_has_no_leader(tmp_path):
    study, all_cells, _ = make_study(tmp_path, "models=[vit, cnn]")
    made = every(all_cells, lambda c: 0.5 + 0.01 * c.seed)
    found, _ = told(Results.of(study, all_cells, made))
    assert words(found["cnn-wins-small"])[1] == "At n = 50 neither leads (95 %: -0.9 to 0.9 points)."


def test_sizes_with_other_seeds_are_said_before_what_differs_by_them(tmp_path):
    """At n = 50 the CNN leads by all five seeds, by the three that n = 1,000 has too it is behind."""
    study, all_cells, _ = make_study(tmp_path, "models=[vit, cnn]", "sizes=[50, 1000]", "seeds=5")
    lead = {50: (-0.06, -0.05, -0.055, 0.12, 0.13), 1000: (0.01, 0.02, 0.03, 0, 0)}
    made = every(all_cells, lambda c: 0.5 + (c.model == "cnn") * lead[c.n][c.seed])
    kept = [r for r in made if (r.cell.model, r.cell.n) != ("vit", 1000) or r.cell.seed < 3]
    found, text = told(Results.of(study, all_cells, kept))
    assert "At n = 50 cnn leads by 1.7 points" in words(found["cnn-wins-small"])[1]
    assert "The gap goes from -5.5 points at n = 50" in words(found["gap-closes"])[1]
    assert "- Sizes differ in their finished seeds (5 at n = 50, 3 at n = 1,000). A comparison of two" in text
    assert "Sizes differ" not in told(Results.of(study, all_cells, made))[1]


def test_with_two_sizes_the_change_of_the_lead_is_told_once(tmp_path):
    two = drawn(tmp_path, {"cnn": (0.6, 0.7), "vit": (0.5, 0.6)}, "sizes=[50, 1000]")
    assert words(told(two)[0]["gap-closes"])[1].count("change") == 1


def test_an_end_that_is_decided_against_the_crossing_decides_it_though_the_other_does_not_vary(tmp_path):
    """At n = 50 the ViT leads by 40 points; at n = 200 both get everything right."""
    at = {"cnn": (0.5, 1.0), "vit": (0.9, 1.0)}
    found, _ = told(drawn(tmp_path, at, "sizes=[50, 200]", images=2000))
    assert found["cnn-wins-small"].outcome == found["crossing"].outcome == "contradicted"
    other = {"cnn": (0.9, 1.0), "vit": (0.5, 1.0)}  # the lead as claimed says nothing about the other end
    assert told(drawn(tmp_path, other, "sizes=[50, 200]", images=2000))[0]["crossing"].outcome == "not tested"


def test_where_the_second_leads_already_no_crossing_is_extrapolated(tmp_path):
    crossed = {"cnn": (0.6, 0.65, 0.7, 0.72, 0.74), "vit": (0.5, 0.62, 0.72, 0.76, 0.8)}
    _, text = told(drawn(tmp_path, crossed, "sizes=[50, 100, 200, 400, 1000]", images=2000))
    assert "At n = 1,000 vit already leads, as measured." in text
    assert "xtrapolated" not in text
    behind = crossed | {"vit": (0.4, 0.5, 0.57, 0.62, 0.66)}
    assert "Extrapolated" in told(drawn(tmp_path, behind, "sizes=[50, 100, 200, 400, 1000]", images=2000))[1]


def test_errors_that_do_not_vary_explain_nothing():
    law = power_law.fit([50, 100, 200, 400, 1000], np.zeros(5), np.zeros(5))
    assert math.isnan(law.r2)


def test_claims_whose_place_cannot_be_told_are_decided_all_the_same(tmp_path):
    """Two cells missing, of sizes and seeds that the tests of these claims do not use."""
    at = {"cnn": (0.8, 0.82, 0.84, 0.85), "vit": (0.6, 0.75, 0.83, 0.89)}
    whole = drawn(tmp_path, at, "sizes=[50, 200, 500, 1000]", "seeds=3", images=5000, spread=0.005)
    gone = {("vit", 200, 0), ("cnn", 500, 1)}
    kept = {i: r for i, r in whole.records.items() if (r.cell.model, r.cell.n, r.cell.seed) not in gone}
    before, after = told(whole)[0], told(replace(whole, records=kept))[0]
    for key in ("crossing", "data-multiplier", "gap-closes"):
        assert after[key].outcome == before[key].outcome == "supported", key
    assert "is not estimated: it needs two seeds in common" in words(after["crossing"])[1]


def test_one_of_something_is_said_in_the_singular(tmp_path):
    study, all_cells, _ = make_study(tmp_path, "models=[vit, cnn]", "sizes=[50]")
    made = every(all_cells, lambda c: 0.5 + 0.05 * (c.model == "cnn") + 0.01 * c.seed)
    _, text = told(Results.of(study, all_cells, made[1:]))
    assert "1 of 6 cells missing" in text
    assert re.search(r"over\s+the\s+2\s+claims\s+tested\s+\(data-multiplier", text) is None
    assert re.search(r"over\s+the\s+\d\s+claims\s+tested\.\s", text), text


CHECK = "budget_check={factor: 2, seeds: [0]}"


@pytest.mark.parametrize(("moved", "by_chance"), [(0.03, True), (0.2, False)])
def test_a_shift_that_chance_can_make_is_said_to_be_no_more(tmp_path, moved, by_chance):
    """One seed's gap is held against the mean's interval: five seeds make that narrow, and one seed scatters."""
    study, all_cells, _ = make_study(tmp_path, CHECK, "models=[vit, cnn]", "seeds=5")
    off = {0: 0.0, 1: 0.02, 2: -0.02, 3: 0.02, 4: -0.02}

    def accuracy(cell) -> float:
        return 0.5 + (cell.model == "cnn") * (0.1 + off[cell.seed] + moved * (cell.role == "budget-check"))

    caveats = map(caveat, verdict(Results.of(study, all_cells, every(all_cells, accuracy))).caveats)
    (line, *_) = [text for text in caveats if "udget" in text]
    assert line.startswith("Budget-limited at n = 50: ")
    assert ("but not more than chance between seeds (7.9 points)" in line) == by_chance

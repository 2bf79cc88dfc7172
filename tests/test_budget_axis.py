"""Several budgets in one study: the claims along images seen, and what the report shows of them."""

import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from synthetic import BUDGETS, SEVERAL, every, make_study, write

from vitcnn.analysis.results import Results
from vitcnn.analysis.simulate import Truth, draw
from vitcnn.analysis.verdict import pair_of, verdict
from vitcnn.report.budget import budget_section, map_figure
from vitcnn.report.budget_figures import gap_against_budget, gap_map
from vitcnn.report.claims import words
from vitcnn.report.report import write_report
from vitcnn.report.verdict import verdict_text
from vitcnn.study.matrix import cells

FALLING = np.array([[0.20, 0.15, 0.10], [0.15, 0.05, 0.05], [0.10, 0.05, -0.05]])  # cnn − vit, sizes × budgets
STAYING = np.full((3, 3), 0.1)


def drawn(folder, lead: np.ndarray, *overrides: str, spread: float = 0.02) -> Results:
    study, all_cells, _ = make_study(folder, *overrides, text=SEVERAL, name="budgets")
    level, flat = np.full((3, 3), 0.7), np.full((3, 3), spread)
    truth = Truth({"cnn": level + lead / 2, "vit": level - lead / 2}, own=flat, shared=flat, taste=0.2, images=2000)
    return draw(study, all_cells, truth, np.random.default_rng(0))


@pytest.fixture(scope="module")
def falling(tmp_path_factory) -> Results:
    return drawn(tmp_path_factory.mktemp("falling"), FALLING)


def judged(results: Results) -> dict:
    return {claim.key: claim for claim in verdict(results).claims}


def without(results: Results, lost) -> Results:
    kept = [r for r in results.records.values() if not lost(r.cell)]
    return Results.of(results.study, results.cells, kept)


# ---- the axis ----


def test_along_the_budget_a_place_is_the_images_seen_and_the_baseline_is_at_all_of_them(tmp_path):
    study, all_cells, _ = make_study(
        tmp_path, "budget=[{images_seen: 1300}, {images_seen: 2000}]", text=SEVERAL, name="b"
    )
    results = Results.of(study, all_cells, every(all_cells, lambda c: 0.5 + 0.1 * (c.images_seen > 1500)))
    along = results.along_budget(200)
    assert along.places == (1344, 2048)  # whole batches
    assert [along.axis.name(place) for place in along.places] == ["1,344 images seen", "2,048 images seen"]
    assert [along.mean("vit", place).mean for place in along.places] == pytest.approx([0.5, 0.6])
    assert along.at("linear", 1344) == along.at("linear", 2048) != {}
    assert [r.mean("vit", 200).mean for r in results.budgets()] == pytest.approx([0.5, 0.6])
    assert results.at_largest_budget.axis.name(200) == "n = 200"


def test_with_epochs_the_places_differ_from_n_to_n(tmp_path):
    study, all_cells, _ = make_study(tmp_path, "budget=[{epochs: 4}, {epochs: 64}]", text=SEVERAL, name="b")
    results = Results.of(study, all_cells, [])
    assert [results.along_budget(n).places for n in (50, 1000)] == [(256, 3200), (4032, 64000)]


# ---- claims ----


def test_main_claims_are_those_of_a_study_of_the_largest_budget(falling, tmp_path):
    study, all_cells, _ = make_study(tmp_path, f"budget={{images_seen: {BUDGETS[-1]}}}", text=SEVERAL, name="budgets")
    alone = judged(Results.of(study, all_cells, list(falling.records.values())))
    found = judged(falling)
    assert set(found) - set(alone) == {"gap-closes-budget", "crossing-budget"}
    assert all((found[key].effect, found[key].p) == (alone[key].effect, alone[key].p) for key in alone)


def test_a_gap_that_falls_through_0_along_the_budget_is_found_between_two_budgets(falling):
    found = judged(falling)
    closes, crossing = found["gap-closes-budget"], found["crossing-budget"]
    assert (closes.outcome, crossing.outcome) == ("supported", "supported")
    assert closes.places == (BUDGETS[0], BUDGETS[-1])
    assert closes.effect.value == pytest.approx(15, abs=3)
    (place,) = crossing.found.place.passes
    assert BUDGETS[1] < place < BUDGETS[2]
    assert crossing.found.place.low < place < crossing.found.place.high
    says, what = words(crossing)
    assert says == "At n = 1,000, cnn leads at 1,280 images seen and vit leads at 128,000 images seen."
    assert re.match(r"vit overtakes cnn at ≈ [\d,]+ images seen \(95 %: [\d,]+ to [\d,]+ images seen\)\.", what), what
    says, what = words(closes)
    assert says == "At n = 1,000, from 1,280 to 128,000 images seen the accuracy gap (cnn minus vit) falls."
    assert "points at 1,280 images seen to -" in what


def test_a_gap_that_stays_is_no_crossing(tmp_path):
    found = judged(drawn(tmp_path, STAYING))
    assert found["crossing-budget"].outcome == "contradicted"
    assert found["crossing-budget"].found.place.passes == ()
    assert words(found["crossing-budget"])[1].startswith("No crossing up to 128,000 images seen. There cnn leads by ")
    assert found["gap-closes-budget"].outcome == "undecided"


def test_holm_goes_over_the_larger_family(falling):
    text = " ".join(verdict_text(falling, verdict(falling)).split())
    assert "over the 8 claims tested" in text  # 9 and one that has no Swin-style model
    assert "those that end in -budget" in text
    assert "udget check" not in text


def test_a_missing_cell_of_a_smaller_budget_changes_the_claims_along_the_budget_alone(falling):
    lost = without(falling, lambda c: (c.model, c.n, c.seed) == ("vit", 1000, 0) and c.budget.images_seen == 1_280)
    whole, fewer = judged(falling), judged(lost)
    changed = {key for key in whole if whole[key].effect != fewer[key].effect}
    assert changed == {"gap-closes-budget"}
    assert fewer["gap-closes-budget"].effect.seeds == fewer["crossing-budget"].found.at_small.seeds == 4


def test_without_the_smaller_budgets_the_claims_along_the_budget_are_not_tested(falling):
    only = without(falling, lambda c: c.budget and c.budget.images_seen < BUDGETS[-1])
    found = judged(only)
    assert found["crossing-budget"].outcome == found["gap-closes-budget"].outcome == "not tested"
    assert found["crossing"].effect == judged(falling)["crossing"].effect
    assert "it needs two budgets at n = 1,000" in verdict_text(only, verdict(only))


def test_doubling_every_budget_doubles_the_crossing(falling, tmp_path):
    twice = [f"{{images_seen: {2 * b}}}" for b in BUDGETS]
    other = drawn(tmp_path, FALLING, f"budget=[{', '.join(twice)}]")
    a, b = (pair_of(r.along_budget(1000), "cnn", "vit").crossing() for r in (falling, other))
    assert (*b.passes, b.low, b.high) == pytest.approx((*(2 * n for n in a.passes), 2 * a.low, 2 * a.high))


# ---- the report ----


def hole(cell) -> bool:
    return bool(cell.budget) and (cell.model, cell.n, cell.budget.images_seen) == ("cnn", 200, 12_800)


def test_the_table_has_every_gap_and_what_is_missing(falling):
    text = budget_section(without(falling, hole))
    line = next(line for line in text.splitlines() if line.startswith("| n = 200"))
    assert [cell.strip()[:7] for cell in line.split("|")[2:5]][1] == "missing"
    assert line.count("(5 seeds)") == 2
    assert "1,280 images seen | 12,800 images seen | 128,000 images seen" in text


def test_the_figure_has_a_line_an_n(falling):
    ax = Figure().subplots()
    assert gap_against_budget(ax, without(falling, hole)) is ax
    handles, labels = ax.get_legend_handles_labels()
    assert labels == ["n = 50", "n = 200", "n = 1,000"]
    middle = np.array(handles[1].lines[0].get_ydata(), float)
    assert np.isnan(middle[1])
    assert np.isfinite(middle[[0, 2]]).all()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1.28k", "12.8k", "128k"]


def test_the_map_has_a_number_a_cell_none_where_it_is_missing_and_the_crossing_of_each_row(falling):
    ax = Figure().subplots()
    assert gap_map(ax, without(falling, hole)) is ax
    shown = {text.get_position(): text.get_text() for text in ax.texts if re.match(r"[+-]", text.get_text())}
    assert len(shown) == 8
    gaps = [100 * r.difference("cnn", "vit", n).mean for r in falling.budgets() for n in (50, 200, 1000)]
    assert sorted(shown.values()) == sorted(f"{g:+z.1f}" for k, g in enumerate(gaps) if k != 4)
    beside = [text.get_text() for text in ax.texts if not re.match(r"[+-]", text.get_text())]
    assert beside == ["not reached"] * 2
    (dot,) = [line for line in ax.get_lines() if line.get_marker() == "o"]
    assert 1 < dot.get_xdata()[0] < 2


def test_what_one_seed_says_is_hatched_and_says_so(tmp_path):
    results = drawn(tmp_path, FALLING, "seeds=1")
    ax = gap_map(Figure().subplots(), results)
    assert sum(patch.get_hatch() is not None for patch in ax.patches) == 9
    assert sum("(1 seed)" in text.get_text() for text in ax.texts) == 9
    assert [text.get_text() for text in ax.texts].count("too few seeds") == 3


def test_a_study_of_one_budget_has_no_such_section(tmp_path):
    study, all_cells, paths = make_study(tmp_path, "budget={images_seen: 1280}", text=SEVERAL, name="budgets")
    write(every(all_cells, lambda c: 0.5 + 0.01 * c.seed), paths)
    assert "## Budget" not in write_report(study, all_cells, paths).read_text(encoding="utf-8")
    assert not (paths.report / "map.png").exists()


def test_the_report_of_several_budgets_and_settings(tmp_path):
    settings = "permutation=[{patches: 0}, {patches: 1}]"
    study, all_cells, paths = make_study(tmp_path, settings, "models.vit.permuted=false", text=SEVERAL, name="budgets")
    write(every(all_cells, lambda c: 0.6 + 0.02 * c.seed + 0.1 * (c.model == "cnn")), paths)
    text = write_report(study, all_cells, paths).read_text(encoding="utf-8")
    assert "The study has 3 budgets; this is the largest." in text
    assert [line for line in text.splitlines() if line.startswith("## ")][-2:] == ["## Budget", "## Permutation"]
    assert text.count("vit is trained without permutation (`permuted: false`)") >= 2
    assert all((paths.report / f"{name}.png").stat().st_size > 10_000 for name in ("budget", "map", "permutation"))
    assert len(map_figure(Results.of(study, cells(study), []).settings(), "").axes) == 3  # two panels and their scale

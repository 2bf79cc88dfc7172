"""Means, intervals, gaps and what has to be said first are functions of a study's records and of nothing else."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from synthetic import every, make_study, record

from vitcnn.analysis.budget_check import budget_shifts
from vitcnn.analysis.caveats import AboveBaseline, above_baseline, below_baseline
from vitcnn.analysis.results import Results, overfitting
from vitcnn.analysis.stats import mean, paired
from vitcnn.report.caveats import caveat, shift

LEVELS = {"vit": 0.7, "swin": 0.8, "cnn": 0.9, "linear": 0.6}
WOBBLE = (-0.02, 0.0, 0.04)  # by seed


def usual(cell) -> float:
    """Models far apart, seeds a little: everybody above the baseline."""
    return LEVELS[cell.model] + WOBBLE[cell.seed % 3]


@pytest.fixture(scope="module")
def trio(tmp_path_factory):
    study, all_cells, _ = make_study(tmp_path_factory.mktemp("trio"))
    return study, all_cells, every(all_cells, usual)


# ---- means and intervals ----


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=2, max_size=12), st.sampled_from([0.5, 0.95, 0.99]))
def test_the_interval_is_students(values, level):
    m = mean(values, level)
    assert (m.count, m.level) == (len(values), level)
    assert m.mean == pytest.approx(np.mean(values), abs=1e-15)
    error = stats.sem(values)
    if error > 1e-12:
        low, high = stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=error)
        assert (m.low, m.high) == pytest.approx((low, high))
    assert m.half == pytest.approx((m.high - m.low) / 2)
    assert m.low <= m.mean <= m.high


def test_one_value_has_no_interval():
    m = mean([0.7])
    assert (m.mean, m.count) == (0.7, 1)
    assert all(map(math.isnan, (m.low, m.high, m.half)))


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf, 0.5], [math.nan]])
def test_there_is_no_mean_of_nothing_and_of_what_is_no_number(values):
    with pytest.raises(ValueError, match="no mean"):
        mean(values)


def test_the_interval_over_three_seeds_holds_the_truth_95_times_in_100():
    draws = np.random.default_rng(7).normal(0.7, 0.02, (2000, 3))
    held = [m.low <= 0.7 <= m.high for m in map(mean, draws)]
    assert 0.935 <= np.mean(held) <= 0.965


def test_a_gap_is_taken_over_common_seeds_only():
    assert paired({0: 0.9, 1: 0.8, 5: 0.1}, {1: 0.5, 0: 0.5, 7: 0.9}) == pytest.approx({0: 0.4, 1: 0.3})
    assert list(paired({2: 1.0, 1: 1.0}, {1: 0.0, 2: 0.0})) == [1, 2]
    assert paired({0: 0.9}, {1: 0.9}) == {}


# ---- a study's records in order ----


def test_results_give_mean_seeds_and_measures_of_each_place(trio):
    study, all_cells, records = trio
    results = Results.of(study, all_cells, records)
    assert results.missing == []
    assert results.models == ["vit", "swin", "cnn", "linear"]
    assert results.baseline == "linear"
    assert results.values("vit", 50) == pytest.approx({0: 0.68, 1: 0.7, 2: 0.74})
    m = results.mean("vit", 50)
    assert (m.mean, m.count) == (pytest.approx(2.12 / 3), 3)
    assert results.values("vit", 200, overfitting) == pytest.approx({0: 0.1, 1: 0.1, 2: 0.1})


def test_missing_cells_are_listed_and_have_no_mean(trio):
    study, all_cells, records = trio
    gone = [c.id for c in all_cells if (c.model, c.n) == ("cnn", 200)]
    gone += [c.id for c in all_cells if (c.model, c.n, c.seed) == ("vit", 50, 1)]
    results = Results.of(study, all_cells, [r for r in records if r.id not in gone])
    assert {cell.id for cell in results.missing} == set(gone)
    assert results.mean("cnn", 200) is None
    assert results.gaps(200) == {}
    assert results.mean("vit", 50).count == 2
    assert results.mean("vit", 50).mean == pytest.approx(0.71)


def test_records_of_cells_that_the_study_does_not_ask_for_are_ignored(trio, tmp_path):
    study, all_cells, records = trio
    _, others, _ = make_study(tmp_path, "recipe.lr=0.02", "seeds=[0, 9]")
    strangers = every([c for c in others if c.id not in {c.id for c in all_cells}], lambda _: 0.0)
    assert len(strangers) > 9
    assert Results.of(study, all_cells, strangers).records == {}
    assert Results.of(study, all_cells, strangers + records) == Results.of(study, all_cells, records)


def test_the_gap_is_the_pairs_first_minus_second_by_seed(trio):
    study, all_cells, records = trio
    lost = {c.id for c in all_cells if c.n == 50 and (c.model, c.seed) in (("cnn", 0), ("vit", 2))}
    results = Results.of(study, all_cells, [r for r in records if r.id not in lost])
    assert results.gaps(1000) == pytest.approx({0: 0.2, 1: 0.2, 2: 0.2})
    assert results.gaps(50) == pytest.approx({1: 0.2})


def numbers(results: Results) -> dict:
    sizes, names = results.study.sizes, results.models
    return {(e, n): results.values(e, n) for e in names for n in sizes} | {n: results.gaps(n) for n in sizes}


@given(st.integers(0, 35), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_a_missing_cell_changes_only_its_own_numbers_and_order_changes_none(trio, index, random):
    study, all_cells, records = trio
    whole = numbers(Results.of(study, all_cells, records))
    shuffled = random.sample(records, len(records))
    assert numbers(Results.of(study, all_cells, shuffled)) == whole
    lost = all_cells[index]
    without = numbers(Results.of(study, all_cells, [r for r in shuffled if r.id != lost.id]))
    touched = {(lost.model, lost.n)} | ({lost.n} if lost.model in study.pair else set())
    assert {key for key in whole if whole[key] != without[key]} == touched


# ---- the baseline ----


def test_who_loses_to_the_baseline_is_said_with_name_n_and_both_numbers(tmp_path):
    study, all_cells, _ = make_study(tmp_path)
    records = every(all_cells, lambda c: 0.5 if (c.model, c.n) == ("vit", 1000) else usual(c))
    (below,) = below_baseline(Results.of(study, all_cells, records))
    assert (below.model, below.n, below.own.count) == ("vit", 1000, 3)
    assert "vit is not above the linear baseline at n = 1,000: 50.0% against 60.7% (3 and 3 seeds)" in caveat(below)


def test_the_baseline_is_held_against_the_largest_n_that_both_have_finished(trio):
    study, all_cells, _ = trio
    records = every(all_cells, lambda c: 0.5 if (c.model, c.n) == ("vit", 200) else usual(c))
    assert below_baseline(Results.of(study, all_cells, records)) == []
    late = {c.id for c in all_cells if (c.model, c.n) == ("vit", 1000)}
    (below,) = below_baseline(Results.of(study, all_cells, [r for r in records if r.id not in late]))
    assert below.n == 200


def test_a_draw_with_the_baseline_is_not_above_it(trio):
    study, all_cells, _ = trio
    assert len(below_baseline(Results.of(study, all_cells, every(all_cells, lambda _: 0.7)))) == 3


def test_above_the_baseline_nothing_is_said_nor_without_one_nor_without_records(trio, tmp_path):
    study, all_cells, records = trio
    assert below_baseline(Results.of(study, all_cells, records)) == []
    assert below_baseline(Results.of(study, all_cells, [])) == []
    study, all_cells, _ = make_study(tmp_path, "models=[vit, cnn]")
    assert below_baseline(Results.of(study, all_cells, every(all_cells, lambda _: 0.01))) == []


def test_a_lead_over_the_baseline_that_may_be_chance_is_said_to_be(tmp_path):
    study, all_cells, _ = make_study(tmp_path)
    told = above_baseline(Results.of(study, all_cells, every(all_cells, usual)))
    assert told == AboveBaseline((), None)
    assert caveat(told) == "Every model is above the linear baseline at its largest finished n."
    wild = every(all_cells, lambda c: 0.62 + 5 * WOBBLE[c.seed] if c.model == "vit" else LEVELS[c.model])
    told = caveat(above_baseline(Results.of(study, all_cells, wild)))
    assert told.startswith("Every model is above the linear baseline at its largest finished n. This may be chance")
    assert told.endswith(": vit by +5.3 (95 %: -32.6 to +43.3) points.")


# ---- the budget check ----


def shifts(tmp_path, *overrides: str, moved: float, drop=lambda _: False):
    """The gap is 0.10, 0.11, 0.12 over seeds at n = 50 and 0.20 … at n = 1000; seed 0's longer one is `moved` more."""
    check = "budget_check={factor: 3, seeds: [0]}"
    study, all_cells, _ = make_study(tmp_path, "models=[vit, cnn]", check, *overrides)
    rng, records = np.random.default_rng(0), []
    for cell in all_cells:
        gap = (0.2 if cell.n == 1000 else 0.1) + 0.01 * cell.seed + moved * (cell.role == "budget-check")
        if not drop(cell):
            records.append(record(cell, 0.5 + (gap if cell.model == "cnn" else 0), rng=rng))
    return budget_shifts(Results.of(study, all_cells, records))


HALF = stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3)  # 0.0248: half the interval of the gap's mean


@pytest.mark.parametrize(("moved", "limited"), [(0.02, False), (-0.02, False), (0.03, True), (-0.03, True)])
def test_a_gap_that_moves_more_than_half_its_interval_is_flagged(tmp_path, moved, limited):
    found = shifts(tmp_path, moved=moved)
    assert [(s.n, s.factor, s.seeds, s.limited) for s in found] == [(50, 3, 1, limited), (1000, 3, 1, limited)]
    assert [s.half_interval for s in found] == pytest.approx([HALF, HALF])
    assert [s.gap for s in found] == pytest.approx([0.1, 0.2])
    assert [s.longer for s in found] == pytest.approx([0.1 + moved, 0.2 + moved])


@pytest.mark.parametrize(("moved", "limited"), [(0.01, True), (0.0, False)])
def test_of_several_seeds_a_move_is_held_against_what_moves_it_from_seed_to_seed(tmp_path, moved, limited):
    """Every seed's gap moves by the same but for an image: a tenth of half the interval would be seen."""
    found = shifts(tmp_path, "budget_check.seeds=[0,1,2]", moved=moved)
    assert [(s.seeds, s.limited) for s in found] == [(3, limited)] * 2
    assert all(s.chance < 0.008 < HALF for s in found)
    judged = "This is within half the width of its interval, but more than chance, paired by seed"
    assert all((judged in shift(s)) == limited for s in found)


def test_one_seed_gives_no_interval_to_hold_a_gap_against(tmp_path):
    assert [s.limited for s in shifts(tmp_path, "seeds=1", moved=0.3)] == [None, None]


def test_a_budget_check_is_silent_where_its_cells_are_unfinished(tmp_path, trio):
    assert shifts(tmp_path, moved=0.1, drop=lambda c: c.role == "budget-check" and c.model == "vit") == []
    assert [s.n for s in shifts(tmp_path, moved=0.1, drop=lambda c: c.n == 1000 and c.role == "main")] == [50]
    assert budget_shifts(Results.of(*trio)) == []

"""Which gap the seeds can find: held against simulated studies, and said in one sentence."""

import math

import numpy as np
import pytest
from scipy import stats
from synthetic import every, make_study, write

from vitcnn.analysis.power import detectable_gaps
from vitcnn.analysis.results import Results
from vitcnn.analysis.stats import detectable, deviation

# ---- the smallest gap ----


def found(gap: float, spread: float, count: int, level: float = 0.95) -> float:
    """How often a two-sided paired t test over `count` seeds finds a gap, with the right sign: of 200,000 studies."""
    draws = np.random.default_rng(count).normal(gap, spread, (200_000, count))
    t, p = stats.ttest_1samp(draws, 0, axis=1)
    return np.mean((p < 1 - level) & (t > 0))


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_a_gap_of_the_size_said_is_found_four_times_in_five(count):
    assert found(detectable(0.013, count), 0.013, count) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(("level", "power"), [(0.99, 0.8), (0.95, 0.5), (0.8, 0.95)])
def test_level_and_power_are_those_asked_for(level, power):
    assert found(detectable(1.0, 4, level, power), 1.0, 4, level) == pytest.approx(power, abs=0.01)


@pytest.mark.parametrize("count", [2, 3, 30])
def test_the_gap_grows_with_the_spread_in_proportion(count):
    assert detectable(0.02, count) == pytest.approx(2 * detectable(0.01, count))
    assert detectable(0.0, count) == 0
    assert math.isnan(detectable(math.nan, count))


def test_more_seeds_find_smaller_gaps_and_many_those_of_the_normal_distribution():
    gaps = [detectable(1.0, count) for count in range(2, 40)]
    assert gaps == sorted(gaps, reverse=True)
    assert detectable(1.0, 10_000) == pytest.approx((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) / 100, rel=1e-3)


@pytest.mark.parametrize("count", [0, 1])
def test_below_two_seeds_there_is_none(count):
    assert math.isnan(detectable(0.01, count))


@pytest.mark.parametrize(("values", "expected"), [([0.1, 0.3], 0.02**0.5), ([1, 2, 3, 4], (5 / 3) ** 0.5)])
def test_the_deviation_is_the_samples(values, expected):
    assert deviation(values) == pytest.approx(expected)
    assert math.isnan(deviation(values[:1]))


# ---- the sentence ----

GAPS = {50: (0.10, 0.14, 0.12), 200: (0.2, 0.2, 0.2), 1000: (0.3, 0.24, 0.27)}  # cnn − vit, by n and seed


def accuracy(cell) -> float:
    return 0.5 + (GAPS[cell.n][cell.seed] if cell.entrant == "cnn" else 0)


def said(folder, *overrides: str, keep=lambda _: True) -> str:
    study, all_cells, _ = make_study(folder, *overrides)
    finished = every([c for c in all_cells if c.seed < 3 and keep(c)], accuracy)
    return detectable_gaps(Results.of(study, all_cells, finished))


def points(spread: float, seeds: int) -> str:
    """Of one test, and of one of seven."""
    return f"{100 * detectable(spread, seeds):.1f} ({100 * detectable(spread, seeds, 1 - 0.05 / 7):.1f})"


ONE_OF = "(t test, 5 %; in brackets: as one of the verdict's 7 tests, at worst)"


def test_the_sentence_gives_the_gap_at_each_size_in_points(tmp_path):
    assert said(tmp_path) == (
        f"3 seeds find a gap cnn − vit four times in five {ONE_OF} if it has, in points, "
        f"{points(0.02, 3)} at n = 50, 0.0 (0.0) at n = 200, {points(0.03, 3)} at n = 1,000 or more; "
        "by the spread of the 3 seeds finished so far."
    )
    assert points(0.02, 3) != points(0.03, 3)


def test_the_gap_is_that_of_the_seeds_asked_for_by_the_spread_of_those_finished(tmp_path):
    sentence = said(tmp_path, "seeds=8", keep=lambda c: c.n == 50)
    assert sentence.startswith("8 seeds find")
    assert f"in points, {points(0.02, 8)} at n = 50 or more" in sentence
    assert sentence.endswith("by the spread of the 3 seeds finished so far.")


def test_sizes_with_one_common_seed_are_left_out_and_unlike_numbers_of_seeds_are_said(tmp_path):
    sentence = said(tmp_path, keep=lambda c: {50: True, 200: c.seed == 0, 1000: c.entrant == "vit" or c.seed}[c.n])
    assert (
        f"in points, {points(0.02, 3)} at n = 50, {points(deviation([0.24, 0.27]), 3)} at n = 1,000 or more" in sentence
    )
    assert "n = 200" not in sentence
    assert sentence.endswith("by the spread of the 2 or 3 seeds finished so far.")


def test_the_pair_is_the_studys(tmp_path):
    assert said(tmp_path, "pair=[local, vit]").startswith("3 seeds find a gap local − vit")


@pytest.mark.parametrize("keep", [lambda _: False, lambda c: c.seed == 0, lambda c: c.entrant == "cnn" or c.seed == 1])
def test_where_no_two_seeds_of_the_pair_are_finished_it_says_what_it_takes(tmp_path, keep):
    assert said(tmp_path, keep=keep) == (
        "Which gap 3 seeds can find is not known yet: it takes two finished seeds of cnn and vit at one size."
    )


def test_one_seed_finds_no_gap_whatever_is_finished(tmp_path):
    one_seed = "One seed: no gap can be told from chance; give two seeds or more."
    assert said(tmp_path, "seeds=1") == said(tmp_path, "seeds=[2]", keep=lambda _: False) == one_seed


# ---- vitcnn plan ----


def test_plan_says_it_before_and_after_the_first_seeds(vitcnn, tmp_path):
    _, all_cells, places = make_study(tmp_path)
    code, out, _ = vitcnn("plan", "trio.yaml")
    assert code == 0
    assert "Which gap 3 seeds can find is not known yet" in out
    write(every(all_cells, accuracy), places)
    code, out, _ = vitcnn("plan", "trio.yaml", "seeds=5")
    assert code == 0
    assert f"5 seeds find a gap cnn − vit four times in five {ONE_OF} if it has, in points, {points(0.02, 5)}" in out
    assert out.rstrip().endswith("by the spread of the 3 seeds finished so far.")


def test_plan_is_silent_about_a_gap_where_the_pair_is_not_in_the_study(vitcnn, tmp_path):
    make_study(tmp_path, "seeds=1")
    code, out, _ = vitcnn("plan", "trio.yaml", "entrants=[vit, local]")
    assert code == 0
    assert "seed" not in out.lower()

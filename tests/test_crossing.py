"""Where one learning curve meets another: found where it was planted, and open where the sizes cut it off."""

import math
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import make_study

from vitcnn.analysis.claims import describe_multiplier
from vitcnn.analysis.crossing import Lines, grid, interpolation, invert
from vitcnn.analysis.evidence import Evidence, NotEnough, Number
from vitcnn.analysis.pair import Pair
from vitcnn.analysis.simulate import Truth, draw
from vitcnn.analysis.twoway import Sample
from vitcnn.analysis.words import interval

SIZES = [50, 100, 200, 400]
SORTED = st.lists(st.integers(1, 10**6), min_size=2, max_size=8, unique=True).map(sorted)


def sample(means: list[float], noise: float = 0.004, seeds: int = 4) -> Sample:
    """Numbers with these means over seeds, exactly, and a spread of `noise`."""
    spread = np.random.default_rng(0).standard_normal((seeds, len(means)))
    spread = (spread - spread.mean(0)) / spread.std(0, ddof=1)
    return Sample.of(np.array(means) + noise * spread)


def passes(means: list[float], noise: float = 0.004):
    """Where the straight lines through the means at `SIZES` pass 0."""
    axis = grid(SIZES)
    return invert(sample(means, noise), axis, interpolation(SIZES, axis))


def evidence(folder, sizes: list[int], *, spread=0.01, seed=0, seeds=5, images=1000, **curves) -> Evidence:
    """Records of cnn and vit with true accuracies `curves`, drawn."""
    study, all_cells, _ = make_study(folder, f"sizes={sizes}", f"seeds={seeds}", "entrants=[vit, cnn]")
    flat = np.full(len(sizes), 4 * spread)
    truth = Truth({e: np.array(c) for e, c in curves.items()}, own=flat, shared=flat, images=images)
    return Evidence(draw(study, all_cells, truth, np.random.default_rng(seed)))


# ---- straight lines over log n ----


@given(SORTED, st.floats(0, 1))
def test_the_weights_sum_to_1_and_give_a_straight_line_over_log_n_back(sizes, share):
    n = sizes[0] ** (1 - share) * sizes[-1] ** share
    weights = interpolation(sizes, [n])[0]
    assert weights.sum() == pytest.approx(1)
    assert np.count_nonzero(weights) <= 2
    assert weights.min() >= -1e-9
    assert weights @ np.log(sizes) == pytest.approx(math.log(n), abs=1e-9)


@given(SORTED)
def test_at_a_measured_size_its_own_value_counts_and_no_other(sizes):
    assert interpolation(sizes, sizes).tolist() == np.eye(len(sizes)).tolist()


@given(SORTED)
def test_the_axis_rises_from_the_first_size_to_the_last_and_holds_each(sizes):
    axis = grid(sizes)
    assert (axis[0], axis[-1]) == (sizes[0], sizes[-1])
    assert all(a < b for a, b in pairwise(axis))
    assert all(np.isclose(axis, n, rtol=1e-12).any() for n in sizes)


# ---- where the sum passes 0 ----


@pytest.mark.parametrize("place", [60, 100, 141.4, 390])
@pytest.mark.parametrize("noise", [0.004, 1e-6])
def test_a_planted_crossing_is_found_at_its_place(place, noise):
    found = passes([0.1 * math.log(place / n) for n in SIZES], noise)
    assert found.value == pytest.approx(place, rel=1e-6)
    assert not found.excluded
    assert (found.low or 0) <= place * (1 + 1e-9) and place <= (found.high or 1e9) * (1 + 1e-9)  # noqa: PT018
    assert (found.high or 400) / (found.low or 50) < 1.3


def test_the_place_is_read_off_the_straight_line_between_two_sizes():
    assert passes([0.3, 0.1, -0.1, -0.1]).value == pytest.approx(100 * math.sqrt(2))
    assert passes([0.3, 0.1, -0.3, -0.1]).value == pytest.approx(100 * 2**0.25)


def test_the_interval_is_every_n_at_which_the_paired_test_does_not_reject():
    means = [0.03, 0.01, -0.004, -0.03]
    found, numbers = passes(means, 0.01), sample(means, 0.01)
    ends = [numbers.estimate(interpolation(SIZES, [n])[0]) for n in (found.low, found.high)]
    assert all(e.p >= 0.05 for e in ends)
    beyond = [numbers.estimate(interpolation(SIZES, [n])[0]) for n in (found.low / 1.02, found.high * 1.02)]
    assert all(e.p < 0.05 for e in beyond)


@pytest.mark.parametrize(
    ("means", "value", "low", "high", "excluded", "says"),
    [
        ([0.1, 0.08, 0.04, 0.001], False, True, False, False, "or more, open to the right"),
        ([0.1, 0.08, 0.04, -0.001], True, True, False, False, "or more, open to the right"),
        ([0.001, -0.05, -0.1, -0.1], True, False, True, False, "or less, open to the left"),
        ([-0.001, -0.05, -0.1, -0.1], False, False, True, False, "or less, open to the left"),
        ([0.001, -0.001, 0.001, -0.001], True, False, False, False, "open on both sides"),
        ([0.1, 0.05, -0.05, -0.1], True, True, True, False, " to "),
        ([0.1, 0.1, 0.1, 0.1], False, False, False, True, ""),
        ([-0.1, -0.1, -0.1, -0.1], False, False, False, True, ""),
    ],
)
def test_what_the_sizes_cut_off_is_open(means, value, low, high, excluded, says):
    found = passes(means)
    assert (found.value is not None, found.low is not None, found.high is not None) == (value, low, high)
    assert found.excluded == excluded
    assert says in interval(found)


def test_where_nothing_varies_nothing_is_excluded():
    found = passes([0.1, 0.05, -0.05, -0.1], noise=0.0)
    assert found.value == pytest.approx(100 * math.sqrt(2))
    assert (found.low, found.high, found.excluded) == (None, None, False)


def test_passing_0_from_below_is_no_overtaking_and_of_two_the_last_counts():
    assert passes([-0.1, -0.05, 0.05, 0.1]).value is None
    assert passes([0.1, -0.1, 0.1, -0.1]).value == pytest.approx(200 * math.sqrt(2))


def test_a_higher_level_gives_a_wider_interval():
    axis = grid(SIZES)
    weights = interpolation(SIZES, axis)
    numbers = sample([0.1, 0.05, -0.05, -0.1])
    wide, narrow = invert(numbers, axis, weights, 0.99), invert(numbers, axis, weights, 0.8)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high
    assert wide.value == narrow.value


# ---- of records ----

FALLING = {"cnn": [0.75, 0.78, 0.80, 0.81], "vit": [0.65, 0.74, 0.84, 0.89]}


def test_a_crossing_of_drawn_records_is_near_the_truths_and_its_mirror_is_none(tmp_path):
    known = evidence(tmp_path, SIZES, seeds=10, spread=0.005, **FALLING)
    found = Lines.of(known, "cnn", "vit", SIZES).crossing()
    assert found.low < 100 * math.sqrt(2) < found.high
    assert found.value == pytest.approx(100 * math.sqrt(2), rel=0.15)
    mirror = Lines.of(known, "vit", "cnn", SIZES).crossing()
    assert (mirror.value, mirror.low, mirror.high) == (None, found.low, found.high)


@pytest.mark.parametrize("seed", range(4))
def test_doubling_every_n_doubles_the_crossing_and_leaves_the_multiplier_alone(tmp_path, seed):
    small = evidence(tmp_path, SIZES, seed=seed, **FALLING)
    large = evidence(tmp_path, [2 * n for n in SIZES], seed=seed, **FALLING)
    a, b = (
        Lines.of(small, "cnn", "vit", SIZES).crossing(),
        Lines.of(large, "cnn", "vit", [2 * n for n in SIZES]).crossing(),
    )
    assert (b.value, b.low, b.high) == pytest.approx((2 * a.value, 2 * a.low, 2 * a.high))
    a, b = (
        Lines.of(small, "cnn", "vit", SIZES).multiplier(50),
        Lines.of(large, "cnn", "vit", [2 * n for n in SIZES]).multiplier(100),
    )
    assert (b.value, b.low, b.high) == pytest.approx((a.value, a.low, a.high))


@pytest.mark.parametrize("times", [1, 2, 4])
def test_a_curve_that_needs_so_many_times_the_images_has_that_multiplier(tmp_path, times):
    def curve(n):
        return 0.6 + 0.05 * math.log2(n / 50)

    curves = {"cnn": [curve(n) for n in SIZES], "vit": [curve(n / times) for n in SIZES]}
    known = evidence(tmp_path, SIZES, seeds=10, spread=0.001, images=40_000, seed=1, **curves)
    found = Lines.of(known, "cnn", "vit", SIZES).multiplier(100 if times < 4 else 50)
    assert found.value == pytest.approx(times, rel=0.1)
    assert found.low < times < found.high


def test_the_same_records_under_two_names_have_multiplier_1(tmp_path):
    known = evidence(tmp_path, SIZES, **FALLING)
    for n in SIZES[1:]:
        assert Lines.of(known, "cnn", "cnn", SIZES).multiplier(n).value == pytest.approx(1)


def test_only_seeds_that_every_size_has_count_and_two_are_needed(tmp_path):
    known = evidence(tmp_path, SIZES, seeds=3, **FALLING)
    records = known.results.records
    for cell in known.results.cells:
        if (cell.entrant, cell.n, cell.seed) in {("cnn", 50, 0), ("vit", 400, 1)}:
            del records[cell.id]
    with pytest.raises(NotEnough, match=r"1 are finished \(2 of cnn at n = 50, 3 of cnn at n = 100"):
        Lines.of(Evidence(known.results), "cnn", "vit", SIZES).crossing()


# ---- in words ----

LOW, HIGH = [0.5, 0.55, 0.6, 0.65], [0.8, 0.85, 0.9, 0.95]


@pytest.mark.parametrize(
    ("cnn", "vit", "n", "says"),
    [
        (
            [0.7, 0.8, 0.85, 0.9],
            [0.6, 0.7, 0.8, 0.85],
            50,
            r"(1\.9|2\.\d) times the images \(95 %: 1\.\d to 2\.\d t",
        ),
        (HIGH, LOW, 50, r"more than 8\.0 times the images \(as many were measured: not enough\)"),
        (HIGH, LOW, 200, r"more than 2\.0 times"),
        (LOW, HIGH, 50, r"no more than 1\.0 times the images\.$"),
        (LOW, HIGH, 200, r"no more than 0\.2 times the images\.$"),
        ([0.7] * 4, [0.725] * 4, 50, r"no more than 1\.0 times the images \(95 %: open on both sides\)\.$"),
        ([0.71] * 4, [0.7] * 4, 50, r"on average, more than 8\.0 times the images \(95 %: open on both sides\)\.$"),
    ],
)
def test_how_many_times_the_images_is_said_in_the_right_direction(tmp_path, cnn, vit, n, says):
    known = evidence(tmp_path, SIZES, cnn=cnn, vit=vit, spread=0.02 if cnn[0] == cnn[1] else 0.01)
    said = describe_multiplier(Pair(known, "cnn", "vit", tuple(SIZES), None), n)
    assert re.search(rf"^For what cnn reaches with n = {n}, vit needs,? {says}", said), said


def test_a_number_of_a_seed_is_its_accuracy_the_log_of_its_error_or_train_minus_test(tmp_path):
    known = evidence(tmp_path, SIZES, **FALLING)
    records = known.results.at("vit", 100)
    numbers = [Number("vit", 100), Number("vit", 100, "log error"), Number("vit", 100, "overfitting")]
    means = [known.sample([[(1.0, x)]]).mean[0] for x in numbers]
    accuracy = np.array([r.test.accuracy for r in records.values()])
    expected = [accuracy.mean(), np.log(((1 - accuracy) * 1000 + 0.5) / 1001).mean(), 1 - accuracy.mean()]
    assert means == pytest.approx(expected)


@pytest.mark.parametrize("scale", ["accuracy", "log error", "overfitting"])
def test_the_influence_of_an_image_is_what_leaving_it_out_changes(tmp_path, scale):
    """The jackknife's: N − 1 times the value with all images minus the value without one."""
    known = evidence(tmp_path, SIZES, **FALLING)
    record = known.results.at("vit", 100)[0]
    wrong, N = ~record.test.correct(), 1000

    def value(error: float, images: int) -> float:
        return {"accuracy": -error, "overfitting": error, "log error": math.log((error * images + 0.5) / (images + 1))}[
            scale
        ]

    without = [value((wrong.sum() - w) / (N - 1), N - 1) for w in (False, True)]
    jackknife = [(N - 1) * (value(wrong.mean(), N) - v) for v in without]
    number = Number("vit", 100, scale)
    influence = known._slope(number, 0) * known._wrong(number, 0)
    assert influence[wrong][0] - influence[~wrong][0] == pytest.approx(jackknife[1] - jackknife[0], rel=0.01)

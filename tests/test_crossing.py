"""Where one learning curve meets another: found where it was planted, and open where the sizes cut it off."""

import math
from itertools import pairwise

import numpy as np
import pytest
from curves import FALLING, SIZES, evidence, lines, without

from vitcnn.analysis.crossing import Crossing, Stretch, invert
from vitcnn.analysis.evidence import NotEnough, Number
from vitcnn.analysis.random_effects import Sample
from vitcnn.report.format import interval


def sample(means: list[float], noise: float = 0.004, seeds: int = 4) -> Sample:
    """Numbers with these means over seeds, exactly, and a spread of `noise`."""
    spread = np.random.default_rng(0).standard_normal((seeds, len(means)))
    spread = (spread - spread.mean(0)) / spread.std(0, ddof=1)
    return Sample.of(np.array(means) + noise * spread)


def stretches(numbers: Sample) -> list[Stretch]:
    """Between the numbers of a sample, one at each of `SIZES`."""
    return [Stretch(numbers.part(slice(k, k + 2)), ends) for k, ends in enumerate(pairwise(SIZES))]


def passes(means: list[float], noise: float = 0.004, level: float = 0.95) -> Crossing:
    """Where the straight lines through the means at `SIZES` pass 0."""
    return invert(stretches(sample(means, noise)), level)


# ---- where the sum passes 0 ----


@pytest.mark.parametrize("place", [60, 100, 141.4, 390])
@pytest.mark.parametrize("noise", [0.004, 1e-6])
def test_a_planted_crossing_is_found_at_its_place(place, noise):
    found = passes([0.1 * math.log(place / n) for n in SIZES], noise)
    assert found.passes == pytest.approx((place,), rel=1e-6)
    assert not found.excluded
    assert (found.low or 0) <= place * (1 + 1e-9) and place <= (found.high or 1e9) * (1 + 1e-9)  # noqa: PT018
    assert (found.high or 400) / (found.low or 50) < 1.3


def test_the_place_is_read_off_the_straight_line_between_two_sizes():
    assert passes([0.3, 0.1, -0.1, -0.1]).passes == pytest.approx((100 * math.sqrt(2),))
    assert passes([0.3, 0.1, -0.3, -0.1]).passes == pytest.approx((100 * 2**0.25,))


@pytest.mark.parametrize("noise", [0.01, 0.001, 0.0001])
def test_the_interval_ends_where_the_paired_test_just_rejects(noise):
    means = [0.03, 0.01, -0.004, -0.03]
    found = passes(means, noise)
    for n in (found.low, found.high):
        (stretch,) = [s for s in stretches(sample(means, noise)) if s.ends[0] <= n < s.ends[1]]
        share = math.log(n / stretch.ends[0]) / math.log(stretch.ends[1] / stretch.ends[0])
        assert stretch.sample.estimate([1 - share, share]).p == pytest.approx(0.05, rel=1e-6)
    assert found.low < found.passes[0] < found.high


@pytest.mark.parametrize(
    ("means", "value", "low", "high", "excluded", "says"),
    [
        ([0.1, 0.08, 0.04, 0.001], False, True, False, False, "or more, upper end not measured"),
        ([0.1, 0.08, 0.04, -0.001], True, True, False, False, "or more, upper end not measured"),
        ([0.001, -0.05, -0.1, -0.1], True, False, True, False, "or less, lower end not measured"),
        ([-0.001, -0.05, -0.1, -0.1], False, False, True, False, "or less, lower end not measured"),
        ([0.001, -0.001, 0.001, -0.001], True, False, False, False, "neither end measured"),
        ([0.1, 0.05, -0.05, -0.1], True, True, True, False, " to "),
        ([0.1, 0.1, 0.1, 0.1], False, False, False, True, ""),
        ([-0.1, -0.1, -0.1, -0.1], False, False, False, True, ""),
    ],
)
def test_what_the_sizes_cut_off_is_open(means, value, low, high, excluded, says):
    found = passes(means)
    assert (bool(found.passes), found.low is not None, found.high is not None) == (value, low, high)
    assert found.excluded == excluded
    assert says in interval(found)


def test_where_nothing_varies_nothing_is_excluded():
    found = passes([0.1, 0.05, -0.05, -0.1], noise=0.0)
    assert found.passes == pytest.approx((100 * math.sqrt(2),))
    assert (found.low, found.high, found.excluded) == (None, None, False)


def test_every_turn_is_known_and_passing_0_from_below_is_no_overtaking():
    up = passes([-0.1, -0.05, 0.05, 0.1])
    assert (up.turns, up.passes) == (pytest.approx((100 * math.sqrt(2),)), ())
    assert (up.ahead, up.above) == (False, True)
    thrice = passes([0.1, -0.1, 0.1, -0.1])
    assert thrice.turns == pytest.approx([n * math.sqrt(2) for n in (50, 100, 200)])
    assert thrice.passes == pytest.approx([n * math.sqrt(2) for n in (50, 200)])
    assert (thrice.ahead, thrice.above) == (True, False)
    behind = passes([-0.1, 0.1, -0.1, -0.2])
    assert behind.passes == pytest.approx((100 * math.sqrt(2),))


def test_a_higher_level_gives_a_wider_interval():
    means = [0.1, 0.05, -0.05, -0.1]
    wide, narrow = passes(means, level=0.99), passes(means, level=0.8)
    assert wide.low < narrow.low < narrow.passes[0] < narrow.high < wide.high
    assert wide.passes == narrow.passes


@pytest.mark.parametrize(("seeds", "spread"), [(10, 0.004), (3, 0.002)])
def test_the_interval_covers_a_steep_crossing_as_often_as_it_says(seeds, spread):
    """However precise the study: 0.74 of the intervals did, of precise ones, that ended on points of a grid."""
    rng, inside, means = np.random.default_rng(0), [], np.array([0.2, 0.1, -0.1, -0.3])
    for _ in range(400):
        found = invert(stretches(Sample.of(means + spread * rng.standard_normal((seeds, 4)))))
        inside.append(found.low <= 100 * math.sqrt(2) <= found.high)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.035)


def test_a_crossing_of_drawn_records_is_near_the_truths_and_its_mirror_is_none(tmp_path):
    known = evidence(tmp_path, SIZES, seeds=10, spread=0.005, **FALLING)
    found = lines(known, "cnn", "vit").crossing()
    assert found.low < 100 * math.sqrt(2) < found.high
    assert found.passes == pytest.approx((100 * math.sqrt(2),), rel=0.15)
    mirror = lines(known, "vit", "cnn").crossing()
    assert (mirror.passes, mirror.turns, mirror.low, mirror.high) == ((), found.turns, found.low, found.high)


@pytest.mark.parametrize("seed", range(4))
def test_doubling_every_n_doubles_the_crossing_and_leaves_the_multiplier_alone(tmp_path, seed):
    small = evidence(tmp_path, SIZES, seed=seed, **FALLING)
    large = evidence(tmp_path, [2 * n for n in SIZES], seed=seed, **FALLING)
    a, b = (
        lines(small, "cnn", "vit").crossing(),
        lines(large, "cnn", "vit", [2 * n for n in SIZES]).crossing(),
    )
    assert (*b.passes, b.low, b.high) == pytest.approx((*(2 * n for n in a.passes), 2 * a.low, 2 * a.high))
    a, b = (
        lines(small, "cnn", "vit").multiplier(50),
        lines(large, "cnn", "vit", [2 * n for n in SIZES]).multiplier(100),
    )
    assert (*b.passes, b.low, b.high) == pytest.approx((*a.passes, a.low, a.high))


@pytest.mark.parametrize("multiple", [1, 2, 4])
def test_a_curve_that_needs_so_many_times_the_images_has_that_multiplier(tmp_path, multiple):
    def curve(n):
        return 0.6 + 0.05 * math.log2(n / 50)

    curves = {"cnn": [curve(n) for n in SIZES], "vit": [curve(n / multiple) for n in SIZES]}
    known = evidence(tmp_path, SIZES, seeds=10, spread=0.001, images=40_000, seed=1, **curves)
    found = lines(known, "cnn", "vit").multiplier(100 if multiple < 4 else 50)
    assert found.passes == pytest.approx((multiple,), rel=0.1)
    assert found.low < multiple < found.high


def test_the_same_records_under_two_names_have_multiplier_1(tmp_path):
    known = evidence(tmp_path, SIZES, **FALLING)
    for n in SIZES[1:]:
        assert lines(known, "cnn", "cnn").multiplier(n).passes[0] == pytest.approx(1)


def test_a_cell_that_is_missing_elsewhere_costs_a_crossing_nothing(tmp_path):
    known = evidence(tmp_path, SIZES, seeds=4, spread=0.001, images=20_000, **FALLING)
    holes = without(known, {("cnn", 400, 0), ("vit", 400, 1), ("vit", 200, 2)})
    with pytest.raises(NotEnough, match=r"common=1"):
        lines(holes, "cnn", "vit").crossing()
    holes = without(known, {("cnn", 400, 0)})
    assert lines(holes, "cnn", "vit").crossing() == lines(known, "cnn", "vit").crossing()


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

"""Where one learning curve meets another: found where it was planted, and open where the sizes cut it off."""

import math
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from synthetic import make_study

from vitcnn.analysis.crossing import Crossing, Stretch, invert
from vitcnn.analysis.crossing_claims import crossing, multiple
from vitcnn.analysis.evidence import Evidence, Number
from vitcnn.analysis.pair import Pair
from vitcnn.analysis.random_effects import Sample
from vitcnn.analysis.reasons import NotEnough, SeedsDisagree
from vitcnn.analysis.simulate import Truth, draw
from vitcnn.analysis.verdict import verdict
from vitcnn.report import claims
from vitcnn.report.claims import words
from vitcnn.report.format import interval, times
from vitcnn.store.records import pack_bits

SIZES = [50, 100, 200, 400]


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


def evidence(folder, sizes: list[int], *, spread=0.01, seed=0, seeds=5, images=1000, **curves) -> Evidence:
    """Records of cnn and vit with true accuracies `curves`, drawn."""
    study, all_cells, _ = make_study(folder, f"sizes={sizes}", f"seeds={seeds}", "models=[vit, cnn]")
    flat = np.full(len(sizes), 4 * spread)
    truth = Truth({e: np.array(c) for e, c in curves.items()}, own=flat, shared=flat, images=images)
    return Evidence(draw(study, all_cells, truth, np.random.default_rng(seed)))


def lines(known: Evidence, first: str, second: str, sizes: list[int] = SIZES) -> Pair:
    return Pair(known, first, second, tuple(sizes), None)


def with_accuracy(known: Evidence, cell: tuple[str, int, int], accuracy: float) -> Evidence:
    """One cell's network right on so many of the test images, the first of them."""
    far = next(c for c in known.results.cells if (c.model, c.n, c.seed) == cell)
    record = known.results.records[far.id]
    right = np.arange(record.test.images) < accuracy * record.test.images
    test = record.test.model_copy(update={"accuracy": accuracy, "bits": pack_bits(right)})
    records = {**known.results.records, far.id: record.model_copy(update={"test": test})}
    return Evidence(replace(known.results, records=records))


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


# ---- of records ----

FALLING = {"cnn": [0.75, 0.78, 0.80, 0.81], "vit": [0.65, 0.74, 0.84, 0.89]}


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


def without(known: Evidence, gone: set[tuple[str, int, int]]) -> Evidence:
    """The same records but those of some (model, n, seed)."""
    cells = {cell.id: cell for cell in known.results.cells}
    kept = {i: r for i, r in known.results.records.items() if (cells[i].model, cells[i].n, cells[i].seed) not in gone}
    return Evidence(replace(known.results, records=kept))


def test_a_cell_that_is_missing_elsewhere_costs_a_crossing_nothing(tmp_path):
    known = evidence(tmp_path, SIZES, seeds=4, spread=0.001, images=20_000, **FALLING)
    holes = without(known, {("cnn", 400, 0), ("vit", 400, 1), ("vit", 200, 2)})
    with pytest.raises(NotEnough, match=r"common=1"):
        lines(holes, "cnn", "vit").crossing()
    holes = without(known, {("cnn", 400, 0)})
    assert lines(holes, "cnn", "vit").crossing() == lines(known, "cnn", "vit").crossing()


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
        (HIGH, LOW, 50, r"more than 8\.0 times the images, the largest multiple measured\."),
        (HIGH, LOW, 200, r"more than 2\.0 times"),
        (LOW, HIGH, 50, r"no more than 1\.0 times the images\.$"),
        (LOW, HIGH, 200, r"no more than 0\.25 times the images\.$"),
        ([0.7] * 4, [0.725] * 4, 50, r"no more than 1\.0 times the images \(95 %: neither end measured\)\.$"),
        (
            [0.7, 0.75, 0.8, 0.8],
            [0.78, 0.7, 0.6, 0.6],
            50,
            r"no more than 1\.0 times the images\. With more images it fa",
        ),
        (
            [0.7] * 4,
            [0.65, 0.75, 0.65, 0.9],
            50,
            r"1\.\d times the images \(95 %: 1\.\d to .*\)\. With more images it",
        ),
        ([0.71] * 4, [0.7] * 4, 50, r"on average, more than 8\.0 times the images \(95 %: neither end measured\)\.$"),
    ],
)
def test_how_many_times_the_images_is_said_in_the_right_direction(tmp_path, cnn, vit, n, says):
    known = evidence(tmp_path, SIZES, cnn=cnn, vit=vit, spread=0.02 if cnn[0] == cnn[1] else 0.01)
    said = claims.multiple("cnn", "vit", multiple(lines(known, "cnn", "vit"), n))
    assert re.search(rf"^To match cnn at n = {n}, vit needs,? {says}", said), said


@pytest.mark.parametrize(
    ("value", "plain", "up", "down"),
    [(2.04, "2.0", "2.1", "2.0"), (1.1, "1.1", "1.1", "1.1"), (0.25, "0.25", "0.25", "0.25"),
     (1234.56, "1,234.6", "1,234.6", "1,234.5"), (0.0101, "0.010", "0.011", "0.010")],
)  # fmt: skip
def test_a_multiple_has_digits_enough_and_a_bound_is_rounded_to_its_safe_side(value, plain, up, down):
    assert (times(value), times(value, math.ceil), times(value, math.floor)) == (plain, up, down)


def met(known: Evidence) -> str:
    return words(crossing(lines(known, "cnn", "vit")))[1]


@pytest.mark.parametrize(
    ("cnn", "vit", "says"),
    [
        ([0.6, 0.7, 0.8, 0.85], [0.65, 0.65, 0.65, 0.9],
         r"^vit leads at n = 50, falls behind, and overtakes cnn at n ≈ 3\d\d \(95 %: .*; the interval covers"),
        ([0.7, 0.7, 0.7, 0.7], [0.6, 0.8, 0.6, 0.8], r"^vit overtakes cnn for the last time at n ≈ 2\d\d \("),
        ([0.7, 0.7, 0.7, 0.7], [0.6, 0.8, 0.8, 0.6], r"^vit overtakes cnn at n ≈ 7\d \(.*\. At n = 400 cnn leads a"),
        ([0.7, 0.7, 0.7, 0.7], [0.8, 0.8, 0.6, 0.6], r"^vit leads at n = 50, cnn at n = 400, by (9|10)\."),
    ],
)  # fmt: skip
def test_curves_that_meet_more_than_once_are_not_told_as_one_crossing(tmp_path, cnn, vit, says):
    said = met(evidence(tmp_path, SIZES, cnn=cnn, vit=vit))
    assert re.search(says, said), said


@pytest.mark.parametrize(
    ("cnn", "vit", "says"),
    [
        ([0.7, 0.7, 0.7, 0.7], [0.6, 0.6, 0.6, 0.7], r"^cnn leads at n = 50 by 10\.0.*, neither leads at n = 400\.$"),
        ([0.7, 0.7, 0.7, 0.7], [0.6, 0.7, 0.6, 0.6], r"^(No crossing up to n = 400. There cnn|cnn) leads"),
        (
            [0.7, 0.7, 0.7, 0.7],
            [0.7, 0.8, 0.8, 0.8],
            r"^neither leads at n = 50, vit leads at n = 400 by 10\.0[^;]*\.$",
        ),
        ([0.7, 0.7, 0.7, 0.7], [0.6, 0.8, 0.8, 0.7], r", neither leads at n = 400. The lead changes at n ≈ 71\.$"),
    ],
)
def test_a_tie_is_nobodys_lead_and_touching_is_no_overtaking(tmp_path, cnn, vit, says):
    known = evidence(tmp_path, SIZES, seeds=2, cnn=cnn, vit=vit)
    for accuracies, name in ((cnn, "cnn"), (vit, "vit")):
        for n, accuracy in zip(SIZES, accuracies, strict=True):
            for seed in (0, 1):
                known = with_accuracy(known, (name, n, seed), accuracy + 0.01 * seed)
    said = met(known)
    assert re.search(says, said), said
    assert "overtakes" not in said


def test_where_seeds_are_missing_the_place_is_left_out_and_the_ends_are_told(tmp_path):
    known = evidence(tmp_path, SIZES, seeds=3, **FALLING)
    holes = without(known, {("cnn", 100, 0), ("vit", 200, 1)})
    said = met(holes)
    assert said.startswith("cnn leads at n = 50 by ")
    assert ", vit leads at n = 400 by " in said
    assert ". Where they cross is not estimated: it needs two seeds in common, and 1 is finished (" in said
    judged = verdict(holes.results, ("cnn", "vit"))
    outcomes = {claim.key: claim for claim in judged.claims}
    assert outcomes["crossing"].effect is not None
    assert "How many times the images vit needs" in words(outcomes["data-multiplier"])[1]


def test_ends_that_other_seeds_would_turn_round_are_no_crossing(tmp_path):
    """Of three seeds one is far off, and missing at the other size: the two that both have say the contrary."""
    known = evidence(tmp_path, [50, 400], seeds=3, images=20_000, spread=0.001, cnn=[0.7, 0.7], vit=[0.68, 0.72])
    holes = without(with_accuracy(known, ("vit", 50, 2), 0.95), {("cnn", 400, 2)})
    assert crossing(lines(holes, "cnn", "vit", [50, 400])).found.why == SeedsDisagree()


def test_a_size_at_which_two_seeds_differ_leaves_a_meeting_open_that_nobody_saw(tmp_path):
    """The interval ends before the largest n, which the curves are said to reach apart: it says what it is."""
    known = evidence(tmp_path, SIZES, seeds=2, spread=0.001, cnn=[0.9] * 4, vit=[0.5, 0.6, 0.6, 0.7])
    uneven = with_accuracy(known, ("vit", 200, 0), 0.85)
    unseen = r"An earlier crossing is not excluded \(95 %: n = 1\d\d to 3\d\d\)\.$"
    assert re.search(rf"^No crossing up to n = 400\. There cnn leads by .*\. {unseen}", met(uneven))
    assert met(known).startswith("No crossing up to n = 400. There cnn leads")
    said = claims.multiple("cnn", "vit", multiple(lines(uneven, "cnn", "vit"), 50))
    assert re.search(r"more than 8\.0 times the images \(95 %: \d.* times, not excluded there", said)


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

"""Intervals over seeds and test images at once, held against Student's t and against data whose variances are known."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from vitcnn.analysis.random_effects import Estimate, Sample, holm

FINITE = st.floats(-1, 1, allow_subnormal=False)


def effects(rng, *shape: int, between: float, images: float, rest: float) -> tuple[np.ndarray, np.ndarray]:
    """Values (studies, S) and influences (studies, S, N): a seed's effect, an image's, and what is left, each drawn
    with its deviation; a value is the mean of its influences."""
    *first, S, N = shape
    by_seed = between * rng.standard_normal((*first, S, 1))
    by_image = images * rng.standard_normal((*first, 1, N))
    influence = by_seed + by_image + rest * rng.standard_normal((*first, S, N))
    return influence.mean(-1), influence


def one_number(values: np.ndarray, influence: np.ndarray) -> Sample:
    return Sample.of(values[:, None], influence[:, None, :])


# ---- seeds alone: Student's t ----


@settings(deadline=None, max_examples=60)
@given(st.lists(FINITE, min_size=2, max_size=12), st.sampled_from([0.8, 0.95, 0.99]))
def test_without_a_part_of_the_images_it_is_students_t(values, level):
    assume(np.std(values) > 1e-6)
    e = Sample.of(np.array(values)[:, None]).estimate([1.0], level)
    test = stats.ttest_1samp(values, 0)
    assert (e.seeds, e.level, e.image_share) == (len(values), level, 0.0)
    assert e.value == pytest.approx(np.mean(values), abs=1e-12)
    assert (e.low, e.high) == pytest.approx(tuple(test.confidence_interval(level)), abs=1e-9)
    if test.pvalue > 1e-9:
        assert e.p == pytest.approx(test.pvalue, rel=1e-4)


def test_a_weighted_sum_of_numbers_is_the_paired_test_of_that_sum():
    first, second, third = values = np.random.default_rng(0).normal(0.5, 0.1, (3, 4))
    e = Sample.of(values.T).estimate([1.0, -2.0, 0.5])
    test = stats.ttest_1samp(first - 2 * second + 0.5 * third, 0)
    assert (e.low, e.high) == pytest.approx(tuple(test.confidence_interval()))
    assert e.p == pytest.approx(test.pvalue, rel=1e-6)


def test_one_seed_and_numbers_that_are_none_are_refused():
    with pytest.raises(ValueError, match="1 seeds"):
        Sample.of(np.ones((1, 1)))
    for wrong in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite"):
            Sample.of(np.array([[0.1], [wrong]]))


@pytest.mark.parametrize("images", [None, "alike", "zero"])
def test_where_nothing_varies_there_is_no_interval_and_no_p(images):
    influence = None if images is None else np.full((3, 1, 50), 0.5 if images == "alike" else 0.0)
    e = Sample.of(np.full((3, 1), 0.25), influence).estimate([1.0])
    assert (e.value, e.se, e.image_share) == (0.25, 0.0, 0.0)
    assert all(map(math.isnan, (e.half, e.low, e.high, e.p)))


# ---- the images' part ----


def test_with_the_same_value_of_all_seeds_the_images_alone_give_students_interval():
    right = np.tile([1.0, 0.0, 0.0, 0.0], (3, 25))
    e = one_number(right.mean(1), right).estimate([1.0])
    se = right[0].std(ddof=1) / 10
    assert (e.image_share, e.se) == pytest.approx((1.0, se))
    assert (e.low, e.high) == pytest.approx(stats.t.interval(0.95, 99, 0.25, se))
    assert e.p == pytest.approx(2 * stats.t.sf(0.25 / se, 99), rel=1e-4)


@pytest.mark.parametrize("seeds", [2, 3, 6])
def test_the_images_variance_is_that_which_was_planted_whatever_else_varies(seeds):
    """The divisors N, S and S N in the wrong places are off by a third or more at N = 3, and by half at S = 2."""
    rng, N, studies = np.random.default_rng(1), 3, 3000
    values, influence = effects(rng, studies, seeds, N, between=1.0, images=2.0, rest=3.0)
    samples = [one_number(v, i) for v, i in zip(values, influence, strict=True)]
    found = np.array([s.image_cov[0, 0] for s in samples])
    assert found.mean() == pytest.approx(4 / N, abs=4 * found.std() / math.sqrt(studies))
    assert found.std() / math.sqrt(studies) < 0.08  # so that the line above can fail
    assert np.mean([s.seed_cov[0, 0] for s in samples]) == pytest.approx(1 + 9 / N, rel=0.1)


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_standard_error_is_the_spread_of_the_means_of_many_studies(seeds):
    values, influence = effects(np.random.default_rng(2), 4000, seeds, 20, between=0.5, images=2.0, rest=2.0)
    variances = [one_number(v, i).estimate([1.0]).se ** 2 for v, i in zip(values, influence, strict=True)]
    assert np.mean(variances) == pytest.approx(values.mean(1).var(ddof=1), rel=0.08)
    assert np.mean(variances) == pytest.approx(0.25 / seeds + 4 / 20 + 4 / (20 * seeds), rel=0.05)


def test_the_images_share_is_the_one_planted():
    values, influence = effects(np.random.default_rng(3), 60, 3000, between=0.05, images=3.0, rest=1.0)
    images, seeds = 9 / 3000, (0.05**2 + 1 / 3000) / 60
    assert one_number(values, influence).estimate([1.0]).image_share == pytest.approx(
        images / (images + seeds), abs=0.02
    )


def test_bits_without_a_shared_image_effect_give_the_images_no_share():
    rng, shares = np.random.default_rng(4), []
    for _ in range(40):
        bits = (rng.random((20, 2000)) < rng.normal(0.8, 0.03, (20, 1))).astype(float)
        shares.append(one_number(bits.mean(1), bits).estimate([1.0]).image_share)
    assert np.mean(shares) < 0.05
    assert np.mean(np.array(shares) == 0) > 0.3  # an estimate below 0 counts as none


def test_the_covariance_between_two_numbers_counts_too():
    """Two models that find the same images hard: their difference has less of the images' variance than each."""
    rng = np.random.default_rng(5)
    hard = rng.standard_normal(2000)
    influence = hard + 0.1 * rng.standard_normal((3, 2, 2000))
    sample = Sample.of(rng.normal(0.5, 0.01, (3, 2)), influence)
    assert sample.image_cov[0, 1] == pytest.approx(1 / 2000, rel=0.15)
    assert sample.estimate([1, -1]).se ** 2 < sample.estimate([1, 1]).se ** 2 / 3
    own = one_number(sample.mean[0] + np.zeros(3), influence[:, 0] - influence[:, 1])
    assert sample.estimate([1, -1]).image_share * sample.estimate([1, -1]).se ** 2 == pytest.approx(
        max(0.0, own.image_cov[0, 0]), abs=1e-12
    )


@settings(deadline=None, max_examples=40)
@given(st.floats(0.01, 1), st.floats(0.01, 5), st.floats(1.1, 10), st.integers(4, 20))
def test_more_variance_of_the_images_makes_an_interval_longer(seeds, images, factor, count):
    """From four seeds on; at three the interval may shrink by 0.4 % where the images begin to count (t > 2 z)."""
    sample = Sample(np.array([0.3]), np.array([[seeds]]), np.array([[images]]), count)
    wider = replace(sample, image_cov=factor * sample.image_cov)
    assert wider.estimate([1]).half > sample.estimate([1]).half
    assert wider.estimate([1]).image_share > sample.estimate([1]).image_share


@given(st.floats(0.01, 1), st.floats(0, 5))
def test_with_three_seeds_images_never_shorten_an_interval_by_more_than_half_a_percent(seeds, images):
    alone = Sample(np.array([0.3]), np.array([[seeds]]), np.zeros((1, 1)), 3)
    with_images = replace(alone, image_cov=np.array([[images]]))
    assert with_images.estimate([1]).half > 0.995 * alone.estimate([1]).half


# ---- critical value and p ----

ESTIMATES = st.builds(Estimate, st.floats(-3, 3), st.floats(0.05, 2), st.floats(0, 1), st.integers(2, 30))


@settings(deadline=None, max_examples=80)
@given(ESTIMATES)
def test_the_critical_value_lies_between_the_normal_and_students(e):
    z, t = stats.norm.ppf(0.975), stats.t.ppf(0.975, e.seeds - 1)
    assert z - 1e-9 <= e.half / e.se <= t + 1e-9
    seeds_alone = t * math.sqrt(1 - e.image_share)  # adding images never makes an interval shorter
    assert e.half / e.se == pytest.approx(max(t - e.image_share * (t - z), seeds_alone))


@settings(deadline=None, max_examples=60)
@given(ESTIMATES, st.sampled_from([0.05, 0.01, 0.2]))
def test_the_interval_leaves_out_0_exactly_where_p_is_small(e, alpha):
    at = replace(e, level=1 - alpha)
    assume(abs(abs(at.value) - at.half) > 1e-9)
    assert (at.low > 0 or at.high < 0) == (at.p < alpha)
    assert 0 < at.p <= 1
    if e.p > 1e-9:  # below, levels run out of digits
        assert replace(e, level=1 - e.p).half == pytest.approx(abs(e.value), rel=1e-3, abs=1e-6)


def test_p_has_no_sign_and_falls_with_distance_from_0():
    values = [0.0, 0.001, 0.5, 1, 2, 5, 50, 1e6]
    p = [Estimate(v, 1.0, 0.3, 3).p for v in values]
    assert p == sorted(p, reverse=True)
    assert p[0] == 1
    assert p[:6] == [Estimate(-v, 1.0, 0.3, 3).p for v in values[:6]]


# ---- coverage ----


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("between", "images"), [(0.2, 0.0), (0.1, 1.0), (0.02, 1.0)])
def test_95_of_100_intervals_hold_the_truth(seeds, between, images):
    """Its truth is 0, for new seeds and new images. 0.93 to 0.98: Cochran's value is a little long between its ends."""
    values, influence = effects(np.random.default_rng(seeds), 2000, seeds, 60, between=between, images=images, rest=0.3)
    estimates = [one_number(v, i).estimate([1.0]) for v, i in zip(values, influence, strict=True)]
    assert 0.93 <= np.mean([e.low <= 0 <= e.high for e in estimates]) <= 0.98


def test_seeds_alone_would_hold_it_far_too_rarely_where_images_matter():
    values, influence = effects(np.random.default_rng(6), 500, 5, 60, between=0.02, images=1.0, rest=0.3)
    both = [one_number(v, i).estimate([1.0]) for v, i in zip(values, influence, strict=True)]
    alone = [Sample.of(v[:, None]).estimate([1.0]) for v in values]
    held = [np.mean([e.low <= 0 <= e.high for e in some]) for some in (both, alone)]
    assert held[0] > 0.92
    assert held[1] < 0.75


# ---- Holm ----


def test_holm_as_worked_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02, 0.02]) == pytest.approx([0.04, 0.04])
    assert holm([0.6, 0.01]) == pytest.approx([0.6, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


def test_what_has_no_p_is_not_counted():
    adjusted = holm([math.nan, 0.02, math.nan, 0.04])
    assert adjusted[1::2] == pytest.approx([0.04, 0.04])
    assert all(map(math.isnan, adjusted[::2]))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_holm_raises_every_p_keeps_their_order_and_never_exceeds_bonferroni(p, random):
    adjusted = holm(p)
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))
    assert all(a <= min(1, len(p) * b) + 1e-12 for a, b in zip(adjusted, p, strict=True))
    assert [adjusted[i] for i in np.argsort(p, kind="stable")] == sorted(adjusted)
    assert min(adjusted) == pytest.approx(min(1, len(p) * min(p)))
    order = random.sample(range(len(p)), len(p))
    assert holm([p[i] for i in order]) == pytest.approx([adjusted[i] for i in order])

"""Power laws are found again, held to what was measured, and asked no further than ten times the largest n."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from synthetic import every, make_study

from vitcnn.analysis import power_law
from vitcnn.analysis.power_law import Law, beyond, curves, fit
from vitcnn.analysis.results import Results

SIZES = [50, 100, 200, 400, 1000]


def law(a: float, b: float, c: float) -> Law:
    return Law(a, b, c, 0.0, 0.0, ())


def results(folder, sizes=SIZES, seeds: int = 3, spread: float = 0.002, **known: Law) -> Results:
    """Records whose errors follow the laws but for a seed's part, another for each model and n."""
    study, all_cells, _ = make_study(folder, f"sizes={sizes}", f"seeds={seeds}", "models=[vit, cnn]")
    luck = spread * np.random.default_rng(0).standard_normal((2, seeds, len(sizes)))
    luck -= luck.mean(1, keepdims=True)
    records = []
    for record in every(all_cells, lambda _: 0.5):
        place = ["cnn", "vit"].index(record.cell.model), record.cell.seed, sizes.index(record.cell.n)
        exact = 1 - known[record.cell.model].error(record.cell.n) + luck[place]
        test = record.test.model_copy(update={"accuracy": float(exact)})
        records.append(record.model_copy(update={"test": test}))
    return Results.of(study, all_cells, records)


# ---- one law ----


@settings(deadline=None, max_examples=25)
@given(st.floats(0.5, 4), st.floats(0.2, 0.8), st.floats(0.0, 0.2))
def test_a_law_is_found_again_from_points_on_it(a, b, c):
    errors = law(a, b, c).error(SIZES)
    assume(errors.max() < 1)
    found = fit(SIZES, errors, np.full(5, 0.001))
    assert found.error(SIZES) == pytest.approx(errors, abs=1e-4)
    assert found.worst < 1e-4
    assert found.off == ()
    assert found.r2 > 0.999
    assert (found.a, found.b, found.c) == pytest.approx((a, b, c), rel=0.05, abs=0.01)


def test_below_five_sizes_none_is_fitted(tmp_path):
    with pytest.raises(ValueError, match="4 of the 5 sizes that a fit needs"):
        fit(SIZES[:4], law(1, 0.5, 0).error(SIZES[:4]), np.full(4, 0.01))
    with pytest.raises(ValueError, match="4 of the 5 sizes"):
        curves(results(tmp_path, SIZES[:4], cnn=law(1, 0.5, 0), vit=law(2, 0.5, 0)), "cnn", "vit")


def test_an_error_that_falls_faster_and_faster_has_an_asymptote_of_0_and_no_less():
    found = fit(SIZES, law(1, 0.3, 0).error(SIZES) - 0.08, np.full(5, 0.001))
    assert 0 <= found.c < 1e-6
    assert (found.a > 0, found.b >= 0) == (True, True)


def test_an_error_that_does_not_fall_has_a_flat_law():
    for errors in (np.full(5, 0.3), np.linspace(0.3, 0.4, 5), np.zeros(5), np.ones(5)):
        found = fit(SIZES, errors, np.full(5, 0.01))
        assert all(map(math.isfinite, (found.a, found.b, found.c, found.worst)))
        assert math.isnan(found.r2) == (errors.std() == 0)
        assert found.error(1000) == pytest.approx(found.error(50), abs=0.02)
        assert found.error(1000) == pytest.approx(errors.mean(), abs=0.02)


def test_an_error_that_vanishes_within_a_few_sizes_has_a_law_too():
    sizes, errors = [850, 880, 910, 950, 1000], np.array([0.1, 0.04, 0.02, 0.003, 0.0])
    assert fit(sizes, errors, np.full(5, 0.01)).error(sizes) == pytest.approx(errors, abs=0.05)


@pytest.mark.parametrize("off", range(1, 6))
def test_a_size_off_the_law_is_named_and_how_far_it_is(off):
    sizes = [50, 100, 200, 400, 800, 1000, 2000, 4000]
    errors, se = law(1.5, 0.5, 0.05).error(sizes), np.full(8, 0.002)
    errors[off] += 0.002 * 6
    found = fit(sizes, errors, se)
    assert sizes[off] in found.off
    away = np.abs(found.error(sizes) - errors)
    assert found.worst == pytest.approx(away.max())
    assert found.off == tuple(n for n, d in zip(sizes, away, strict=True) if d >= 3 * 0.002)


def test_sizes_known_well_pull_the_law_more_than_sizes_known_badly():
    errors = law(1.5, 0.5, 0.05).error(SIZES)
    errors[-1] += 0.02
    sure, unsure = (fit(SIZES, errors, np.array([0.002] * 4 + [last])) for last in (0.0002, 0.2))
    assert abs(sure.error(1000) - errors[-1]) < 0.002
    assert abs(unsure.error(1000) - errors[-1]) > 0.015


# ---- two, beyond the largest n ----

EARLY, LATE = law(1, 0.5, 0.10), law(3, 0.5, 0.06)  # meet where 2 n^-0.5 = 0.04: at n = 2,500


def test_the_crossing_of_two_laws_is_where_they_are_equal():
    assert beyond(EARLY, LATE, 1000) == pytest.approx(2500, rel=1e-6)
    assert beyond(EARLY, LATE, 250) == pytest.approx(2500, rel=1e-6)


@pytest.mark.parametrize("largest", [249, 100])
def test_none_is_said_beyond_ten_times_the_largest_n(largest):
    assert beyond(EARLY, LATE, largest) is None


@pytest.mark.parametrize("largest", [2501, 10_000])
def test_none_is_said_inside_the_sizes_that_were_measured(largest):
    assert beyond(EARLY, LATE, largest) is None


def test_the_first_overtaking_the_second_is_another_question():
    assert beyond(LATE, EARLY, 1000) is None


def test_the_crossing_of_records_on_two_laws_is_found_and_its_range_holds_it(tmp_path):
    found = curves(results(tmp_path, cnn=EARLY, vit=LATE), "cnn", "vit")
    assert found.crossing == pytest.approx(2500, rel=0.05)
    assert (found.first.b, found.second.c) == pytest.approx((0.5, 0.06), abs=0.01)
    low, high = found.range
    assert 1000 < low <= found.crossing
    assert high is None or found.crossing <= high <= 10_000
    assert 0.9 <= found.share <= 1


@pytest.mark.parametrize("seeds", [2, 4])
def test_resampling_seeds_gives_the_same_each_time(tmp_path, monkeypatch, seeds):
    monkeypatch.setattr(power_law, "RESAMPLES", 10)
    given_ = results(tmp_path, seeds=seeds, spread=0.01, cnn=EARLY, vit=LATE)
    assert curves(given_, "cnn", "vit") == curves(given_, "cnn", "vit")


def test_more_spread_between_seeds_gives_a_wider_range(tmp_path):
    both = [results(tmp_path, seeds=2, spread=s, cnn=EARLY, vit=LATE) for s in (0.0005, 0.003)]
    (a, b), (c, d) = [curves(r, "cnn", "vit").range for r in both]
    assert c < a <= (b or math.inf) < (d or math.inf) or (c < a and d is None)


def test_resamples_in_which_the_second_is_ahead_already_count_as_crossed_and_not_as_never(tmp_path):
    """The laws meet at n = 1,010; the seeds' luck moves that to both sides of the largest n."""
    near = law(1, 0.5, 0.06 + 2 * 1010**-0.5)
    found = curves(results(tmp_path, spread=0.003, cnn=near, vit=LATE), "cnn", "vit")
    assert found.share == 1
    assert found.range[0] == 1000
    assert 1000 < found.range[1] < 3000


def test_the_range_of_an_extrapolated_crossing_holds_the_true_one_nearly_always():
    """What seeds scatter by is drawn anew 12 times; resampling whole seeds held it 4 times of two seeds."""
    n, rng, held = np.array(SIZES), np.random.default_rng(1), []
    truth = {"cnn": EARLY.error(n), "vit": LATE.error(n)}
    for _ in range(12):
        drawn = {e: 1 - error - 0.003 * rng.standard_normal((2, len(n))) for e, error in truth.items()}
        told = SimpleNamespace(
            study=SimpleNamespace(sizes=SIZES),
            values=lambda e, size, drawn=drawn: dict(enumerate(drawn[e][:, SIZES.index(size)])),
        )
        low, high = curves(told, "cnn", "vit").range
        held.append((low is None or low <= 2500) and (high is None or high >= 2500) and low is not None)
    assert sum(held) >= 10


def test_curves_that_stay_apart_have_no_crossing_and_no_share(tmp_path):
    found = curves(results(tmp_path, cnn=law(1, 0.5, 0.05), vit=law(3, 0.5, 0.05)), "cnn", "vit")
    assert (found.crossing, found.range, found.share) == (None, (None, None), 0.0)


def test_only_seeds_with_every_size_of_both_count_and_two_are_needed(tmp_path):
    whole = results(tmp_path, spread=0.01, cnn=EARLY, vit=LATE)
    lost = {c.id for c in whole.cells if (c.model, c.n, c.seed) == ("vit", 200, 1)}
    kept = [r for r in whole.records.values() if r.id not in lost]
    two = curves(Results.of(whole.study, whole.cells, kept), "cnn", "vit")
    without = [r for r in whole.records.values() if r.cell.seed != 1]
    assert two == curves(Results.of(whole.study, whole.cells, without), "cnn", "vit")
    fewer = [r for r in kept if not (r.cell.model == "cnn" and r.cell.n == 50 and r.cell.seed == 0)]
    with pytest.raises(ValueError, match="1 of the 2 seeds with every size of both"):
        curves(Results.of(whole.study, whole.cells, fewer), "cnn", "vit")

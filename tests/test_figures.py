"""Every figure draws on the axes it is given, what is there and nothing else."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from synthetic import every, make_study

from vitcnn.analysis.results import Results
from vitcnn.errors import ConfigError
from vitcnn.report import figures
from vitcnn.report.figures import (
    accuracy_against_n,
    gap_against_n,
    overfitting_against_n,
    panels,
    style,
    training_curves,
)

LEVELS = {"vit": 0.5, "swin": 0.8, "cnn": 0.9, "linear": 0.6}


def missing(cell) -> bool:
    return (cell.model, cell.n) == ("cnn", 200)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    study, all_cells, _ = make_study(tmp_path_factory.mktemp("figures"), "budget_check={factor: 4}")
    records = every(all_cells, lambda c: LEVELS[c.model] + 0.02 * c.seed + 0.05 * (c.role == "budget-check"))
    return Results.of(study, all_cells, [r for r in records if not missing(r.cell)])


@pytest.fixture
def ax():
    return Figure(figsize=(3, 2)).subplots()


def drawn(ax) -> dict[str, tuple[list[float], list[float]]]:
    """(x, y) of every model's line, by its name in the legend."""
    handles, labels = ax.get_legend_handles_labels()
    lines = [getattr(handle, "lines", [handle])[0] for handle in handles]
    return {label: (list(line.get_xdata()), list(line.get_ydata())) for label, line in zip(labels, lines, strict=True)}


@pytest.mark.parametrize("draw", [accuracy_against_n, gap_against_n, overfitting_against_n])
def test_a_figure_returns_the_axes_it_was_given_with_or_without_records(results, ax, draw):
    assert draw(ax, results) is ax
    assert ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["50", "200", "1k"]
    assert ax.get_ylabel()
    empty = Figure().subplots()
    assert draw(empty, Results.of(results.study, results.cells, [])) is empty
    assert drawn(empty) == {}


def test_accuracy_is_drawn_as_the_mean_at_every_finished_n_and_nowhere_else(results, ax):
    lines = drawn(accuracy_against_n(ax, results))
    assert list(lines) == ["vit", "swin", "cnn", "linear"]
    for name, (x, y) in lines.items():
        expected = [LEVELS[name] + 0.02] * 3
        expected[1] = np.nan if name == "cnn" else expected[1]
        assert y == pytest.approx(expected, nan_ok=True)
        assert x == pytest.approx([50, 200, 1000], rel=0.05)
    assert 0 <= ax.get_ylim()[0] < 0.5
    assert 0.94 < ax.get_ylim()[1] <= 1


def test_every_seed_is_a_point(results, ax):
    accuracy_against_n(ax, results)
    faint = [line for line in ax.get_lines() if line.get_alpha() and line.get_alpha() < 1]
    points = sorted(y for line in faint for y in line.get_ydata())
    seeds = (results.values(e, n).values() for e in results.models for n in results.study.sizes)
    assert points == pytest.approx(sorted(y for values in seeds for y in values))


def test_the_gap_is_in_points_with_the_longer_training_beside_it(results, ax):
    lines = drawn(gap_against_n(ax, results))
    assert lines["gap"] == ([50, 200, 1000], pytest.approx([40, np.nan, 40], nan_ok=True))
    assert lines["4× the training"][1] == pytest.approx([40, 40])
    joined = [s for lines in ax.collections for s in lines.get_segments() if len(s) and s[0][0] < s[1][0]]
    assert np.array(joined).ravel() == pytest.approx([50, 40, 54, 40, 1000, 40, 1080, 40])
    assert ax.get_ylabel().startswith("cnn − vit")


def test_curves_have_a_panel_a_size_and_a_line_a_seed(results):
    axes = list(Figure(figsize=(6, 2)).subplots(1, 3))
    assert training_curves(axes, results) is axes
    assert [ax.get_title() for ax in axes] == ["n = 50", "n = 200", "n = 1,000"]
    seeds = [[len(lines.get_segments()) for lines in ax.collections] for ax in axes]
    assert seeds == [[3, 3, 3], [3, 3], [3, 3, 3]]  # three trained models × three seeds
    assert [len(ax.get_lines()) for ax in axes] == [1, 1, 1]  # and the baseline
    x, y = axes[0].collections[0].get_segments()[0].T
    assert x[-1] == 1280
    assert axes[0].get_xlim()[0] < x[0] < x[-1] < axes[0].get_xlim()[1]
    assert np.all(np.diff(y) > 0)


def test_panels_and_sizes_must_be_as_many(results):
    with pytest.raises(ValueError, match="argument"):
        training_curves(list(Figure().subplots(1, 2)), results)


def test_a_model_looks_the_same_everywhere_and_unlike_the_others(results):
    looks = [tuple(sorted(style(results, name).items())) for name in results.models]
    assert len(set(looks)) == 4
    assert style(results, "linear")["linestyle"] == "--"


@pytest.mark.parametrize("name", ["_vit", "vit $^$ 2", "vit|16", "ViT 100 %"])
def test_any_name_that_a_study_accepts_can_be_drawn_and_is_in_the_legend(tmp_path, ax, name):
    try:
        study, all_cells, _ = make_study(tmp_path, f"models={{{name!r}: {{arch: vit}}}}", "sizes=[50]", "seeds=1")
    except ConfigError:
        return
    accuracy_against_n(ax, Results.of(study, all_cells, every(all_cells, lambda _: 0.5)))
    assert list(drawn(ax)) == [name]
    FigureCanvasAgg(ax.figure).draw()


@pytest.mark.parametrize(("n", "text"), [(50, "50"), (1000, "1k"), (1500, "1.5k"), (60_000, "60k"), (2e6, "2M")])
def test_large_sizes_are_written_short(n, text):
    assert figures.thousands(n) == text


def test_many_sizes_share_nine_panels_that_reach_both_ends():
    sizes = [100 * (k + 1) for k in range(20)]
    shown = panels(sizes)
    assert (len(shown), shown[0], shown[-1]) == (9, 100, 2000)
    assert shown == sorted(set(shown))
    assert panels(sizes[:4]) == sizes[:4]


# ---- crowds and long names ----


@pytest.mark.parametrize(("count", "places"), [(2, [50, 200]), (12, [40_000, 45_000]), (20, [200, 300, 1000])])
def test_lines_side_by_side_stay_nearer_to_their_own_n_than_to_the_next_and_inside_the_axes(count, places):
    beside = figures.apart(count, places)
    assert beside == sorted(beside)
    assert np.prod(beside) == pytest.approx(1)
    near = min(b / a for a, b in itertools.pairwise(places))
    assert beside[-1] / beside[0] < near
    assert 1 / 1.3 < beside[0] <= beside[-1] < 1.3


def test_names_of_any_length_leave_room_for_the_axes_and_for_each_other(tmp_path):
    names = {f"{name} {'x' * 70}": {"arch": name} for name in ("vit", "cnn")}
    names |= {f"vit {k}": {"arch": "vit", "width": 8 * k, "heads": 1} for k in range(1, 19)}
    pair = list(names)[:2]
    study, all_cells, _ = make_study(tmp_path, f"models={names}", f"pair={pair}", "sizes=[50, 200]", "seeds=2")
    results = Results.of(study, all_cells, every(all_cells, lambda _: 0.5))
    for draw in (accuracy_against_n, gap_against_n):
        fig = figures.figure_for([figures.short(name) for name in results.models])
        ax = draw(fig.subplots(), results)
        canvas = FigureCanvasAgg(fig)
        canvas.draw()
        assert ax.bbox.width > 0.4 * fig.bbox.width
        shown = filter(None, (ax.yaxis.label, ax.get_legend()))
        for box in (artist.get_window_extent() for artist in shown):
            assert fig.bbox.x0 <= box.x0
            assert box.x1 <= fig.bbox.x1
            assert fig.bbox.y0 <= box.y0
            assert box.y1 <= fig.bbox.y1


def test_accuracies_that_are_close_have_ticks_that_can_be_told_apart(tmp_path, ax):
    study, all_cells, _ = make_study(tmp_path)
    accuracy_against_n(ax, Results.of(study, all_cells, every(all_cells, lambda c: 0.974 + 0.005 * c.seed)))
    FigureCanvasAgg(ax.figure).draw()
    labels = [tick.get_text() for tick in ax.get_yticklabels()]
    assert len(set(labels)) == len(labels) > 2


def test_the_curves_of_an_unfinished_study_are_named_too(results):
    axes = Figure().subplots(1, 3)
    small = [record for record in results.records.values() if record.cell.n == 50]
    training_curves(axes, Results.of(results.study, results.cells, small))
    assert [text.get_text() for text in axes[2].get_legend().get_texts()] == ["vit", "swin", "cnn", "linear"]


def test_a_size_without_records_is_called_missing_and_no_line_goes_across_it(results, ax):
    without = [record for record in results.records.values() if record.cell.n != 200]
    unfinished = Results.of(results.study, results.cells, without)
    x, y = drawn(accuracy_against_n(ax, unfinished))["vit"]
    assert len(x) == 3
    assert [np.isnan(v) for v in y] == [False, True, False]
    axes = Figure().subplots(1, 3)
    training_curves(axes, unfinished)
    assert [[text.get_text() for text in ax.texts] for ax in axes] == [[], ["missing"], []]
    assert not len(axes[1].get_xticks())


def test_one_seed_has_no_interval(tmp_path, ax):
    study, all_cells, _ = make_study(tmp_path, "seeds=1")
    accuracy_against_n(ax, Results.of(study, all_cells, every(all_cells, lambda _: 0.5)))
    assert all(not bars.has_yerr for bars in ax.containers)


def test_long_names_that_differ_at_either_end_stay_apart():
    names = [f"{a}{'x' * 60}{b}" for a in "ab" for b in "12"]
    assert len({figures.short(name) for name in names}) == 4
    assert {len(figures.short(name)) for name in names} == {figures.LONG}
    assert figures.short("x" * figures.LONG) == "x" * figures.LONG

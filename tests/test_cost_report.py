"""The table and the figure of costs show what is there and nothing else."""

import pytest
from synthetic import every, make_study
from test_cli import loaded, process

from vitcnn.analysis.results import Results
from vitcnn.errors import ConfigError
from vitcnn.models.registry import identity
from vitcnn.report.cost import common_size, cost_figure, cost_section
from vitcnn.report.figures import style
from vitcnn.store.costs import Costs, ModelCost, Speed, read_costs, write_costs

LADDER = """
dataset: digits
sizes: [50, 200, 1000]
seeds: 3
models: [mixer, rnn, vit, vit-window, hybrid, swin, sasa, timm/resnet10t, cnn, linear]
budget: {images_seen: 1280}
"""


# ---- what is kept ----


def some(study, without: str = "", **more) -> Costs:
    """Costs of a study's models, the k-th (from 1) with k million MACs and 1,000 / k training images a second."""
    found = {}
    for k, model in enumerate(study.models, 1):
        speed = Speed(median=1000 / k, low=900 / k, high=1050 / k)
        rest = {"batch": 128, "precision": "float32", "training": speed, "inference": speed, "memory": 10_000_000 * k}
        if model.name != without:
            what = {"arch": identity(model.arch), "parameters": 1000 * k, "macs": 1_000_000 * k}
            found[model.name] = ModelCost(**what, **(rest if model.arch.name != "linear" else {}))
    base = {"machine": "some CPU", "threads": 1, "repeats": 5, "seconds": 1.0, "load": 0.1, "inference_batch": 500}
    return Costs(**base, memory_is="as it is", models=found, made_by={"date": "2026-01-01T00:00"}, **more)


def test_costs_come_back_as_they_were_written(tmp_path):
    study, _, paths = make_study(tmp_path)
    assert read_costs(paths) is None
    costs = some(study)
    assert write_costs(costs, paths) == tmp_path / "results" / "trio" / "cost.json"
    assert read_costs(paths) == costs
    paths.report.joinpath("cost.json").write_text('{"machine": 1}', encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"trio/cost.json: not a valid cost file \(machine: .*run `vitcnn cost` again"
    ):
        read_costs(paths)


def test_plan_takes_the_time_from_what_was_measured_and_says_where(tmp_path, vitcnn):
    study, _, paths = make_study(tmp_path, "models=[vit, cnn, linear]", "sizes=[50]", "seeds=1")
    write_costs(some(study), paths)
    code, out, _ = vitcnn("plan", "trio.yaml", "models=[vit, cnn, linear]", "sizes=[50]", "seeds=1", "--workers", 2)
    assert code == 0
    # 1,280 images at 1,000 and at 500 a second
    expected = "about 2 s with 2 workers, 4 s of one worker (measured, by `vitcnn cost` on some CPU;"
    assert expected in " ".join(out.split())


def test_costs_of_another_model_under_the_same_name_do_not_count(tmp_path):
    study, *_ = make_study(tmp_path)
    deeper, *_ = make_study(tmp_path, "models=[{vit: {depth: 8}}, cnn]")
    vit, cnn = deeper.models
    assert some(study).of("vit", vit.arch) is None
    assert some(study).of("cnn", cnn.arch).parameters == 3000
    assert some(study).of("nobody", cnn.arch) is None


# ---- table and figure ----


@pytest.fixture
def trio(tmp_path):
    """(results without the CNN's largest n and all of swin, paths with costs of all but swin)."""
    study, all_cells, paths = make_study(tmp_path)
    levels = {"vit": 0.5, "swin": 0.6, "cnn": 0.9, "linear": 0.4}
    kept = [c for c in all_cells if c.model != "swin" and (c.model, c.n) != ("cnn", 1000)]
    records = every(kept, lambda c: levels[c.model] + 0.02 * c.seed)
    write_costs(some(study, without="swin"), paths)
    return Results.of(study, all_cells, records), paths


def test_nothing_is_said_where_nothing_was_measured(trio):
    results, paths = trio
    paths.report.joinpath("cost.json").unlink()
    assert cost_section(results, paths) == ""
    assert cost_figure(results, paths) is None


def test_the_table_has_costs_and_accuracies_and_says_what_is_missing(trio):
    lines = cost_section(*trio).splitlines()
    rows = {line.split(" | ")[0][2:]: line for line in lines if line.startswith("| ")}
    assert rows["vit"] == (
        "| vit | 1,000 | 1,000,000 | 1,000 (900–1,050) | 1,000 (900–1,050) | 10 "
        "| 52.0 ± 5.0 (3 seeds) | 52.0 ± 5.0 (3 seeds) |"
    )
    assert rows["swin"] == "| swin" + " | missing" * 7 + " |"
    assert rows["cnn"].endswith("| 92.0 ± 5.0 (3 seeds) | missing |")
    assert rows["linear"].startswith("| linear | 4,000 | 4,000,000 | – | – | – | 42")
    assert lines[0] == "## Cost and quality"
    assert "some CPU, 1 thread, 2026-01-01, at a load of 0.1 when it began" in lines[2]
    assert lines[-1] == (
        "Pareto frontier by the means at n = 200 (no model is both better and cheaper): in training time an image: "
        "vit, cnn; in MACs: vit, cnn."
    )


def test_the_figure_shows_who_has_both_at_the_largest_n_that_all_have(trio):
    results, paths = trio
    assert common_size(results) == 200
    fig = cost_figure(results, paths)
    for ax, x in zip(fig.axes, ([1e6, 3e6], [1000, 3000]), strict=True):
        handles, labels = ax.get_legend_handles_labels()
        assert labels == ["vit", "cnn"]
        assert [handle.lines[0].get_xdata()[0] for handle in handles] == pytest.approx(x)
        assert [handle.lines[0].get_ydata()[0] for handle in handles] == pytest.approx([0.52, 0.92], abs=2e-3)
        assert sorted(t.get_text() for t in ax.texts if t.get_text()) == ["cnn", "linear", "vit"]
        assert ax.get_xscale() == "log"
        assert ax.get_xlim()[1] / ax.get_xlim()[0] >= 4
    assert "n = 200" in fig.get_suptitle()
    segments = [c.get_segments() for c in fig.axes[0].get_legend_handles_labels()[0][0].lines[2]]
    assert max(y for line in segments for _, y in line[0]) == pytest.approx(0.57, abs=5e-3)  # the interval


def test_without_records_there_are_costs_and_no_figure(trio):
    results, paths = trio
    empty = Results.of(results.study, results.cells, [])
    assert cost_figure(empty, paths) is None
    text = cost_section(empty, paths)
    assert "cost.png" not in text
    assert "| cnn | 3,000 | 3,000,000 |" in text


def test_ten_names_stand_beside_their_markers_and_cover_none_of_each_other(tmp_path):
    study, all_cells, paths = make_study(tmp_path, text=LADDER, name="ladder")
    write_costs(some(study), paths)
    levels = {e.name: 0.45 + 0.02 * k for k, e in enumerate(study.models)}
    results = Results.of(study, all_cells, every(all_cells, lambda c: levels[c.model] + 0.01 * c.seed))
    fig = cost_figure(results, paths)
    for ax in fig.axes:
        boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
        assert len(boxes) == 10
        assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
        assert all(ax.bbox.x0 <= box.x0 and box.x1 <= ax.bbox.x1 for box in boxes)


def test_the_report_of_costs_loads_nothing_that_trains():
    done = process("import vitcnn.report.cost, vitcnn.store.costs, vitcnn.cli.cost")
    assert done.returncode == 0, done.stderr
    assert loaded(done) == []


# ---- looks ----


def looks(tmp_path, count: int) -> list[dict]:
    names = ", ".join(f"m{k}: {{arch: vit, depth: {k + 1}}}" for k in range(count))
    study, all_cells, _ = make_study(tmp_path, f"models={{{names}, linear: {{}}}}", "sizes=[50]", "seeds=1")
    return [style(Results.of(study, all_cells, []), name) for name in [f"m{k}" for k in range(count)] + ["linear"]]


def test_fourteen_models_and_the_baseline_differ_in_colour_and_in_marker(tmp_path):
    found = looks(tmp_path, 14)
    assert len({look["color"] for look in found}) == len({look["marker"] for look in found}) == 15
    more = [(look["color"], look["marker"]) for look in looks(tmp_path, 30)]
    assert len(set(more)) == 31


def test_the_first_seven_look_as_they_always_did(tmp_path):
    colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
    wanted = [{"color": c, "marker": m, "linestyle": "-"} for c, m in zip(colours, "osD^vP*", strict=True)]
    assert looks(tmp_path, 14)[:7] == wanted
    assert looks(tmp_path, 3)[3] == {"color": "#777777", "marker": "x", "linestyle": "--"}

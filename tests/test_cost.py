"""Costs are those of the work that is done; their table and figure show what is there and nothing else."""

import math
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest
import torch
from synthetic import every, make_study
from test_cli import loaded, process

from vitcnn.analysis.results import Results
from vitcnn.data.sources.fetch import about_data
from vitcnn.errors import ConfigError
from vitcnn.inspect import benchmark, memory
from vitcnn.models.registry import identity
from vitcnn.report.cost import common_size, cost_figure, cost_section
from vitcnn.report.figures import style
from vitcnn.store.costs import Costs, ModelCost, Speed, read_costs, write_costs
from vitcnn.training.evaluate import BATCH

CPU = torch.device("cpu")
DEPTHS = """
dataset: digits
sizes: [50, 200]
seeds: 1
models:
  shallow: {arch: vit, width: 32, heads: 2, depth: 1}
  deep: {arch: vit, width: 32, heads: 2, depth: 8}
  linear: {}
budget: {images_seen: 640}
recipe: {batch_size: 32}
"""
LADDER = """
dataset: digits
sizes: [50, 200, 1000]
seeds: 3
models: [mixer, rnn, vit, vit-window, hybrid, swin, sasa, timm/resnet10t, cnn, linear]
budget: {images_seen: 1280}
"""


# ---- measuring ----


def cell_of(tmp_path, *overrides: str, model: str = "shallow"):
    return next(c for c in make_study(tmp_path, *overrides, text=DEPTHS, name="depths")[1] if c.model == model)


@pytest.fixture(scope="module")
def depths(tmp_path_factory) -> Costs:
    study, all_cells, _ = make_study(tmp_path_factory.mktemp("cost"), text=DEPTHS, name="depths")
    with pytest.MonkeyPatch.context() as patch:  # in this process: the apart is tested below
        patch.setattr(benchmark, "peak_memory_apart", benchmark.peak_memory)
        return benchmark.measure_costs(study, about_data("digits"), all_cells, device="cpu", repeats=3, turn=0.05)


def test_every_model_but_the_linear_one_is_measured(depths):
    assert list(depths.models) == ["shallow", "deep", "linear"]
    for name in ("shallow", "deep"):
        one = depths.models[name]
        assert (one.batch, one.precision) == (32, "float32")
        assert one.parameters > 0
        assert one.memory > 0
        for speed in (one.training, one.inference):
            assert 0 < speed.low <= speed.median <= speed.high
        assert one.inference.median > one.training.median
    assert depths.models["linear"] == ModelCost(arch={"name": "linear"}, parameters=650, macs=640)
    assert (depths.threads, depths.repeats, depths.inference_batch) == (1, 3, BATCH)
    assert depths.machine.endswith("cores")
    assert {"torch", "date", "device"} <= depths.made_by.keys()


def test_eight_times_the_blocks_cost_more_of_everything(depths):
    shallow, deep = depths.models["shallow"], depths.models["deep"]
    assert deep.macs > 5 * shallow.macs
    assert deep.parameters > shallow.parameters
    assert deep.training.high < shallow.training.high  # three times, where nothing else disturbs: the best of each
    assert deep.inference.high < shallow.inference.high
    assert deep.memory > 1.5 * shallow.memory


def test_memory_grows_with_the_batch(tmp_path):
    small, large = (benchmark.peak_memory(cell_of(tmp_path, f"recipe.batch_size={b}"), about_data("digits"), CPU)
                    for b in (64, 512))  # fmt: skip
    assert 4 * small < large < 16 * small


def test_the_resident_peak_is_what_was_held_at_once_and_not_what_was_there(monkeypatch):
    def hold(megabytes: int):
        return lambda: [torch.ones(megabytes * 250_000) for _ in range(2)] and None

    there = torch.ones(25_000_000)
    assert memory._resident(hold(50), CPU) == pytest.approx(100e6, rel=0.1)
    del there

    def refuse(*_, **__):
        raise OSError

    monkeypatch.setattr(memory.Path, "write_text", refuse)
    for after, seen in ((3_000_000_000, True), (2_000_000_000, False)):
        peaks = iter((2_000_000_000, after))
        monkeypatch.setattr(memory, "_highest", lambda peaks=peaks: next(peaks))
        found = memory._resident(lambda: None, CPU)
        assert 0 < found < 3_000_000_000 if seen else found is None


def test_a_measured_step_trains_and_a_measured_forward_does_not(tmp_path):
    runner = benchmark.Runner(cell_of(tmp_path, "recipe.clip_norm=0.01"), about_data("digits"), CPU).start()

    def weights() -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in runner.lane.network.parameters()]).clone()

    before = weights()
    runner.speed("training", 1)
    after = weights()
    assert (before != after).float().mean() > 0.9
    norm = torch.stack([p.grad.norm() for p in runner.lane.network.parameters()]).norm()
    assert norm == pytest.approx(0.01, rel=1e-3)
    runner.speed("inference", 1)
    assert torch.equal(weights(), after)
    assert not runner.lane.training


def test_the_measured_precision_is_the_recipes(tmp_path):
    for precision, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        runner = benchmark.Runner(cell_of(tmp_path, f"recipe.precision={precision}"), about_data("digits"), CPU).start()
        seen = []
        runner.lane.network.register_forward_hook(lambda *a, seen=seen: seen.append(a[2].dtype))
        runner.train()
        runner.infer()
        assert seen == [dtype, dtype]


def test_models_take_turns():
    calls = []

    class Fake:
        def __init__(self, name: str):
            self.name = name

        def steps_in(self, *_) -> int:
            return 4

        def speed(self, kind: str, steps: int) -> float:
            calls.append((self.name, kind, steps))
            return float(len(calls))

    found = benchmark._in_turns({"a": Fake("a"), "b": Fake("b")}, 3, 1.0, lambda _: None)
    one = [(name, kind, 4) for name in "ab" for kind in ("training", "inference")]
    assert calls == one * 3
    assert found["a"]["training"] == Speed(median=5, low=1, high=9)
    assert found["b"]["inference"] == Speed(median=8, low=4, high=12)


def test_the_command_measures_in_a_process_of_its_own_and_leaves_a_file(vitcnn, tmp_path):
    _, _, paths = make_study(tmp_path, text=DEPTHS, name="depths")
    code, out, err = vitcnn("cost", "depths.yaml", "models=[vit, linear]", "--device", "cpu", "--repeats", "1")
    assert (code, err) == (0, "")
    assert "written to results/depths/cost.json" in out
    costs = read_costs(paths)
    assert list(costs.models) == ["vit", "linear"]
    assert 1e6 < costs.models["vit"].memory < 1e9
    assert f"{costs.models['vit'].parameters:,}" in out


def test_a_device_that_is_not_there_is_said_before_anything_is_measured(vitcnn, tmp_path):
    make_study(tmp_path, text=DEPTHS, name="depths")
    code, out, err = vitcnn("cost", "depths.yaml", "--device", "cuda:99")
    assert (code, out) == (2, "")
    assert "cuda:99" in err
    assert [path.name for path in tmp_path.iterdir()] == ["depths.yaml"]


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
    with pytest.raises(ConfigError, match=r"trio/cost.json: no costs \(machine: .*`vitcnn cost` writes it anew"):
        read_costs(paths)


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


# ---- scripts/bench_attention ----


@pytest.fixture(scope="module")
def bench():
    path = Path(__file__).parents[1] / "scripts" / "bench_attention"
    loader = SourceFileLoader("bench_attention", str(path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)
        module = module_from_spec(spec_from_loader(loader.name, loader))
        loader.exec_module(module)
    return module


def test_the_benchmarks_formulas_count_what_torch_counts(bench):
    for grid in bench.GRIDS:
        for window in bench.KINDS:
            assert bench.counted(grid, window) == pytest.approx(bench.formula(grid, window), rel=0.02)


def test_both_layers_map_tokens_to_tokens_and_a_window_sees_no_further(bench):
    torch.manual_seed(0)
    tokens = torch.randn(1, 64, bench.WIDTH)
    other = tokens.clone()
    other[:, 63] += 1
    for window in bench.KINDS:
        layer = bench.layer(window).eval()
        with torch.no_grad():
            moved = (layer(tokens) - layer(other)).abs().amax(-1)[0]
        reach = window // 2 if window else 7
        near = {8 * row + column for row in range(7 - reach, 8) for column in range(7 - reach, 8)}
        assert set(torch.nonzero(moved > 1e-7).flatten().tolist()) == near


def test_the_crossing_is_where_straight_lines_meet_on_logarithmic_axes(bench):
    def rows(times: dict[int, tuple[float, float]]) -> list:
        return [
            bench.Row(window, grid, 1, [t, t, 9 * t], 1)
            for grid, pair in times.items()
            for window, t in zip((None, 3), pair, strict=True)
        ]

    low, high, between = bench.crossing(rows({4: (1, 2), 8: (4, 8), 16: (64, 32), 32: (900, 128)}), 3)
    assert (low, high, between) == (64, 256, pytest.approx(128))
    assert bench.crossing(rows({4: (3, 2), 8: (4, 8), 16: (64, 32)}), 3)[:2] == (64, 256)
    assert bench.crossing(rows({4: (3, 2), 8: (9, 8)}), 3) == (0, 16, 16)
    assert bench.crossing(rows({4: (3, 2), 8: (7, 8)}), 3) is None


def test_the_benchmark_leaves_a_table_and_its_figures(bench, tmp_path, monkeypatch, capsys):
    for name, value in {"GRIDS": (4, 6), "TOKENS": 72, "TURN": 0.001}.items():
        monkeypatch.setattr(bench, name, value)
    monkeypatch.setattr(sys, "argv", ["bench_attention", "--device", "cpu", "--repeats", "2", "--out", str(tmp_path)])
    bench.main()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attention.md", "attention.png", "attention.svg"]
    text = (tmp_path / "attention.md").read_text(encoding="utf-8")
    assert text.count("| window ") == 6
    assert "| all pairs | 36 | 2 |" in text
    assert capsys.readouterr().out.strip() in text
    assert not math.isnan(float(text.split("| all pairs | 16 | 4 | ")[1].split(" ")[0].replace(",", "")))

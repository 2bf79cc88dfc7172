"""Costs are those of the work that is done."""

import pytest
import torch
from synthetic import make_study

from vitcnn.data.sources.registry import parse_dataset
from vitcnn.inspect import benchmark, memory
from vitcnn.store.costs import Costs, ModelCost, Speed, read_costs
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


# ---- measuring ----


def cell_of(tmp_path, *overrides: str, model: str = "shallow"):
    return next(c for c in make_study(tmp_path, *overrides, text=DEPTHS, name="depths")[1] if c.model == model)


@pytest.fixture(scope="module")
def depths(tmp_path_factory) -> Costs:
    study, all_cells, _ = make_study(tmp_path_factory.mktemp("cost"), text=DEPTHS, name="depths")
    with pytest.MonkeyPatch.context() as patch:  # in this process: the apart is tested below
        patch.setattr(benchmark, "peak_memory_apart", benchmark.peak_memory)
        return benchmark.measure_costs(
            study, parse_dataset("digits").info, all_cells, device="cpu", repeats=3, turn=0.05
        )


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
    cells = [cell_of(tmp_path, f"recipe.batch_size={size}") for size in (64, 512)]
    small, large = (benchmark.peak_memory(cell, parse_dataset("digits").info, CPU) for cell in cells)
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
    runner = benchmark.Runner(cell_of(tmp_path, "recipe.clip_norm=0.01"), parse_dataset("digits").info, CPU).start()

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
        runner = benchmark.Runner(
            cell_of(tmp_path, f"recipe.precision={precision}"), parse_dataset("digits").info, CPU
        ).start()
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

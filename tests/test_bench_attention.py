"""scripts/bench_attention: its formulas, its crossing, and what it leaves."""

import math
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module")
def bench():
    path = Path(__file__).parents[1] / "scripts" / "bench_attention"
    loader = SourceFileLoader("bench_attention", str(path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.syspath_prepend(path.parent)
        module = module_from_spec(spec_from_loader(loader.name, loader))
        loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def report(bench):
    return sys.modules["bench_attention_report"]


def test_the_benchmarks_formulas_count_what_torch_counts(bench, report):
    for grid in bench.GRIDS:
        for window in bench.KINDS:
            assert bench.counted(grid, window) == pytest.approx(report.formula(grid, window), rel=0.02)


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


def test_the_crossing_is_where_straight_lines_meet_on_logarithmic_axes(report):
    def rows(times: dict[int, tuple[float, float]]) -> list:
        return [
            report.Row(window, grid, 1, [t, t, 9 * t], 1)
            for grid, pair in times.items()
            for window, t in zip((None, 3), pair, strict=True)
        ]

    low, high, between = report.crossing(rows({4: (1, 2), 8: (4, 8), 16: (64, 32), 32: (900, 128)}), 3)
    assert (low, high, between) == (64, 256, pytest.approx(128))
    assert report.crossing(rows({4: (3, 2), 8: (4, 8), 16: (64, 32)}), 3)[:2] == (64, 256)
    assert report.crossing(rows({4: (3, 2), 8: (9, 8)}), 3) == (0, 16, 16)
    assert report.crossing(rows({4: (3, 2), 8: (7, 8)}), 3) is None


def test_the_benchmark_leaves_a_table_and_its_figures(bench, tmp_path, monkeypatch, capsys):
    for name, value in {"GRIDS": (4, 6), "TOKENS": 72, "TURN": 0.001}.items():
        monkeypatch.setattr(bench, name, value)
    monkeypatch.setattr(sys, "argv", ["bench_attention", "--device", "cpu", "--repeats", "2", "--out", str(tmp_path)])
    bench.main()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attention.md", "attention.png"]
    text = (tmp_path / "attention.md").read_text(encoding="utf-8")
    assert text.count("| window ") == 6
    assert "| all pairs | 36 | 2 |" in text
    assert capsys.readouterr().out.strip() in text
    assert not math.isnan(float(text.split("| all pairs | 16 | 4 | ")[1].split(" ")[0].replace(",", "")))

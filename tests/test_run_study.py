"""A study runs from Python as it runs from the command line."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from vitcnn import load_records
from vitcnn.errors import ConfigError
from vitcnn.launch.open_study import open_study
from vitcnn.launch.run_study import run_study

TEXT = """
dataset: digits
sizes: [50, 100]
seeds: 1
models:
  vit: {width: 16, depth: 1, heads: 2}
  linear: {C: [1.0]}
budget: {images_seen: 64}
recipe: {batch_size: 32}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(TEXT)
    return path


def test_a_study_runs_from_python_with_the_same_table_and_outcome_and_is_then_done(file, tmp_path, vitcnn):
    script = tmp_path / "notebook.py"
    script.write_text(
        "from vitcnn import load_records, run_study\n\n"
        'if __name__ == "__main__":\n'
        '    outcome = run_study("small.yaml", device="cpu", workers=1, wandb="off")\n'
        '    print(len(outcome.done), outcome.failed, outcome.interrupted, len(load_records("results/small")))\n'
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "4 {} False 4"
    how = ["--results", "again", "--device", "cpu", "--workers", "1", "--wandb", "off"]
    assert done.stdout.splitlines()[:-1] == vitcnn("run", "small.yaml", *how)[1].splitlines()
    one, other = (load_records(tmp_path / folder / "small") for folder in ("results", "again"))
    assert one["weights"].to_list() == other["weights"].to_list()
    said = io.StringIO()
    outcome = run_study(file, results=tmp_path / "results", runs=tmp_path / "runs", console=Console(file=said))
    assert (outcome.done, outcome.failed, outcome.interrupted) == ([], {}, False)
    assert "all 4 cells are done" in said.getvalue()


@pytest.mark.parametrize("how", [{"lanes": "two"}, {"lanes": 0}, {"wandb": "sometimes"}, {"device": "abacus"}])
def test_what_is_typed_wrong_is_a_config_error_before_anything_is_trained(how, file, tmp_path):
    with pytest.raises(ConfigError, match=next(iter(how))):
        run_study(file, results=tmp_path / "results", runs=tmp_path / "runs", **how)
    assert not list((tmp_path / "results").rglob("*.json"))


def test_to_read_a_study_writes_nothing(file, tmp_path):
    opened = open_study(file, results=tmp_path / "results", runs=tmp_path / "runs")
    assert len(opened.cells) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.yaml"]

"""The check for whoever has a GPU for some minutes ends in time without one, and says what it could not do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts/gpu_check"


def test_without_a_gpu_it_checks_what_it_can_and_ends_in_time(tmp_path):
    command = [sys.executable, SCRIPT, "--minutes", "0.05", "--device", "cpu", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "no CUDA device" in done.stdout
    found = {check["what"]: check for check in json.loads((tmp_path / "gpu.json").read_text())["checks"]}
    assert found["augmentation (strong and shifts), as on a CPU"]["right"] is True
    assert found["CNN, bf16, 40 steps"]["found"] == "time was up"
    report = (tmp_path / "gpu.md").read_text()
    assert report.startswith("# Training on a GPU\n")
    assert f"0 of {len(found)} checks failed" in report


@pytest.mark.parametrize(
    ("fault", "said"), [("1 / 0", "ZeroDivisionError: division by zero"), ("os._exit(3)", "BrokenProcessPool")]
)
def test_something_that_is_wrong_stops_nothing_else_and_is_the_exit_status(fault, said, tmp_path):
    """Also what takes its process down, as an illegal access to a GPU's memory does."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'multiprocessing' in ' '.join(sys.orig_argv):\n"  # the process that checks are forked from
        "    from vitcnn.data.augment.augmentation import Augmentation\n"
        f"    Augmentation.dense = lambda *_: {fault}\n"
    )
    command = [sys.executable, SCRIPT, "--minutes", "0.3", "--device", "cpu", "--out", tmp_path]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 1, done.stdout + done.stderr[-2000:]
    report = (tmp_path / "gpu.md").read_text()
    assert report.count("WRONG") == 1
    assert said in report
    assert "| fractals, 1 channels, noise 0, as on a CPU | 0 pixels differ | right |" in report

"""The check for whoever has a GPU for some minutes ends in time without one, and says what it could not do."""

import json
import subprocess
import sys
from pathlib import Path

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


def test_something_that_is_wrong_stops_nothing_else_and_is_the_exit_status(tmp_path):
    broken = (
        "import runpy, sys\n"
        f"sys.path.insert(0, {str(SCRIPT.parent)!r})\n"
        "from vitcnn.data.augment.augmentation import Augmentation\n"
        "Augmentation.dense = lambda *_: 1 / 0\n"
        f"sys.argv = ['gpu_check', '--minutes', '0.05', '--device', 'cpu', '--out', {str(tmp_path)!r}]\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", broken], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr[-2000:]
    assert (tmp_path / "gpu.md").read_text().count("ZeroDivisionError: division by zero | WRONG") == 1

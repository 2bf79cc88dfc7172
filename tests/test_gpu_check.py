"""The check for whoever has a GPU for some minutes ends in time without one, and says what it could not do."""

import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[1] / "scripts/gpu_check"


@pytest.fixture
def gpu_check(tmp_path, monkeypatch) -> Iterator[ModuleType]:
    """The script as a module, for processes of their own too."""
    (tmp_path / "gpu_check.py").symlink_to(SCRIPT)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for folder in (SCRIPT.parent, tmp_path):
        monkeypatch.syspath_prepend(folder)
    yield importlib.import_module("gpu_check")
    for name in ("gpu_check", "gpu_check_speed"):
        sys.modules.pop(name, None)


def test_without_a_gpu_it_checks_what_it_can_and_ends_in_time(gpu_check, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--minutes", "0.05", "--device", "cpu", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        gpu_check.main()
    assert not ended.value.code
    assert "no CUDA device" in capsys.readouterr().out
    found = {check["what"]: check for check in json.loads((tmp_path / "gpu.json").read_text())["checks"]}
    assert found["augmentation (strong and shifts), as on a CPU"]["right"] is True
    assert found["CNN, bf16, 40 steps"]["found"] == "time was up"
    report = (tmp_path / "gpu.md").read_text()
    assert report.startswith("# Training on a GPU\n")
    assert f"0 of {len(found)} checks failed" in report


def is_right() -> tuple[bool, str]:
    return True, "0 pixels differ"


def divides() -> tuple[bool, str]:
    return bool(1 / 0), ""


def dies() -> None:
    os._exit(3)


def test_a_check_that_raises_or_takes_its_process_down_is_wrong_and_stops_no_other(gpu_check, tmp_path, monkeypatch):
    """An illegal access to a GPU's memory takes its process down."""

    def checks(check, where: torch.device, scratch: Path) -> None:
        for work in (divides, dies, is_right):
            check("Is it right?", work.__name__, work)

    monkeypatch.setattr(gpu_check, "check_rightness", checks)
    monkeypatch.setattr(gpu_check, "check_speed", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--device", "cpu", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        gpu_check.main()
    assert ended.value.code == 1
    rows = [line for line in (tmp_path / "gpu.md").read_text().splitlines() if line.startswith("| ")][2:]
    assert rows[0] == "| divides | ZeroDivisionError: division by zero | WRONG |"
    assert rows[1].startswith("| dies | BrokenProcessPool: ")
    assert rows[1].endswith("| WRONG |")
    assert rows[2] == "| is_right | 0 pixels differ | right |"

"""Jobs of real worker processes: one that dies or fails is tried again; a lock that cannot be had ends all."""

import os
import signal
import sys
from pathlib import Path

import pytest
from launching import LONG, OPTIONS, TEXT, named, pid_in_a_step, wait_for

from vitcnn.errors import ConfigError
from vitcnn.launch.locks import CellLocks
from vitcnn.launch.scheduler import run_jobs
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import read_record
from vitcnn.store.status import states
from vitcnn.training.train import train_cell


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(TEXT)
    return path


def test_a_killed_worker_costs_a_retry_and_nothing_else(file, paths, tmp_path):
    cell, other = named(file, "vit", LONG), named(file, "linear")
    killed = []

    def tick() -> None:
        if not killed and (pid := pid_in_a_step(paths, cell)):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    said: list[str] = []
    outcome = run_jobs([(cell,), (other,)], paths, OPTIONS, workers=1, tick=tick, log=said.append)
    assert killed
    assert "worker died" in said[0]
    assert not outcome.failed
    assert {c.model for c in outcome.done} == {"vit", "linear"}
    undisturbed = train_cell(cell, paths=StudyPaths("other", tmp_path, tmp_path))
    assert read_record(paths.record(cell.id)).weights == undisturbed.weights


ONCE = """
from pathlib import Path
from torch import nn

class Once(nn.Linear):
    def forward(self, x):
        late = self.training and len(x) > 2  # than the step that is tried before
        if late and not (mark := Path(__file__).with_name("mark")).exists():
            mark.touch()
            raise RuntimeError("the first time")
        return super().forward(x.flatten(1))

def build(image_size, channels, classes):
    return Once(channels * image_size**2, classes)
"""


def test_a_cell_that_fails_is_tried_once_more(file, paths, monkeypatch):
    (file.parent / "once.py").write_text(ONCE)
    monkeypatch.chdir(file.parent)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    cell, said = named(file, "mine", "models={mine: {arch: 'import:once:build'}}"), []
    outcome = run_jobs([(cell,)], paths, OPTIONS, 1, log=said.append)
    assert (outcome.done, outcome.failed) == ([cell], {})
    assert said == [f"{cell.title} failed (RuntimeError: the first time); it is tried again at the end"]


def test_a_lock_that_cannot_be_had_ends_the_run_while_its_cells_save_themselves(file, paths, monkeypatch):
    mine, other = named(file, "vit", LONG), named(file, "linear")
    usual = CellLocks.take

    def take(self, cell_id):
        if cell_id == other.id and wait_for(lambda: pid_in_a_step(paths, mine)):
            raise ConfigError("no room")
        return usual(self, cell_id)

    monkeypatch.setattr(CellLocks, "take", take)
    with pytest.raises(ConfigError, match="no room"):
        run_jobs([(mine,), (other,)], paths, OPTIONS, 2)
    assert [state.kind for state in states([mine], paths)] == ["stopped"]
    assert (paths.cell(mine.id) / "last.ckpt").exists()


def test_a_worker_that_exits_with_status_0_is_a_failed_try(file, paths, monkeypatch):
    """In a network that calls `os._exit(0)`; the pool does not report such a worker."""
    (file.parent / "leaves.py").write_text(
        "import os\n" + ONCE.replace('raise RuntimeError("the first time")', "os._exit(0)")
    )
    monkeypatch.chdir(file.parent)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    cell, said = named(file, "mine", "models={mine: {arch: 'import:leaves:build'}}"), []
    outcome = run_jobs([(cell,)], paths, OPTIONS, 1, log=said.append)
    assert (outcome.done, outcome.failed) == ([cell], {})
    assert said == [f"{cell.title} failed (the worker died with exit code 0); it is tried again at the end"]

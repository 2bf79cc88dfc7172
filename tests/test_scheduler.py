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


def test_a_second_sigterm_does_not_cut_short_what_the_first_began(file, paths):
    """Slurm sends two."""
    cell, said = named(file, "vit", LONG), []

    def tick() -> None:
        if pid_in_a_step(paths, cell):
            os.kill(os.getpid(), signal.SIGTERM)

    def log(line: str) -> None:
        said.append(line)
        os.kill(os.getpid(), signal.SIGTERM)

    assert run_jobs([(cell,)], paths, OPTIONS, 1, tick=tick, log=log).interrupted
    assert said == ["Stopping: the running cells save a checkpoint …"]
    assert (paths.cell(cell.id) / "last.ckpt").exists()
    assert not list(paths.run.glob("locks/*"))


def test_a_run_that_need_not_wait_ends_when_another_trains_all_that_is_left(file, paths):
    mine, other, locks = named(file, "linear"), named(file, "vit"), CellLocks(paths)
    assert locks.take(other.id)
    outcome = run_jobs([(other,), (mine,)], paths, OPTIONS, 1, wait_for_others=False)
    assert (outcome.done, outcome.interrupted) == ([mine], False)


def test_it_waits_for_cells_whose_source_cell_another_trains(file, paths):
    source = named(file, "vit")
    after = source.model_copy(update={"seed": 1, "init_from": source.id})
    locks, ticks = CellLocks(paths), []
    assert locks.take(source.id)

    def tick() -> None:
        ticks.append(1)
        locks.give_back(source.id)

    outcome = run_jobs([(source,), (after,)], paths, OPTIONS, 1, tick=tick, wait_for_others=False)
    assert ticks
    assert [cell.id for cell in outcome.done] == [source.id, after.id]

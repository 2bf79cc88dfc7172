"""Real worker processes: what happens to a study when things go well, fail, die or are stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from launching import LONG, TEXT, named, pid_in_a_step, wait_for
from synthetic import every, write

from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import Record, read_record
from vitcnn.store.status import process_runs, read_json, states
from vitcnn.study.cell import Cell
from vitcnn.study.load import load_study
from vitcnn.study.matrix import cells
from vitcnn.training.train import train_cell

VIT = "vit: {width: 32, depth: 1, heads: 2}"
ONLY_VIT, VIT_AND_LINEAR = f"models={{{VIT}}}", f"models={{linear: {{C: [1.0]}}, {VIT}}}"
OFF = ["--wandb", "off", "--device", "cpu"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(TEXT)
    return path


def command(file: Path, *more: str) -> list[str]:
    folder = file.parent
    return [sys.executable, "-c", "from vitcnn.cli import main; main()", "run", str(file), *more, *OFF,
            "--results", str(folder / "results"), "--runs", str(folder / "runs")]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Callable[[Cell], Record]:
    """The record of a cell that was trained at one go."""
    known: dict[str, Record] = {}

    def train(cell: Cell) -> Record:
        if cell.id not in known:
            folder = tmp_path_factory.mktemp("undisturbed")
            known[cell.id] = train_cell(cell, paths=StudyPaths("other", folder, folder))
        return known[cell.id]

    return train


def test_a_failing_cell_does_not_stop_the_others_and_the_exit_status_says_so(file, paths, vitcnn):
    done = subprocess.run(command(file, "--workers", "1"), capture_output=True, text=True, timeout=300)
    kinds = {s.cell.model: s for s in states(cells(load_study(file)), paths)}
    assert {name: state.kind for name, state in kinds.items()} == {"vit": "done", "burns": "failed", "linear": "done"}
    assert "NotFiniteLoss" in kinds["burns"].detail["error"]
    assert paths.failure(kinds["burns"].cell.id).exists()
    assert "learning rate" in kinds["burns"].detail["traceback"]
    assert done.returncode == 1
    assert "burns-n50-s0" in done.stdout
    vit = kinds["vit"].cell
    assert read_record(paths.record(vit.id)).cell == vit
    assert not (paths.cell(vit.id) / "last.ckpt").exists()

    code, out, _ = vitcnn("run", file, ONLY_VIT, *OFF)
    assert code == 0
    assert "all 1 cells are done" in out


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGTERM to a worker"])
def test_a_stopped_run_goes_on_from_its_checkpoint_and_ends_the_same(how, file, paths, vitcnn, undisturbed):
    cell = named(file, "vit", LONG)
    only = [ONLY_VIT, LONG]
    run = subprocess.Popen(
        command(file, *only),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    worker = wait_for(lambda: pid_in_a_step(paths, cell))
    if how == "Ctrl-C":
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does
    else:
        os.kill(run.pid if how == "SIGTERM" else worker, signal.SIGTERM)
    out, _ = run.communicate(timeout=300)
    assert run.returncode == 130
    assert "Run the same command to continue" in out
    assert [s.kind for s in states([cell], paths)] == ["stopped"]

    assert vitcnn("run", file, *only, *OFF)[0] == 0
    record, whole = read_record(paths.record(cell.id)), undisturbed(cell)
    assert record.cost.resumed == 1
    assert (record.weights, record.curve, record.test) == (whole.weights, whole.curve, whole.test)


def test_two_runs_at_once_share_the_cells_and_record_each_once(file, paths):
    more = [VIT_AND_LINEAR, "seeds=6", "budget.images_seen=6400"]
    wanted = cells(load_study(file, more))
    runs = [
        subprocess.Popen(
            command(file, *more, "--workers", "1"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(2)
    ]
    pids = {cell.id: set() for cell in wanted}  # of who was seen at work on it
    while any(run.poll() is None for run in runs):
        for cell in wanted:
            progress = read_json(paths.cell(cell.id) / "progress.json") or {}
            pids[cell.id] |= {progress["pid"]} if progress else set()
        time.sleep(0.02)
    said = [run.communicate(timeout=300)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    seen = [len(pids[cell.id]) for cell in wanted if cell.model == "vit"]
    assert max(seen) == 1
    assert sum(seen) >= len(seen) - 1  # each takes a second
    records = [read_record(paths.record(cell.id)) for cell in wanted]
    assert {record.cost.resumed for record in records} == {0}
    assert all("12 done" in text or "all 12 cells are done" in text for text in said)
    assert not list(paths.run.glob("locks/*"))


def test_the_cell_of_a_run_that_died_is_taken_over(file, paths, vitcnn, undisturbed):
    """Killed at once, with no time to say good-bye: launcher and worker."""
    cell = named(file, "vit", LONG)
    only = [ONLY_VIT, LONG]
    run = subprocess.Popen(command(file, *only), stdout=subprocess.DEVNULL, start_new_session=True)
    wait_for(lambda: pid_in_a_step(paths, cell))
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert paths.lock(cell.id).exists()
    assert vitcnn("run", file, *only, *OFF)[0] == 0
    assert read_record(paths.record(cell.id)).weights == undisturbed(cell).weights


def test_lanes_of_a_run_that_was_killed_go_on_to_the_same_end(file, paths, vitcnn, undisturbed, monkeypatch):
    monkeypatch.setenv("VITCNN_CHECKPOINT_EVERY", "0.2")
    only = [ONLY_VIT, "budget.images_seen=9600", "seeds=3", "--lanes", "3"]
    mine = [c for c in cells(load_study(file, only[:3])) if c.role == "main"]
    run = subprocess.Popen(command(file, *only), stdout=subprocess.DEVNULL, start_new_session=True)
    wait_for(lambda: all((paths.cell(cell.id) / "last.ckpt").exists() for cell in mine))
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert vitcnn("run", file, *only, *OFF)[0] == 0
    for cell in mine:
        record = read_record(paths.record(cell.id))
        assert (record.cost.resumed, record.cost.lanes) == (1, 3)
        assert record.weights == undisturbed(cell).weights


def test_seeds_and_sizes_added_to_a_finished_study_are_all_that_is_trained(file, paths, vitcnn):
    only = [VIT_AND_LINEAR, "budget.images_seen=64"]
    larger = [*only, "seeds=2", "sizes=[50,60]"]
    finished, wanted = (cells(load_study(file, overrides)) for overrides in (only, larger))
    write(every(finished, lambda _: 0.9), paths)
    before = {path: path.read_bytes() for path in paths.records.iterdir()}
    code, out, _ = vitcnn("run", file, *larger, "--workers", 1, *OFF)
    assert code == 0
    assert "6 of 8 cells to train" in out
    assert {path.stem for path in paths.records.iterdir()} == {cell.id for cell in wanted}
    assert {path: path.read_bytes() for path in before} == before
    assert vitcnn("run", file, *larger)[:2] == (0, "small: all 8 cells are done\n")


def test_a_worker_whose_launcher_was_killed_saves_its_cell_and_stops(file, paths):
    cell = named(file, "vit", LONG)
    run = subprocess.Popen(command(file, ONLY_VIT, LONG), stdout=subprocess.DEVNULL)
    worker = wait_for(lambda: pid_in_a_step(paths, cell))
    run.kill()
    run.wait()
    wait_for(lambda: not process_runs(worker))
    assert (paths.cell(cell.id) / "last.ckpt").exists()
    assert [state.kind for state in states([cell], paths)] == ["stopped"]

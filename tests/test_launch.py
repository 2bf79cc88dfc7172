"""Real worker processes: what happens to a study when things go well, fail, die or are stopped."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from launching import LONG, TEXT, named, pid_in_a_step, wait_for
from synthetic import every, write

from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import read_record
from vitcnn.store.status import process_runs, read_json, states
from vitcnn.study.load import load_study
from vitcnn.study.matrix import cells
from vitcnn.training.train import train_cell


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(TEXT)
    return path


def command(file: Path, *more: str) -> list[str]:
    folder = file.parent
    return [sys.executable, "-c", "from vitcnn.cli import main; main()", "run", str(file), *more, "--wandb", "off",
            "--device", "cpu", "--results", str(folder / "results"), "--runs", str(folder / "runs")]  # fmt: skip


def test_a_failing_cell_does_not_stop_the_others_and_the_exit_status_says_so(file, paths):
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

    again = subprocess.run(
        command(file, "models={vit: {width: 32, depth: 1, heads: 2}}"), capture_output=True, text=True
    )
    assert again.returncode == 0
    assert "all 1 cells are done" in again.stdout


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGTERM to a worker"])
def test_a_stopped_run_goes_on_from_its_checkpoint_and_ends_the_same(how, file, paths, tmp_path):
    cell = named(file, "vit", LONG)
    only = ["models={vit: {width: 32, depth: 1, heads: 2}}", LONG]
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

    assert subprocess.run(command(file, *only), capture_output=True, timeout=300).returncode == 0
    record = read_record(paths.record(cell.id))
    undisturbed = train_cell(cell, paths=StudyPaths("other", tmp_path, tmp_path))
    assert record.cost.resumed == 1
    assert (record.weights, record.curve, record.test) == (undisturbed.weights, undisturbed.curve, undisturbed.test)


def test_two_runs_at_once_share_the_cells_and_record_each_once(file, paths):
    more = ["models={linear: {C: [1.0]}, vit: {width: 32, depth: 1, heads: 2}}", "seeds=6", "budget.images_seen=6400"]
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


def test_the_cell_of_a_run_that_died_is_taken_over(file, paths, tmp_path):
    """Killed at once, with no time to say good-bye: launcher and worker."""
    cell = named(file, "vit", LONG)
    only = ["models={vit: {width: 32, depth: 1, heads: 2}}", LONG]
    run = subprocess.Popen(command(file, *only), stdout=subprocess.DEVNULL, start_new_session=True)
    wait_for(lambda: pid_in_a_step(paths, cell))
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert paths.lock(cell.id).exists()
    assert subprocess.run(command(file, *only), capture_output=True, timeout=300).returncode == 0
    undisturbed = train_cell(cell, paths=StudyPaths("other", tmp_path, tmp_path))
    assert read_record(paths.record(cell.id)).weights == undisturbed.weights


def test_lanes_of_a_run_that_was_killed_go_on_to_the_same_end(file, paths, tmp_path, monkeypatch):
    monkeypatch.setenv("VITCNN_CHECKPOINT_EVERY", "0.2")
    only = ["models={vit: {width: 32, depth: 1, heads: 2}}", "budget.images_seen=9600", "seeds=3", "--lanes", "3"]
    mine = [c for c in cells(load_study(file, only[:3])) if c.role == "main"]
    run = subprocess.Popen(command(file, *only), stdout=subprocess.DEVNULL, start_new_session=True)
    wait_for(lambda: all((paths.cell(cell.id) / "last.ckpt").exists() for cell in mine))
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert subprocess.run(command(file, *only), capture_output=True, timeout=300).returncode == 0
    for cell in mine:
        record = read_record(paths.record(cell.id))
        assert (record.cost.resumed, record.cost.lanes) == (1, 3)
        assert record.weights == train_cell(cell, paths=StudyPaths("other", tmp_path, tmp_path)).weights


def test_seeds_and_sizes_added_to_a_finished_study_are_all_that_is_trained(file, paths, vitcnn):
    only = ["models={linear: {C: [1.0]}, vit: {width: 32, depth: 1, heads: 2}}", "budget.images_seen=64"]
    larger = [*only, "seeds=2", "sizes=[50,60]"]
    finished, wanted = (cells(load_study(file, overrides)) for overrides in (only, larger))
    write(every(finished, lambda _: 0.9), paths)
    before = {path: path.read_bytes() for path in paths.records.iterdir()}
    code, out, _ = vitcnn("run", file, *larger, "--workers", 1, "--device", "cpu", "--wandb", "off")
    assert code == 0
    assert "6 of 8 cells to train" in out
    assert {path.stem for path in paths.records.iterdir()} == {cell.id for cell in wanted}
    assert {path: path.read_bytes() for path in before} == before
    assert vitcnn("run", file, *larger)[:2] == (0, "small: all 8 cells are done\n")


def test_a_worker_whose_launcher_was_killed_saves_its_cell_and_stops(file, paths):
    cell = named(file, "vit", LONG)
    run = subprocess.Popen(
        command(file, "models={vit: {width: 32, depth: 1, heads: 2}}", LONG), stdout=subprocess.DEVNULL
    )
    worker = wait_for(lambda: pid_in_a_step(paths, cell))
    run.kill()
    run.wait()
    wait_for(lambda: not process_runs(worker))
    assert (paths.cell(cell.id) / "last.ckpt").exists()
    assert [state.kind for state in states([cell], paths)] == ["stopped"]

"""A record comes back as it was written, what is no record is named, and files alone say how a study stands."""

import contextlib
import json
import math
import os
import resource
import subprocess
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import SEARCH, every, make_study, record, write

from vitcnn.data.sources.registry import parse_dataset
from vitcnn.store import records
from vitcnn.store.paths import write_atomically
from vitcnn.store.records import Score, read_record, read_records
from vitcnn.store.status import SILENCE, host, states, write_progress


@pytest.fixture
def trio(tmp_path):
    return make_study(tmp_path, "seeds=1")


def kinds(all_cells, paths) -> list[str]:
    return [state.kind for state in states(all_cells, paths)]


def leave_progress(folder, **what) -> None:
    """A sign of life of this process, now, or as `what` has it otherwise."""
    about = {"time": time.time(), "pid": os.getpid(), "host": host(), "step": 3}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "progress.json").write_text(json.dumps(about | what), encoding="utf-8")


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


# ---- a record ----


@pytest.mark.parametrize("text", [None, SEARCH])
def test_a_record_comes_back_as_it_was_written(tmp_path, text):
    _, all_cells, paths = make_study(tmp_path, **({"text": text} if text else {}))
    for each in every(all_cells, lambda cell: 0.1 + 0.8 * cell.n / 1000):
        again = read_record(records.write_record(each, paths))
        assert again == each
        assert again.cell.id == each.id


def test_a_record_is_not_replaced_unless_it_is_damaged(trio):
    _, all_cells, paths = trio
    first, second = (record(all_cells[0], accuracy, rng=np.random.default_rng(0)) for accuracy in (0.5, 0.7))
    path = records.write_record(first, paths)
    records.write_record(second, paths)
    assert read_record(path) == first
    path.write_bytes(path.read_bytes()[:-9])
    records.write_record(second, paths)
    assert read_record(path) == second


def test_the_bits_of_a_record_hold_its_accuracy(trio):
    _, all_cells, _ = trio
    each = record(all_cells[0], 0.742, rng=np.random.default_rng(0))
    assert each.test.images == parse_dataset("digits").info.test
    assert each.test.correct().mean() == each.test.accuracy == 0.742


@pytest.mark.parametrize("classes", [2, 10, 256, 257, 1000])
def test_predicted_classes_come_back_as_they_were_packed(classes):
    predicted = np.random.default_rng(0).integers(0, classes, 500)
    kept = records.TestScore(
        accuracy=1.0,
        nll=1.0,
        images=500,
        bits=records.pack_bits(np.ones(500)),
        predicted=records.pack_classes(predicted, classes),
    )
    assert kept.classes().tolist() == predicted.tolist()


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_bits_come_back_as_they_were_packed(right):
    correct = np.array(right, dtype=bool)
    kept = records.TestScore(accuracy=correct.mean(), nll=1.0, images=len(right), bits=records.pack_bits(correct))
    assert kept.correct().dtype == bool
    assert kept.correct().tolist() == right


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1e300))
def test_numbers_come_back_to_the_last_bit(accuracy, nll):
    score = Score(accuracy=accuracy, nll=nll, images=1)
    assert Score.model_validate_json(score.model_dump_json()) == score


@pytest.mark.parametrize("nll", [math.inf, math.nan])
def test_a_loss_that_is_no_number_is_refused_before_it_becomes_a_record_nobody_can_read(nll):
    with pytest.raises(ValueError, match="finite"):
        Score(accuracy=0.5, nll=nll, images=10)


def test_what_is_no_record_is_named_and_the_others_are_read(trio):
    _, all_cells, paths = trio
    good = every(all_cells, lambda _: 0.5)
    write(good, paths)
    text = paths.record(good[0].id).read_text()
    bad = {
        "stranger.json": text,
        "short.json": text[: len(text) // 2],
        "extra.json": json.dumps(json.loads(text) | {"colour": "red", "id": "extra"}),
        "newer.json": json.dumps(json.loads(text) | {"schema_": 2, "id": "newer"}),
        "tokens.json": "not json",
        "empty.json": "",
        "bytes.json": "\x00\x00",
    }
    for name, what in bad.items():
        (paths.records / name).write_text(what)
    loaded, wrong = read_records(paths.records)
    assert {r.id for r in loaded} == {r.id for r in good}
    assert len(wrong) == len(bad)
    for name, line in zip(sorted(bad), wrong, strict=True):
        assert name in line
        assert "\n" not in line
    assert good[0].id in next(line for line in wrong if "stranger" in line)


def test_a_folder_that_is_not_there_holds_no_records(tmp_path):
    assert read_records(tmp_path / "nowhere") == ([], [])


# ---- writing ----


@contextlib.contextmanager
def room_for(size: int):
    """While this lasts, a file that grows beyond `size` bytes fails midway, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("text", ["new, and longer " * 10_000, "a lone surrogate: \ud800"])
def test_a_write_that_fails_midway_leaves_the_old_file_and_no_scratch(tmp_path, text):
    path = tmp_path / "deep" / "file.json"
    write_atomically(path, "old")
    with room_for(50_000), pytest.raises((OSError, UnicodeEncodeError)):
        write_atomically(path, text)
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_a_first_write_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "file.json", "\ud800")
    assert not list(tmp_path.iterdir())


def test_a_write_replaces_the_old_file(tmp_path):
    write_atomically(tmp_path / "file.json", "old")
    write_atomically(tmp_path / "file.json", "né")
    assert (tmp_path / "file.json").read_text(encoding="utf-8") == "né"
    assert len(list(tmp_path.iterdir())) == 1


# ---- the state of a study ----


def test_a_study_without_folders_waits_and_gets_none_by_being_looked_at(trio, tmp_path):
    _, all_cells, paths = trio
    before = sorted(tmp_path.iterdir())
    assert kinds(all_cells, paths) == ["waiting"] * len(all_cells)
    assert sorted(tmp_path.iterdir()) == before


def test_the_state_of_every_cell_is_read_from_files(trio):
    _, all_cells, paths = trio
    done, running, dead, stopped, failed, begun, *rest = all_cells
    write(every([done], lambda _: 0.5), paths)
    leave_progress(paths.cell(done.id), pid=dead_pid())  # a record outweighs what a run left
    write_progress(paths.cell(running.id), step=7, accuracy=0.25)
    leave_progress(paths.cell(dead.id), pid=dead_pid())
    write_progress(paths.cell(stopped.id), step=5, stopped=True)
    leave_progress(paths.cell(failed.id))
    write_atomically(paths.cell(failed.id) / "failure.json", json.dumps({"error": "boom"}))
    paths.cell(begun.id).mkdir()
    found = states(all_cells, paths)
    assert [state.cell for state in found] == all_cells
    assert [state.kind for state in found] == ["done", "running", "stopped", "stopped", "failed", "waiting"] + [
        "waiting"
    ] * len(rest)
    assert (found[1].detail["step"], found[1].detail["accuracy"]) == (7, 0.25)
    assert found[3].detail["step"] == 5
    assert found[4].detail["error"] == "boom"


@pytest.mark.parametrize(("age", "kind"), [(0, "running"), (SILENCE - 60, "running"), (SILENCE + 1, "stopped")])
def test_a_worker_on_another_host_runs_as_long_as_it_is_heard_of(trio, age, kind):
    _, all_cells, paths = trio
    leave_progress(paths.cell(all_cells[0].id), host="elsewhere", pid=dead_pid(), time=time.time() - age)
    assert kinds(all_cells[:1], paths) == [kind]


def test_a_living_process_that_has_long_said_nothing_has_stopped(trio):
    _, all_cells, paths = trio
    leave_progress(paths.cell(all_cells[0].id), time=time.time() - SILENCE - 1)
    assert kinds(all_cells[:1], paths) == ["stopped"]


@pytest.mark.parametrize("content", [b"", b'{"time": 1', b"\0\0\0\0", b"\xff\xfe\xff"])
def test_a_progress_file_that_is_not_whole_counts_as_none(trio, content):
    _, all_cells, paths = trio
    paths.cell(all_cells[0].id).mkdir(parents=True)
    (paths.cell(all_cells[0].id) / "progress.json").write_bytes(content)
    assert kinds(all_cells[:1], paths) == ["waiting"]


def test_scratch_files_and_strange_names_are_no_finished_cells(trio):
    _, all_cells, paths = trio
    paths.records.mkdir(parents=True)
    (paths.records / f".{all_cells[0].id}.json.123").write_text("{}")
    (paths.records / f"{all_cells[1].id}.txt").write_text("{}")
    assert kinds(all_cells[:2], paths) == ["waiting", "waiting"]

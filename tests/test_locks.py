"""Locks of cells: one holder at a time, whoever dies."""

import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
from multiprocessing import get_context

import pytest

from vitcnn.errors import ConfigError
from vitcnn.launch.locks import CellLocks
from vitcnn.store.paths import StudyPaths


def test_a_cell_has_one_holder_and_can_be_given_back(paths):
    one, other = CellLocks(paths), CellLocks(paths)
    assert one.take("a")
    assert one.take("a")
    assert not other.take("a")
    assert other.take("b")
    other.give_back("a")
    assert not other.take("a")
    one.give_back("a")
    assert other.take("a")
    other.give_back_all()
    assert list(paths.lock("a").parent.iterdir()) == []


HOLD = """
import sys
from pathlib import Path
from vitcnn.launch.locks import CellLocks
from vitcnn.store.paths import StudyPaths

locks = CellLocks(StudyPaths("small", Path(sys.argv[1]), Path(sys.argv[2])))
print(locks.take("a"), flush=True)
sys.stdin.read()
"""


def test_a_holder_that_is_killed_holds_no_more(paths):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, paths.results, paths.runs],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout.readline() == "True\n"
        assert not CellLocks(paths).take("a")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert CellLocks(paths).take("a")


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_a_sentence(code, paths, monkeypatch):
    def flock(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(ConfigError, match="this file system does not support locks; choose another folder with --runs"):
        CellLocks(paths).take("a")


def test_a_network_folder_that_changes_in_this_moment_is_asked_again_later(paths, monkeypatch):
    def stale(*_):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", stale)
        assert not CellLocks(paths).take("a")
    assert CellLocks(paths).take("a")


def test_no_more_files_can_be_opened_is_a_sentence(paths):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(
            ConfigError, match="Too many open files; fix this and run the same command again to continue"
        ):
            CellLocks(paths).take("a")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert CellLocks(paths).take("a")


def test_a_cell_whose_run_was_killed_belongs_to_its_worker_until_that_ends(paths):
    worker = CellLocks(paths, ".worker")
    assert worker.take("a")
    run = CellLocks(paths)
    assert not run.take("a")
    assert run.take("b")
    worker.give_back("a")
    assert run.take("a")


def grab(paths: StudyPaths, out, start, end) -> None:
    locks = CellLocks(paths)
    start.wait()
    out.put(locks.take("a"))
    end.wait()  # a holder that has ended holds nothing


def test_of_many_that_want_it_at_once_one_gets_it(paths):
    context = get_context("fork")
    out, start, end = context.SimpleQueue(), context.Barrier(8), context.Barrier(8)
    many = [context.Process(target=grab, args=(paths, out, start, end)) for _ in range(8)]
    for one in many:
        one.start()
    got = [out.get() for _ in many]
    for one in many:
        one.join()
    assert sum(got) == 1


def count(paths: StudyPaths, file, times: int) -> None:
    """Adds 1 to the number in a file, `times` times, each under the lock."""
    locks = CellLocks(paths)
    while times:
        if locks.take("a"):
            file.write_text(str(int(file.read_text()) + 1))
            locks.give_back("a")
            times -= 1


def test_a_lock_that_goes_with_its_holder_is_never_held_twice(paths, tmp_path):
    """Its file is deleted and made again all the time."""
    file = tmp_path / "number"
    file.write_text("0")
    many = [get_context("fork").Process(target=count, args=(paths, file, 100)) for _ in range(4)]
    for one in many:
        one.start()
    for one in many:
        one.join()
    assert file.read_text() == "400"

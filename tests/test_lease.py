"""Leases: one owner at a time, whoever dies."""

import errno
import json
import os
import resource
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest

from vitcnn.errors import ConfigError
from vitcnn.launch import lease
from vitcnn.launch.lease import Leases


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cell"


def plant(folder: Path, **owner: object) -> Path:
    folder.mkdir()
    path = folder / "lease"
    path.write_text(json.dumps({"token": "theirs", "host": os.uname().nodename, "pid": os.getpid()} | owner))
    return path


def test_a_lease_has_one_owner_and_can_be_given_back(folder):
    one, other = Leases(), Leases()
    assert one.take(folder)
    assert one.take(folder)
    assert not other.take(folder)
    other.give_back(folder)
    assert not other.take(folder)
    one.give_back(folder)
    assert other.take(folder)
    other.give_back_all()
    assert list(folder.iterdir()) == []


def test_a_process_that_is_gone_on_this_machine_is_dead_at_once(folder):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    plant(folder, pid=child.pid)
    assert Leases().take(folder)
    assert [path.name for path in folder.iterdir()] == ["lease"]


def test_a_number_that_another_process_has_by_now_keeps_a_cell_for_a_while_only(folder, monkeypatch):
    """As in a container that was killed and begun again: same host, and the launcher is process 1 each time."""
    now = [1000.0]
    monkeypatch.setattr(lease.time, "monotonic", lambda: now[0])
    plant(folder)  # of a process that runs: this one
    mine = Leases()
    assert not mine.take(folder)
    now[0] += lease.EXPIRES + 1
    assert mine.take(folder)


def failing(code: int):
    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESTALE])
def test_a_cell_whose_folder_goes_in_this_moment_is_not_ours(code, folder, monkeypatch):
    """Finished by another run, or changed by another machine."""
    monkeypatch.setattr(Path, "open", failing(code))
    assert not Leases().take(folder)


def test_a_disk_without_room_for_a_lease_is_a_sentence_and_leaves_none(folder):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # files may be made, and not be written to
    try:
        with pytest.raises(ConfigError, match="File too large; the same command goes on once that is mended"):
            Leases().take(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(folder.iterdir()) == []
    assert Leases().take(folder)


def test_a_network_folder_that_is_away_for_a_moment_does_not_stop_the_heart(folder, monkeypatch):
    mine = Leases()
    mine.take(folder)
    mine._beaten -= lease.BEAT + 1
    monkeypatch.setattr(os, "utime", failing(errno.ESTALE))
    mine.beat()
    assert mine.held == {folder / "lease"}


def test_an_owner_elsewhere_is_dead_once_its_file_has_not_changed_for_a_while_of_our_own_clock(folder, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(lease.time, "monotonic", lambda: now[0])
    path, mine = plant(folder, host="elsewhere", pid=1), Leases()
    os.utime(path, (0, 0))  # a clock far behind ours is no reason
    assert not mine.take(folder)
    now[0] += lease.EXPIRES - 1
    os.utime(path, (5, 5))  # a heartbeat
    assert not mine.take(folder)
    now[0] += lease.EXPIRES - 1
    assert not mine.take(folder)
    now[0] += 2
    assert mine.take(folder)


def test_a_heartbeat_changes_the_files_time_and_survives_a_folder_that_is_gone(folder, monkeypatch, tmp_path):
    now = [1000.0]
    monkeypatch.setattr(lease.time, "monotonic", lambda: now[0])
    mine = Leases()
    mine.take(folder)
    mine.take(tmp_path / "gone")
    (tmp_path / "gone" / "lease").unlink()
    os.utime(folder / "lease", (5, 5))
    mine.beat()
    assert (folder / "lease").stat().st_mtime == 5
    now[0] += lease.BEAT + 1
    mine.beat()
    assert (folder / "lease").stat().st_mtime > 5


def grab(folder: Path, out, start, end) -> None:
    start.wait()
    got = Leases().take(folder)
    end.wait()  # an owner that has ended is dead
    out.put(got)


@pytest.mark.parametrize("dead", [False, True])
def test_of_many_that_want_it_at_once_one_gets_it(dead, folder):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    if dead:
        plant(folder, pid=child.pid)
    context = get_context("fork")
    out, start, end = context.SimpleQueue(), context.Barrier(8), context.Barrier(8)
    many = [context.Process(target=grab, args=(folder, out, start, end)) for _ in range(8)]
    for one in many:
        one.start()
    got = [out.get() for _ in many]
    for one in many:
        one.join()
    assert sum(got) == 1
    assert (folder / "lease").exists()

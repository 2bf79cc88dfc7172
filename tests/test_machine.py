"""What a container or a scheduler leaves of the machine, as Linux tells it."""

import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from vitcnn.system import machine

GB = 10**9


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """`groups("0::/job", {"job/memory.max": "5"})`: the process's control groups, and their files."""
    monkeypatch.setattr(machine, "GROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN_GROUP", tmp_path / "mine")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8 * GB))

    def put(mine: str, files: dict[str, object]) -> None:
        (tmp_path / "mine").write_text(mine)
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{content}\n")

    return put


def test_without_limits_all_of_the_machine_is_ours(groups):
    groups("0::/job", {"job/memory.max": "max", "job/memory.current": GB})
    assert machine.free_bytes() == 8 * GB


@pytest.mark.parametrize("above", ["", "/step/task"])
def test_a_limit_counts_wherever_it_stands_above_the_process_and_the_file_cache_is_free(above, groups):
    used = {"memory.max": GB, "memory.current": GB // 2, "memory.stat": f"anon 7\ninactive_file {GB // 10}"}
    groups(f"0::/job{above}", {f"job/{name}": content for name, content in used.items()})
    assert machine.free_bytes() == GB - GB // 2 + GB // 10


def test_version_1_has_the_same_limits_by_other_names(groups):
    used = {"limit_in_bytes": GB, "usage_in_bytes": GB // 4, "stat": f"cache 5\ntotal_inactive_file {GB // 8}"}
    files = {f"memory/job/memory.{name}": content for name, content in used.items()}
    groups("4:memory:/job\n3:cpu,cpuacct:/\n0::/", files)
    assert machine.free_bytes() == GB - GB // 4 + GB // 8


def test_cores_that_the_process_may_not_use_are_not_counted():
    """As `taskset` has it."""
    first = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    script = f"{first}; from vitcnn.system.machine import cores; print(cores())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr

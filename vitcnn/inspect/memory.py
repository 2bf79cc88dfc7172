"""How much memory something takes at its peak."""

import contextlib
import ctypes
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import torch


def wait_for(where: torch.device) -> None:
    """Waits for a GPU to finish, before reading the clock."""
    if where.type == "cuda":
        torch.cuda.synchronize(where)


def peak_during(work: Callable[[], object], where: torch.device) -> int | None:
    """The peak of memory during `work` above that before, in bytes: allocated on a GPU, else resident. None if the
    system cannot tell (no VmHWM that can be set back, and an earlier peak that was higher)."""
    return (_allocated if where.type == "cuda" else _resident)(work, where)


def _allocated(work: Callable[[], object], where: torch.device) -> int:
    wait_for(where)
    torch.cuda.reset_peak_memory_stats(where)
    before = torch.cuda.memory_allocated(where)
    work()
    wait_for(where)
    return torch.cuda.max_memory_allocated(where) - before


def _resident(work: Callable[[], object], _: torch.device) -> int | None:
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc: return freed memory, which else hides new allocations
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5): resets the peak
    except OSError:
        before, earlier = psutil.Process().memory_info().rss, _highest()
        work()
        return after - before if (after := _highest()) > earlier else None
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    return 1024 * int(re.search(rf"{key}:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))[1])


def _highest() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

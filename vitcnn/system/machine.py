"""The cores and memory available to this process, within limits of containers, schedulers and `taskset`.

Limits of memory are read from Linux's control groups, of both versions; elsewhere there are none.
"""

from collections.abc import Iterator
from pathlib import Path

GROUPS, OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cores() -> int:
    """CPU cores that this process may use, within the limits of its container."""
    import joblib

    return joblib.cpu_count()


def free_bytes() -> int:
    """Bytes of memory available, including the reclaimable file cache."""
    import psutil

    free = psutil.virtual_memory().available
    limits = [(g, "memory.max", "memory.current", "inactive_file") for g in _groups("")]
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    for group, most, used, cached in limits + [(g, *names) for g in _groups("memory")]:
        most, used = _read(group / most), _read(group / used)
        if most.isdecimal() and used.isdecimal():
            stat = dict(line.split(" ") for line in _read(group / "memory.stat").splitlines())
            free = min(free, max(0, int(most) - int(used) + int(stat.get(cached, 0))))
    return free


def _groups(controller: str) -> Iterator[Path]:
    """The control group of this process and those above it; "": version 2's, which has all controllers."""
    for line in _read(OWN_GROUP).splitlines():
        _, controllers, name = line.split(":", 2)
        if controller in controllers.split(","):
            root = GROUPS / controller
            here = root / name.lstrip("/")
            yield from (folder for folder in (here, *here.parents) if folder.is_relative_to(root))


def _read(file: Path) -> str:
    """The empty string if there is no such file."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""

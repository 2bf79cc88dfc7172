"""Who trains a cell: one run at a time, also where several, on one machine or many, share the folders of a study.

runs/<study>/<cell id>/lease      held by a run: its host, process and a token; its age tells whether the run is alive
"""

import contextlib
import errno
import json
import os
import time
import uuid
from pathlib import Path

from filelock import FileLock

from vitcnn.errors import ConfigError
from vitcnn.store.status import process_runs

EXPIRES = 60.0  # seconds without a heartbeat after which an owner on another machine counts as dead
BEAT = 5.0  # seconds between heartbeats


class Leases:
    """The leases that one run holds. `beat` must be called now and then, or others take the cells over.

    A lease is a file that is made only where there is none (O_EXCL, on network folders too). Clocks of machines differ,
    so that an owner counts as dead once its file has not changed while EXPIRES seconds went by here;
    on this machine already once its process is gone (another may have its number: in a restarted container, say).
    """

    def __init__(self) -> None:
        self.token = uuid.uuid4().hex
        self.held: set[Path] = set()
        self._seen: dict[Path, tuple[int, float]] = {}  # of others: the file's time, and when it was first seen here
        self._beaten = time.monotonic()

    def take(self, folder: Path) -> bool:
        """Is the cell of this folder ours now? False where another run is at work on it."""
        lease = folder / "lease"
        if lease in self.held:
            return True
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if dead := self._dead(lease):
                with FileLock(folder.parent / "leases.lock"):  # of those who find it dead, one buries it
                    if _owner(lease).get("token", "?") == dead:
                        lease.unlink(missing_ok=True)
                    self._make(lease)
            else:
                self._make(lease)
        except (FileExistsError, FileNotFoundError):  # held by another run, or gone with its finished cell
            return False
        except OSError as error:
            if error.errno == errno.ESTALE:  # a network folder that another machine has just changed
                return False
            raise ConfigError(
                f"{lease}: {error.strerror or error}; the same command goes on once that is mended"
            ) from None
        self.held.add(lease)
        return True

    def beat(self) -> None:
        """Shows that this run is alive; at most every BEAT seconds."""
        if time.monotonic() - self._beaten < BEAT:
            return
        self._beaten = time.monotonic()
        for lease in self.held:
            with contextlib.suppress(OSError):  # the folder goes with the finished cell; a network folder comes back
                os.utime(lease)

    def give_back(self, folder: Path) -> None:
        lease = folder / "lease"
        if lease in self.held:
            self.held.discard(lease)
            if _owner(lease).get("token") == self.token:
                lease.unlink(missing_ok=True)

    def give_back_all(self) -> None:
        for lease in list(self.held):
            self.give_back(lease.parent)

    def _dead(self, lease: Path) -> str | None:
        """The token of an owner that is dead."""
        try:
            changed = lease.stat().st_mtime_ns
        except OSError:
            return None
        owner = _owner(lease)
        if owner.get("host") == os.uname().nodename and not process_runs(owner["pid"]):
            return owner["token"]
        before, since = self._seen.setdefault(lease, (changed, time.monotonic()))
        if before != changed:
            self._seen[lease] = before, since = (changed, time.monotonic())
        return owner.get("token", "?") if time.monotonic() - since > EXPIRES else None

    def _make(self, lease: Path) -> None:
        """Raises FileExistsError where there is one; leaves none that is not whole."""
        about = {"token": self.token, "host": os.uname().nodename, "pid": os.getpid()}
        file = lease.open("x", encoding="utf-8")
        try:
            with file:
                file.write(json.dumps(about))
        except OSError:
            lease.unlink(missing_ok=True)
            raise


def _owner(lease: Path) -> dict:
    try:
        return json.loads(lease.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}

"""Locks: one run at a time trains a cell, also where several runs share the folders of a study.

runs/<study>/locks/<cell id>          locked by the run that trains the cell
runs/<study>/locks/<cell id>.worker   locked by its process that does

The locks are the kernel's (flock): each ends with the process that holds it, however that ends, and not before. So a
run that is stopped for a while keeps its cells, and a worker whose run was killed keeps its cell until it has ended.
On a folder that several machines share they are as good as the file system's locks: NFS 4, and NFS 3 with lockd, hold
them for all machines. Where each machine locks for itself (NFS mounted with `nolock` or `local_lock=flock`) two may
train the same cell. Both finish, and the first record stays; the two agree but for the last bits that machines differ
in.
"""

import errno
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from vitcnn.errors import ConfigError
from vitcnn.store.paths import StudyPaths

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


class CellLocks:
    """The cells of a study that one run holds, by id; with `kind`, those that one of its workers holds."""

    def __init__(self, paths: StudyPaths, kind: Literal["", ".worker"] = "") -> None:
        self.paths, self.kind = paths, kind
        self._held: dict[str, FileLock] = {}

    def take(self, cell_id: str) -> bool:
        """Locks a cell. False if another run holds it, or a worker of a run that was killed."""
        if cell_id in self._held:
            return True
        if not self._lock(cell_id):
            return False
        if not self.kind:
            of_worker = CellLocks(self.paths, ".worker")
            if not of_worker.take(cell_id):
                self.give_back(cell_id)
                return False
            of_worker.give_back(cell_id)
        return True

    def _lock(self, cell_id: str) -> bool:
        path = self.paths.lock(f"{cell_id}{self.kind}")
        lock = FileLock(path, fallback_to_soft=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
        except Timeout:
            return False
        except OSError as error:
            if error.errno == errno.ESTALE:  # another machine has just changed this network folder
                return False
            why = error.strerror or error
            if error.errno in NO_LOCKS:
                why = f"{why}: this file system does not support locks; choose another folder with --runs"
            raise ConfigError(f"{path}: {why}; fix this and run the same command again to continue") from None
        self._held[cell_id] = lock
        return True

    def give_back(self, cell_id: str) -> None:
        if not self.kind and self.paths.lock(f"{cell_id}.worker").exists():  # of a worker that was killed
            of_worker = CellLocks(self.paths, ".worker")
            if of_worker.take(cell_id):
                of_worker.give_back(cell_id)
        if lock := self._held.pop(cell_id, None):
            Path(lock.lock_file).unlink(
                missing_ok=True
            )  # still locked; a waiting run will notice that the file is gone
            lock.release()

    def give_back_all(self) -> None:
        for cell_id in list(self._held):
            self.give_back(cell_id)

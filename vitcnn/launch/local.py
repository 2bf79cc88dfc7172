"""Worker processes on this machine."""

import os
import signal
import time
from collections.abc import Collection
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool

from pebble import CONSTS, ProcessExpired, ProcessFuture, ProcessPool

from vitcnn.errors import ConfigError, JobFailed
from vitcnn.launch.jobs import Job
from vitcnn.launch.pool import End
from vitcnn.launch.worker import Options, start, work
from vitcnn.store.paths import StudyPaths
from vitcnn.store.status import host, process_runs, read_progress
from vitcnn.system import processes

REPORTED = 3.0  # seconds in which the pool reports a worker that died
CONSTS.term_timeout = 0.2  # seconds after which a worker that has not stopped is killed


class LocalPool:
    """Processes that stay alive between jobs; with `fresh` each job has one of its own. `sources`: ids of cells whose
    weights are kept. Raises ConfigError if they cannot be started."""

    def __init__(
        self, paths: StudyPaths, options: Options, workers: int, sources: Collection[str] = (), fresh: bool = False
    ):
        self.paths, self.options, self.workers, self.sources = paths, options, workers, sources
        self.tasks_each = 1 if fresh else 0  # 0: no limit
        self.context = processes.context()
        self.stopped = self.context.Event()
        self.active: dict[ProcessFuture, Job] = {}
        self.given: dict[str, float] = {}  # first cells of active jobs, and when they were given to a worker
        self.vanished: dict[str, float] = {}  # those whose worker is gone, and since when
        self._start()

    def _start(self) -> None:
        start_args = (self.stopped, self.options.threads, dict(os.environ))
        pool_args = {"initializer": start, "initargs": start_args, "context": self.context}
        self.pool = ProcessPool(self.workers, max_tasks=self.tasks_each, **pool_args)
        before = signal.pthread_sigmask(
            signal.SIG_BLOCK, {signal.SIGINT}
        )  # inherited by the workers: only this process handles Ctrl-C
        try:
            if not self.pool.active:  # reading `active` starts the pool
                raise RuntimeError("the worker pool did not start")
        except (OSError, BrokenProcessPool) as error:
            raise ConfigError(f"worker processes cannot be started: {error.__cause__ or error}") from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    @property
    def free(self) -> int:
        return self.workers - len(self.active)

    def suits(self, job: Job) -> bool:
        return self.free > 0

    def schedule(self, job: Job) -> None:
        if not self.pool.active:  # all workers died during start-up; each death counts as a try of its cell
            self.pool.join()
            self._start()
        self.given[job[0].id] = time.time()
        self.vanished.pop(job[0].id, None)
        self.active[self.pool.schedule(work, args=(job, self.paths, self.options, self.sources))] = job

    def ended(self, seconds: float) -> list[tuple[Job, End]]:
        if not self.active:
            time.sleep(seconds)
        for future, job in self.active.items():
            if self._has_vanished(job):
                future.cancel()
        done = wait(self.active, timeout=seconds, return_when=FIRST_COMPLETED).done
        return [(self.active.pop(future), _end(future)) for future in done]

    def _has_vanished(self, job: Job) -> bool:
        """True for a job whose worker has exited with status 0, which the pool does not report (`os._exit(0)` in
        someone's network)."""
        progress = read_progress(self.paths.cell(job[0].id)) or {}
        here = progress.get("host") == host() and progress.get("time", 0) > self.given[job[0].id]
        if not here or process_runs(progress["pid"]):
            self.vanished.pop(job[0].id, None)
            return False
        return time.time() - self.vanished.setdefault(job[0].id, time.time()) > REPORTED

    def stop(self) -> None:
        self.stopped.set()

    def close(self) -> None:
        self.pool.stop() if self.active or self.stopped.is_set() else self.pool.close()
        self.pool.join()


def _end(future: ProcessFuture) -> End:
    error = ProcessExpired("it ended", code=0) if future.cancelled() else future.exception()
    if isinstance(error, ProcessExpired):
        return JobFailed(f"the worker died with {processes.exit_code(error.exitcode)}")
    return error or future.result()

"""Runs jobs in processes on this machine. A cell that fails, or whose worker dies, is tried once more."""

import contextlib
import json
import os
import signal
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any

from pebble import CONSTS, ProcessExpired, ProcessFuture, ProcessPool

from vitcnn.errors import ConfigError, JobFailed, NotFiniteLoss, Unwritable
from vitcnn.launch.jobs import Job
from vitcnn.launch.locks import CellLocks
from vitcnn.launch.worker import Options, start, work
from vitcnn.models.registry import Imported
from vitcnn.store.paths import StudyPaths, write_atomically
from vitcnn.store.status import host, process_runs, read_progress
from vitcnn.study.cell import Cell
from vitcnn.system import processes

TRIES = 2
REPORTED = 3.0  # seconds in which the pool reports a worker that died
GRACE = 3.5  # seconds for saving checkpoints; some cluster schedulers allow 5 in all
CONSTS.term_timeout = 0.2  # seconds after which a worker that has not stopped is killed


@dataclass
class Outcome:
    """What became of the scheduled cells."""

    done: list[Cell] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # cell title -> error
    interrupted: bool = False


def run_jobs(
    jobs: Sequence[Job],
    paths: StudyPaths,
    options: Options,
    workers: int,
    tick: Callable[[], None] = lambda: None,
    log: Callable[[str], None] = print,
    wait_for_others: bool = True,
) -> Outcome:
    """Trains `jobs` in order on `workers` processes; `tick` is called twice a second. The processes stay alive between
    jobs, except where networks are a user's own: then each job has a fresh one. The cells of a job that fails as a
    whole are tried once more, each alone.

    Ctrl-C and SIGTERM make the running cells save a checkpoint and end the run (`interrupted`). If SIGINT is ignored
    from the start, as with `nohup … &` in a script, it stays ignored; use SIGTERM. Several runs, also on several
    machines, may work on one study: a run skips cells that another one trains, and takes them over if that one dies.
    Without `wait_for_others` it ends as soon as others train all that is left.
    """
    run = _Run(jobs, paths, options, workers, log)
    with processes.answered(signal.SIGTERM, _interrupt):
        run.start_pool()
        try:
            while run.waiting or run.active:
                run.give_out()
                if not wait_for_others and run.is_idle():
                    break
                run.collect()
                tick()
        except BaseException as error:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Slurm sends it twice; the second must not cut this short
            run.interrupt()
            if not isinstance(error, KeyboardInterrupt):
                raise
        finally:
            with processes.answered(signal.SIGINT, signal.SIG_IGN), processes.answered(signal.SIGTERM, signal.SIG_IGN):
                run.end()  # another Ctrl-C or SIGTERM must not leave workers and locks behind
    return run.outcome


class _Run:
    """Waiting jobs, active jobs, and the outcome so far."""

    def __init__(
        self, jobs: Sequence[Job], paths: StudyPaths, options: Options, workers: int, log: Callable[[str], None]
    ):
        self.paths, self.options, self.workers, self.log = paths, options, workers, log
        self.waiting: deque[Job] = deque(jobs)
        self.active: dict[ProcessFuture, Job] = {}
        own_code = any(isinstance(cell.arch, Imported) for job in jobs for cell in job)
        self.tasks_each = 1 if own_code else 0  # a user's code may change torch's global state; 0: no limit
        self.sources = {cell.init_from for job in jobs for cell in job} - {None}
        self.outcome, self.tries, self.locks = Outcome(), Counter(), CellLocks(paths)
        self.context = processes.context()
        self.stop = self.context.Event()
        self.given: dict[str, float] = {}  # first cells of active jobs, and when they were given to a worker
        self.vanished: dict[str, float] = {}  # those whose worker is gone, and since when

    def start_pool(self) -> None:
        start_args = (self.stop, self.options.threads, dict(os.environ))
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

    def give_out(self) -> None:
        """Schedules jobs on free workers."""
        if not self.pool.active:  # all workers died during start-up; each death counts as a try of its cell
            self.pool.join()
            self.start_pool()
        for job in list(self.waiting):
            if len(self.active) == self.workers:
                break
            if _is_ready(job, self.waiting, self.active.values()):
                self.waiting.remove(job)
                if taken := self._take(job):
                    self.tries.update(cell.id for cell in taken)
                    self.given[taken[0].id] = time.time()
                    self.vanished.pop(taken[0].id, None)
                    self.active[self.pool.schedule(work, args=(taken, self.paths, self.options, self.sources))] = taken

    def is_idle(self) -> bool:
        """True if other runs train all cells that are left."""
        return not self.active and all(_is_ready(job, self.waiting, ()) for job in self.waiting)

    def _take(self, job: Job) -> Job:
        """Locks the cells of a job that this run can train. Finished cells are dropped; cells that another run holds go
        back to waiting."""
        free = [cell for cell in job if _is_open(cell, self.paths) and self.locks.take(cell.id)]
        taken = tuple(
            cell for cell in free if _is_open(cell, self.paths)
        )  # checked again: another run may have finished one before it was locked
        for cell in free:
            if cell not in taken:
                self.locks.give_back(cell.id)
        if others := tuple(cell for cell in job if cell not in free and _is_open(cell, self.paths)):
            self.waiting.append(others)
        return taken

    def collect(self) -> None:
        """Waits for half a second, or until a job ends. Raises KeyboardInterrupt if a worker received SIGTERM, and
        Unwritable if a record cannot be written."""
        for future, job in self.active.items():
            if self._has_vanished(job):
                future.cancel()
        if not self.active:
            time.sleep(0.5)  # other runs train all remaining cells
        for future in wait(self.active, timeout=0.5, return_when=FIRST_COMPLETED).done:
            job = self.active.pop(future)
            error = ProcessExpired("it ended", code=0) if future.cancelled() else future.exception()
            if isinstance(error, Unwritable):
                raise error
            if error:
                ended = dict.fromkeys((cell.id for cell in job), error)
            else:
                ended, messages = future.result()
                for line in messages:
                    self.log(line)
            again = [cell for cell in job if self._end(cell, ended[cell.id])]
            if again:
                what = again[0].title if len(job) == 1 else f"{len(again)} {again[0].model} cells"
                once = "it is tried" if len(job) == 1 else "each is tried alone,"
                self.log(f"{what} failed ({_first_line(ended[again[0].id])}); {once} again at the end")
                self.waiting.extend((cell,) for cell in again)

    def _has_vanished(self, job: Job) -> bool:
        """True for a job whose worker has exited with status 0, which the pool does not report (`os._exit(0)` in
        someone's network)."""
        progress = read_progress(self.paths.cell(job[0].id)) or {}
        here = progress.get("host") == host() and progress.get("time", 0) > self.given[job[0].id]
        if not here or process_runs(progress["pid"]):
            self.vanished.pop(job[0].id, None)
            return False
        return time.time() - self.vanished.setdefault(job[0].id, time.time()) > REPORTED

    def _end(self, cell: Cell, end: Any) -> bool:
        """Records the outcome of a cell ("done", "stopped" or an error). True if it should be tried again."""
        if end == "stopped":  # the worker received SIGTERM: the machine is about to go away
            raise KeyboardInterrupt
        if end == "done":
            self.outcome.done.append(cell)
        elif self.tries[cell.id] < TRIES and not _final(end):
            return True
        else:
            self.outcome.failed[cell.title] = _give_up(cell, end, self.paths)
            self.log(f"{cell.title} failed: {self.outcome.failed[cell.title]}")
        self.locks.give_back(cell.id)
        return False

    def interrupt(self) -> None:
        """Gives running cells GRACE seconds to save a checkpoint; another Ctrl-C cuts this short."""
        self.outcome.interrupted = True
        self.log("Stopping: the running cells save a checkpoint …")
        self.stop.set()
        with contextlib.suppress(KeyboardInterrupt):
            wait(self.active, timeout=GRACE)

    def end(self) -> None:
        self.pool.stop() if self.outcome.interrupted else self.pool.close()
        self.pool.join()
        self.locks.give_back_all()


def _is_open(cell: Cell, paths: StudyPaths) -> bool:
    return not (paths.record(cell.id).exists() or paths.failure(cell.id).exists())


def _is_ready(job: Job, waiting: Iterable[Job], active: Iterable[Job]) -> bool:
    """True if no cell of the job still waits for its source cell."""
    sources = {cell.init_from for cell in job} - {None}
    return not sources or sources.isdisjoint(cell.id for other in (*waiting, *active) for cell in other)


def _final(error: BaseException) -> bool:
    """True for errors that would happen again."""
    return isinstance(error, ConfigError | NotFiniteLoss)


def _first_line(error: BaseException) -> str:
    if isinstance(error, ProcessExpired):
        return f"the worker died with {processes.exit_code(error.exitcode)}"
    return str(error if isinstance(error, JobFailed) else JobFailed.of(error))


def _give_up(cell: Cell, error: BaseException, paths: StudyPaths) -> str:
    message = _first_line(error)
    trace = getattr(error, "traceback", None) or "".join(traceback.format_exception(error))
    what = {"error": message, "traceback": str(trace), "time": time.time()}
    if isinstance(error, NotFiniteLoss):  # deterministic, so part of the results
        place, what = paths.failure(cell.id), what | {"cell": cell.model_dump(mode="json")}
    else:
        place = paths.cell(cell.id) / "failure.json"
    try:
        write_atomically(place, json.dumps(what))
    except OSError as full:
        return f"{message} (and {place} could not be written: {full.strerror or full})"
    return f"{message} (details in {place})"


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt

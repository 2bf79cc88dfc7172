"""Runs jobs on a pool of workers. A cell that fails, or whose worker dies, is tried once more."""

import contextlib
import json
import signal
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from vitcnn.errors import ConfigError, JobFailed, NotFiniteLoss, Unwritable
from vitcnn.launch.jobs import Job
from vitcnn.launch.local import LocalPool
from vitcnn.launch.locks import CellLocks
from vitcnn.launch.pool import Pool, StartPool
from vitcnn.launch.worker import Options
from vitcnn.models.registry import Imported
from vitcnn.store.paths import StudyPaths, write_atomically
from vitcnn.study.cell import Cell
from vitcnn.system import processes

TRIES = 2
TICK = 0.5  # seconds
GRACE = 3.5  # seconds for saving checkpoints; some cluster schedulers allow 5 in all


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
    start_pool: StartPool = LocalPool,
    wait_for_others: bool = True,
) -> Outcome:
    """Trains `jobs` in order on a pool of `workers`; `tick` is called twice a second. Where networks are a user's own,
    each job has a fresh process. The cells of a job that fails as a whole are tried once more, each alone.

    Ctrl-C and SIGTERM make the running cells save a checkpoint and end the run (`interrupted`). If SIGINT is ignored
    from the start, as with `nohup … &` in a script, it stays ignored; use SIGTERM. Several runs, also on several
    machines, may work on one study: a run skips cells that another one trains, and takes them over if that one dies.
    Without `wait_for_others` it ends as soon as others train all that is left.
    """
    sources = frozenset(cell.init_from for job in jobs for cell in job if cell.init_from)
    own_code = any(isinstance(cell.arch, Imported) for job in jobs for cell in job)  # may change torch's global state
    with processes.answered(signal.SIGTERM, _interrupt):
        run = _Run(jobs, paths, start_pool(paths, options, workers, sources, own_code), log)
        ticked = 0.0
        try:
            while run.waiting or run.active:
                run.give_out()
                if not wait_for_others and run.is_idle():
                    break
                run.collect()
                if (now := time.monotonic()) - ticked >= TICK:
                    ticked = now
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

    def __init__(self, jobs: Sequence[Job], paths: StudyPaths, pool: Pool, log: Callable[[str], None]):
        self.paths, self.pool, self.log = paths, pool, log
        self.waiting: deque[Job] = deque(jobs)
        self.unfinished = {cell.id for job in jobs for cell in job}
        self.active = 0  # jobs
        self.outcome, self.tries, self.locks = Outcome(), Counter(), CellLocks(paths)

    def give_out(self) -> None:
        """Schedules jobs on free workers."""
        for job in list(self.waiting):
            if not self.pool.free:
                break
            if self.pool.suits(job) and _is_ready(job, self.unfinished):
                self.waiting.remove(job)
                if taken := self._take(job):
                    self.tries.update(cell.id for cell in taken)
                    self.pool.schedule(taken)
                    self.active += 1

    def is_idle(self) -> bool:
        """True if other runs train all cells that are left."""
        return not self.active and all(_is_ready(job, self.unfinished) for job in self.waiting)

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
        self.unfinished -= {cell.id for cell in job} - {cell.id for cell in (*taken, *others)}
        for cell in taken:
            (self.paths.cell(cell.id) / "failure.json").unlink(missing_ok=True)
        return taken

    def collect(self) -> None:
        """Waits for a tick, or until a job ends. Raises KeyboardInterrupt if a worker received SIGTERM, and Unwritable
        if a record cannot be written."""
        batch = self.pool.ended(TICK)
        self.active -= len(batch)
        for job, end in batch:
            if isinstance(end, Unwritable):
                raise end
            if isinstance(end, BaseException):
                ended = dict.fromkeys((cell.id for cell in job), end)
            else:
                ended, messages = end
                for line in messages:
                    self.log(line)
            again = [cell for cell in job if self._end(cell, ended[cell.id])]
            if again:
                what = again[0].title if len(job) == 1 else f"{len(again)} {again[0].model} cells"
                once = "it is tried" if len(job) == 1 else "each is tried alone,"
                self.log(f"{what} failed ({_first_line(ended[again[0].id])}); {once} again at the end")
                self.waiting.extend((cell,) for cell in again)

    def _end(self, cell: Cell, end: Any) -> bool:
        """Records the outcome of a cell ("done", "stopped" or an error). True if it should be tried again."""
        if end == "stopped":  # the worker received SIGTERM: the machine is about to go away
            raise KeyboardInterrupt
        again = end != "done" and self.tries[cell.id] < TRIES and not _final(end)
        if end == "done":
            self.outcome.done.append(cell)
        elif not again:
            self.outcome.failed[cell.title] = _give_up(cell, end, self.paths)
            self.log(f"{cell.title} failed: {self.outcome.failed[cell.title]}")
        if not again:
            self.unfinished.discard(cell.id)
        self.locks.give_back(cell.id)  # also of one that is tried again, once the process that trained it has ended
        return again

    def interrupt(self) -> None:
        """Gives running cells GRACE seconds to save a checkpoint; another Ctrl-C cuts this short."""
        self.outcome.interrupted = True
        self.log("Stopping: the running cells save a checkpoint …")
        self.pool.stop()
        end = time.monotonic() + GRACE
        with contextlib.suppress(KeyboardInterrupt):
            while self.active and (left := end - time.monotonic()) > 0:
                self.active -= len(self.pool.ended(left))

    def end(self) -> None:
        self.pool.close()
        self.locks.give_back_all()


def _is_open(cell: Cell, paths: StudyPaths) -> bool:
    return not (paths.record(cell.id).exists() or paths.failure(cell.id).exists())


def _is_ready(job: Job, unfinished: Set[str]) -> bool:
    """True if no cell of the job still waits for its source cell. `unfinished`: ids of cells that wait or run."""
    return unfinished.isdisjoint(cell.init_from for cell in job)


def _final(error: BaseException) -> bool:
    """True for errors that would happen again."""
    return isinstance(error, ConfigError | NotFiniteLoss)


def _first_line(error: BaseException) -> str:
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

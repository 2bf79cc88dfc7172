"""Runs jobs in processes on this machine. A cell that fails, or a worker that dies, costs that cell one more try."""

import contextlib
import json
import multiprocessing
import signal
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, field

import filelock
from pebble import ProcessExpired, ProcessPool

from vitcnn.base import ConfigError
from vitcnn.launch.jobs import Job
from vitcnn.launch.worker import Options, start, work
from vitcnn.matrix import Cell
from vitcnn.records import Places, write_atomically

TRIES = 2
GRACE = 20.0  # seconds that cells get to save a checkpoint


@dataclass
class Outcome:
    """What became of the cells that were given out."""

    done: list[Cell] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # cell title -> error
    interrupted: bool = False


def run_jobs(
    jobs: Sequence[Job],
    places: Places,
    options: Options,
    workers: int,
    tick: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Trains `jobs` in order on `workers` processes that stay alive between them; `tick` is called twice a second. The
    cells of a job that fails as a whole are tried once more, each alone.

    Ctrl-C and SIGTERM make the running cells save a checkpoint and end the run (`interrupted`). Raises ConfigError
    where another run is at work on the study.
    """
    outcome, tries = Outcome(), Counter()
    waiting, active, starts = deque(jobs), {}, {cell.start for job in jobs for cell in job} - {None}
    context = multiprocessing.get_context("spawn")
    stop = context.Event()

    def fresh_pool() -> ProcessPool:
        return ProcessPool(workers, initializer=start, initargs=(stop, options.threads), context=context)

    with _alone(places), _terminate_is_interrupt():
        pool = fresh_pool()
        try:
            while waiting or active:
                if not pool.active:  # all workers died while they started; each such death is a try of its cell
                    pool.join()
                    pool = fresh_pool()
                while len(active) < workers and (job := _ready(waiting, active.values())):
                    waiting.remove(job)
                    tries.update(cell.id for cell in job)
                    active[pool.schedule(work, args=(job, places, options, starts))] = job
                for future in wait(active, timeout=0.5, return_when=FIRST_COMPLETED).done:
                    job = active.pop(future)
                    if error := future.exception():
                        ended = dict.fromkeys((cell.id for cell in job), error)
                    else:
                        ended, said = future.result()
                        for line in said:
                            say(line)
                    again = []
                    for cell in job:
                        if (end := ended[cell.id]) == "done":
                            outcome.done.append(cell)
                        elif end == "stopped":  # somebody sent the worker SIGTERM: the machine is being taken away
                            raise KeyboardInterrupt
                        elif tries[cell.id] < TRIES and not _final(end):
                            again.append(cell)
                        else:
                            outcome.failed[cell.title] = _give_up(cell, end, places)
                            say(f"{cell.title} failed: {outcome.failed[cell.title]}")
                    if again:
                        what = again[0].title if len(job) == 1 else f"{len(again)} {again[0].entrant} cells"
                        once = "it is tried" if len(job) == 1 else "each is tried alone,"
                        say(f"{what} failed ({_first_line(error)}); {once} once more at the end")
                        waiting.extend((cell,) for cell in again)
                tick()
        except KeyboardInterrupt:
            outcome.interrupted = True
            say("Stopping: the running cells save a checkpoint …")
            stop.set()
            with contextlib.suppress(KeyboardInterrupt):
                wait(active, timeout=GRACE)
        finally:
            pool.stop() if outcome.interrupted else pool.close()
            pool.join()
    return outcome


def _ready(waiting: Iterable[Job], active: Iterable[Job]) -> Job | None:
    """The first job of which no cell has to wait for the one it begins with."""
    unfinished = {cell.id for job in (*waiting, *active) for cell in job}
    return next((job for job in waiting if unfinished.isdisjoint(cell.start for cell in job)), None)


def _final(error: BaseException) -> bool:
    """Errors that a second try cannot mend."""
    return isinstance(error, ConfigError) or type(error).__name__ == "NotFiniteLoss"


def _first_line(error: BaseException) -> str:
    if isinstance(error, ProcessExpired):
        return f"its worker died, exit code {error.exitcode}"
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _give_up(cell: Cell, error: BaseException, places: Places) -> str:
    said = _first_line(error)
    trace = getattr(error, "traceback", None) or "".join(traceback.format_exception(error))
    what = {"error": said, "traceback": str(trace), "time": time.time()}
    write_atomically(places.cell(cell.id) / "failure.json", json.dumps(what))
    return said


@contextlib.contextmanager
def _alone(places: Places) -> Iterator[None]:
    places.run.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(places.run / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise ConfigError(
            f"another `vitcnn run` is at work on {places.study!r} ({lock.lock_file}); wait for it, or stop it"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _terminate_is_interrupt() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

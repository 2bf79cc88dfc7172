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

from pebble import CONSTS, ProcessExpired, ProcessPool

from vitcnn.errors import ConfigError, NotFiniteLoss
from vitcnn.launch.jobs import Job
from vitcnn.launch.lease import Leases
from vitcnn.launch.worker import Options, start, work
from vitcnn.store.paths import StudyPaths, write_atomically
from vitcnn.study.cell import Cell

TRIES = 2
GRACE = 3.5  # seconds that cells get to save a checkpoint, of the 5 that some schedulers give a job
CONSTS.term_timeout = 0.2  # seconds more; who did not stop when asked (it still imports, or scores) is killed


@dataclass
class Outcome:
    """What became of the cells that were given out."""

    done: list[Cell] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # cell title -> error
    interrupted: bool = False


def run_jobs(
    jobs: Sequence[Job],
    paths: StudyPaths,
    options: Options,
    workers: int,
    tick: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Trains `jobs` in order on `workers` processes that stay alive between them; `tick` is called twice a second. The
    cells of a job that fails as a whole are tried once more, each alone.

    Ctrl-C and SIGTERM make the running cells save a checkpoint and end the run (`interrupted`). Several runs, also on
    several machines, may work on one study: what another one trains is left to it, and taken over when that one dies.
    """
    outcome, tries = Outcome(), Counter()
    waiting, active, starts = deque(jobs), {}, {cell.init_from for job in jobs for cell in job} - {None}
    context = multiprocessing.get_context("spawn")
    stop = context.Event()

    def fresh_pool() -> ProcessPool:
        pool = ProcessPool(workers, initializer=start, initargs=(stop, options.threads), context=context)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # workers inherit it: Ctrl-C is ours
        try:
            if not pool.active:  # to ask starts it
                raise RuntimeError("the pool of workers does not start")
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pool

    leases = Leases()

    def ours(job: Job) -> Job:
        """What of a job this run is to train, now leased; what others have finished is struck off."""
        free = [cell for cell in job if _is_open(cell, paths) and leases.take(paths.cell(cell.id))]
        mine = tuple(cell for cell in free if _is_open(cell, paths))  # nobody finishes it any more
        for cell in free:
            if cell not in mine:
                leases.give_back(paths.cell(cell.id))
        if others := tuple(cell for cell in job if cell not in free and _is_open(cell, paths)):
            waiting.append(others)
        return mine

    with _answered(signal.SIGTERM, _interrupt):
        pool = fresh_pool()
        try:
            while waiting or active:
                if not pool.active:  # all workers died while they started; each such death is a try of its cell
                    pool.join()
                    pool = fresh_pool()
                leases.beat()
                for job in list(waiting):
                    if len(active) == workers:
                        break
                    if _is_ready(job, waiting, active.values()):
                        waiting.remove(job)
                        if job := ours(job):
                            tries.update(cell.id for cell in job)
                            active[pool.schedule(work, args=(job, paths, options, starts))] = job
                if not active:
                    time.sleep(0.5)  # all that is left is another run's
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
                            outcome.failed[cell.title] = _give_up(cell, end, paths)
                            say(f"{cell.title} failed: {outcome.failed[cell.title]}")
                        if cell not in again:
                            leases.give_back(paths.cell(cell.id))
                    if again:
                        what = again[0].title if len(job) == 1 else f"{len(again)} {again[0].model} cells"
                        once = "it is tried" if len(job) == 1 else "each is tried alone,"
                        say(f"{what} failed ({_first_line(error)}); {once} once more at the end")
                        waiting.extend((cell,) for cell in again)
                tick()
        except BaseException as error:
            outcome.interrupted = True
            say("Stopping: the running cells save a checkpoint …")
            stop.set()
            with contextlib.suppress(KeyboardInterrupt):
                wait(active, timeout=GRACE)
            if not isinstance(error, KeyboardInterrupt):
                raise
        finally:
            with _answered(signal.SIGINT, signal.SIG_IGN):  # a third Ctrl-C must not leave workers and leases behind
                pool.stop() if outcome.interrupted else pool.close()
                pool.join()
                leases.give_back_all()
    return outcome


def _is_open(cell: Cell, paths: StudyPaths) -> bool:
    return not (paths.record(cell.id).exists() or paths.failure(cell.id).exists())


def _is_ready(job: Job, waiting: Iterable[Job], active: Iterable[Job]) -> bool:
    """Has no cell of the job to wait for the one it begins with?"""
    starts = {cell.init_from for cell in job} - {None}
    return not starts or starts.isdisjoint(cell.id for other in (*waiting, *active) for cell in other)


def _final(error: BaseException) -> bool:
    """Errors that a second try cannot mend."""
    return isinstance(error, ConfigError | NotFiniteLoss)


def _first_line(error: BaseException) -> str:
    if isinstance(error, ProcessExpired):
        return f"its worker died, exit code {error.exitcode}"
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _give_up(cell: Cell, error: BaseException, paths: StudyPaths) -> str:
    said = _first_line(error)
    trace = getattr(error, "traceback", None) or "".join(traceback.format_exception(error))
    what = {"error": said, "traceback": str(trace), "time": time.time()}
    if isinstance(error, NotFiniteLoss):  # would happen again: part of the results
        place, what = paths.failure(cell.id), what | {"cell": cell.model_dump(mode="json")}
    else:
        place = paths.cell(cell.id) / "failure.json"
    try:
        write_atomically(place, json.dumps(what))
    except OSError as full:
        return f"{said} (and {place} could not be written: {full.strerror or full})"
    return f"{said} (all of it in {place})"


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _answered(number: signal.Signals, handler: Callable[..., None] | signal.Handlers) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)

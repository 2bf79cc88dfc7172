"""Runs cells in processes on this machine. A cell that fails, or a worker that dies, costs that cell one more try."""

import contextlib
import json
import multiprocessing
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, field

import filelock
from pebble import ProcessExpired, ProcessPool

from vitcnn.base import ConfigError
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


def run_cells(
    cells: list[Cell],
    places: Places,
    options: Options,
    workers: int,
    tick: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Trains `cells` in order on `workers` processes that stay alive between cells; `tick` is called twice a second.

    Ctrl-C and SIGTERM make the running cells save a checkpoint and end the run (`interrupted`). Raises ConfigError
    where another run is at work on the study.
    """
    outcome, tries = Outcome(), dict.fromkeys((cell.id for cell in cells), 0)
    waiting, active, starts = deque(cells), {}, {cell.start for cell in cells}
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
                while len(active) < workers and (cell := _ready(waiting, active.values())):
                    waiting.remove(cell)
                    tries[cell.id] += 1
                    active[pool.schedule(work, args=(cell, places, options, cell.id in starts))] = cell
                for future in wait(active, timeout=0.5, return_when=FIRST_COMPLETED).done:
                    cell = active.pop(future)
                    if (error := future.exception()) is None and future.result() == "done":
                        outcome.done.append(cell)
                    elif error is None:  # somebody sent the worker SIGTERM: the machine is being taken away
                        raise KeyboardInterrupt
                    elif tries[cell.id] < TRIES and not _final(error):
                        say(f"{cell.title} failed ({_first_line(error)}); it is tried once more at the end")
                        waiting.append(cell)
                    else:
                        outcome.failed[cell.title] = _give_up(cell, error, places)
                        say(f"{cell.title} failed: {outcome.failed[cell.title]}")
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


def _ready(waiting: Iterable[Cell], active: Iterable[Cell]) -> Cell | None:
    """The first cell that does not have to wait for the one it begins with."""
    unfinished = {cell.id for cell in (*waiting, *active)}
    return next((cell for cell in waiting if cell.start not in unfinished), None)


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

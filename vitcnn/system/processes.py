"""Processes that begin with torch, Lightning and timm imported.

On Linux they are forked from a server process that has imported `vitcnn.training.train` and done nothing else, which
takes milliseconds where a spawned process imports for seven seconds. Elsewhere they are spawned.
"""

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

from vitcnn.errors import ConfigError, JobFailed
from vitcnn.system import output

T = TypeVar("T")


def context() -> BaseContext:
    """Of multiprocessing. A Python process has one server, started by its first forked process. It keeps the
    environment variables of its start, so a new process must `adopt` the current ones."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(["vitcnn.launch.fork_server"])
    return forking


def adopt(environment: Mapping[str, str], threads: int) -> None:
    """In a new process: takes the launching process's environment variables, and sets torch's CPU threads."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment, OMP_NUM_THREADS=str(threads), MPLBACKEND="agg")  # see `vitcnn.launch.fork_server`
    output.protect()
    import torch  # here, since the launching process does without it

    torch.set_num_threads(threads)


def apart(function: Callable[..., T], *args: Any, threads: int, seconds: float | None = None) -> T:
    """`function(*args)` in a process of its own. Raises its ConfigError, JobFailed for any other error or if the
    process ends without a result, and TimeoutError after `seconds`."""
    ours, theirs = context().Pipe(duplex=False)
    environment = dict(os.environ)
    process = context().Process(target=_report, args=(theirs, environment, threads, seconds, function, args))
    process.start()
    theirs.close()
    try:
        if not wait([ours, process.sentinel], seconds):
            raise TimeoutError
        result = ours.recv() if ours.poll() else None
    except EOFError:
        result = None
    finally:
        process.kill()
        process.join()
    if result is None:
        raise JobFailed(f"its process ended with {exit_code(process.exitcode)}")
    value, error = result
    if error:
        raise error
    return value


def _report(
    to: Connection,
    environment: Mapping[str, str],
    threads: int,
    seconds: float | None,
    function: Callable[..., object],
    args: tuple[object, ...],
) -> None:
    """Sends (result, None) or (None, error)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launching process answers Ctrl-C
    adopt(environment, threads)
    if seconds:  # should the launching process be gone by then
        faulthandler.dump_traceback_later(seconds, exit=True, file=open(os.devnull, "w"))  # noqa: SIM115
    try:
        to.send((function(*args), None))
    except ConfigError as error:
        to.send((None, error))
    except BaseException as error:  # a user's code raises anything
        to.send((None, JobFailed.of(error)))


def exit_code(code: int | None) -> str:
    """`exit code -11 (SIGSEGV)`."""
    names = {-number: f" ({number.name})" for number in signal.Signals}
    return f"exit code {code}{names.get(code, '')}"


def launcher_lives() -> bool:
    """Whether the process that launched this one still exists; True in a process that none launched."""
    launcher = multiprocessing.parent_process()
    return launcher is None or launcher.is_alive()


@contextlib.contextmanager
def answered(number: signal.Signals, handler: Callable[..., None] | signal.Handlers) -> Iterator[None]:
    """Within it a signal is answered by `handler`."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)

"""Processes that begin with torch, Lightning and timm imported.

On Linux they are forked from a server process that has imported `vitcnn.training.train` and done nothing else, which
takes milliseconds where a spawned process imports for seven seconds. Elsewhere they are spawned.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from multiprocessing.context import BaseContext


def context() -> BaseContext:
    """Of multiprocessing. A Python process has one server, started by its first forked process. It keeps the
    environment variables of its start, so a new process must `adopt` the current ones."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(["vitcnn.fork_server"])
    return forking


def adopt(environment: Mapping[str, str], threads: int) -> None:
    """In a new process: takes the launching process's environment variables, and sets torch's CPU threads."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment, OMP_NUM_THREADS=str(threads), MPLBACKEND="agg")  # see `vitcnn.fork_server`
    import torch

    import vitcnn.training.train  # noqa: F401  where processes are spawned: seven seconds

    torch.set_num_threads(threads)


def launcher_lives() -> bool:
    """Whether the process that launched this one still exists; True in a process that none launched."""
    launcher = multiprocessing.parent_process()
    return launcher is None or launcher.is_alive()

"""Code that runs inside a worker process, which trains job after job."""

import contextlib
import logging
import shutil
import signal
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vitcnn.errors import ConfigError, JobFailed, Unwritable
from vitcnn.launch.jobs import Job
from vitcnn.launch.locks import CellLocks
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import write_record
from vitcnn.store.status import write_progress
from vitcnn.system.processes import adopt, launcher_lives


@dataclass(frozen=True)
class Options:
    """How cells are run. Not part of a cell's id, although device and threads can change the last bits of a sum."""

    device: str = "auto"
    threads: int = 1
    data_folder: Path | None = None
    workers: int = 1  # processes that share the memory
    tracking: Literal["auto", "online", "offline", "off", "tensorboard"] = "auto"
    devices: int = 1  # that a network is trained on, one process each
    keep_weights: bool = False  # of every cell; weights of source cells are kept anyway


_stop_events: list[Event] = []
_sigterm = [False]  # by SIGTERM
_usual_format = warnings.formatwarning
PACKAGE = Path(__file__).resolve().parents[1]


def start(stop: Event, threads: int, environment: Mapping[str, str]) -> None:
    """Pool initialiser. The launcher handles Ctrl-C; SIGTERM makes this worker save and stop."""
    adopt(environment, threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: _sigterm.__setitem__(0, True))
    _stop_events.append(stop)
    logging.raiseExceptions = False  # a full disk: W&B's log files would each print a stack trace for every line
    warnings.formatwarning = _in_a_line


def _in_a_line(message: Warning | str, category: type[Warning], filename: str, *rest: Any, **more: Any) -> str:
    """Formats vitcnn's own warnings without the source line."""
    if PACKAGE in Path(filename).parents:
        return f"{message}\n"
    return _usual_format(message, category, filename, *rest, **more)


def _stop() -> bool:
    return _sigterm[0] or any(event.is_set() for event in _stop_events) or not launcher_lives()


class Done(NamedTuple):
    """The outcome of a job's cells by id ("done", "stopped" or a final error), and messages for the log."""

    cells: dict[str, Literal["done", "stopped"] | Exception]
    messages: list[str]


def work(job: Job, paths: StudyPaths, options: Options, sources: Collection[str | None] = ()) -> Done:
    """Trains the cells of a job, from their checkpoints if there are any, and writes their records. Keeps the final
    weights of cells whose id is in `sources`. Raises ConfigError, or JobFailed for all other errors, also if another
    process trains one of them."""
    locks = CellLocks(paths, ".worker")
    try:
        if busy := [cell.title for cell in job if not locks.take(cell.id)]:
            raise RuntimeError(f"{busy[0]} is still trained by a worker of a run that was killed")
        return _train(job, paths, options, sources)
    except ConfigError:
        raise
    except BaseException as error:  # a user's code raises anything
        raise JobFailed.of(error) from error
    finally:
        locks.give_back_all()


def _train(job: Job, paths: StudyPaths, options: Options, sources: Collection[str | None]) -> Done:
    from vitcnn.training.callback import InterruptedCell
    from vitcnn.training.train import train_cells

    for cell in job:
        write_progress(paths.cell(cell.id), step=0, steps=cell.steps, phase="start", accuracy=None, images_per_s=None)
    done = Done({cell.id: "stopped" for cell in job}, [])
    with contextlib.suppress(InterruptedCell):
        for cell, record in train_cells(
            job,
            paths=paths,
            data_folder=options.data_folder,
            device=options.device,
            tracking=options.tracking,
            workers=options.workers,
            stop=_stop,
            keep=lambda cell: options.keep_weights or cell.id in sources,
            log=done.messages.append,
            devices=options.devices,
        ):
            if isinstance(record, Exception):
                done.cells[cell.id] = record
                continue
            write_progress(paths.cell(cell.id), step=cell.steps, steps=cell.steps, phase="record")
            try:
                write_record(record, paths)
            except OSError as error:
                raise Unwritable(f"{paths.record(cell.id)}: {error.strerror or error}; the run is stopped") from None
            shutil.rmtree(paths.cell(cell.id), ignore_errors=True)  # not needed once the record is written
            done.cells[cell.id] = "done"
    return done

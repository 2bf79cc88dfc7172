"""What runs inside a worker process. It imports the heavy stack once and then trains job after job."""

import contextlib
import os
import shutil
import signal
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vitcnn.launch.jobs import Job
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import write_record
from vitcnn.store.status import write_progress


@dataclass(frozen=True)
class Options:
    """How cells are run; none of it is in a cell's id. Device and threads can change the last bits of a sum."""

    device: str = "auto"
    threads: int = 1
    data_folder: Path | None = None
    workers: int = 1  # processes that share the memory
    tracking: Literal["auto", "online", "offline", "off"] = "auto"
    keep_weights: bool = False  # of every cell; those that another begins with are kept anyway


_stop_events: list[Event] = []
_sigterm = [False]  # by SIGTERM
_parent = os.getppid()
_usual_format = warnings.formatwarning
PACKAGE = Path(__file__).resolve().parents[1]


def start(stop: Event, threads: int) -> None:
    """Pool initialiser. Ctrl-C is the launcher's to answer; SIGTERM makes this worker save and stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: _sigterm.__setitem__(0, True))
    _stop_events.append(stop)
    warnings.formatwarning = _in_a_line
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    import vitcnn.training.train  # noqa: F401  the 7 seconds are paid here, once

    torch.set_num_threads(threads)


def _in_a_line(message: Warning | str, category: type[Warning], filename: str, *rest: Any, **more: Any) -> str:
    """What vitcnn itself has to say, without the line of code that says it."""
    if PACKAGE in Path(filename).parents:
        return f"{message}\n"
    return _usual_format(message, category, filename, *rest, **more)


def _stop() -> bool:
    return _sigterm[0] or any(event.is_set() for event in _stop_events) or os.getppid() != _parent


class Done(NamedTuple):
    """What became of a job's cells, by id: "done", "stopped" or the error that ends one for good; and what there is to
    say of it."""

    cells: dict[str, Literal["done", "stopped"] | Exception]
    messages: list[str]


def work(job: Job, paths: StudyPaths, options: Options, sources: Collection[str | None] = ()) -> Done:
    """Trains the cells of a job and writes their records; goes on from their checkpoints where there are any. The final
    weights of those whose id is in `starts` are kept."""
    from vitcnn.training.callback import InterruptedCell
    from vitcnn.training.train import train_cells

    for cell in job:
        (paths.cell(cell.id) / "failure.json").unlink(missing_ok=True)
        write_progress(
            paths.cell(cell.id), step=0, steps=cell.steps, phase="start", accuracy=None, images_per_s=None
        )
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
        ):
            if isinstance(record, Exception):
                done.cells[cell.id] = record
                continue
            write_progress(paths.cell(cell.id), step=cell.steps, steps=cell.steps, phase="record")
            write_record(record, paths)
            shutil.rmtree(paths.cell(cell.id), ignore_errors=True)  # the record is there: what is left is only litter
            done.cells[cell.id] = "done"
    return done

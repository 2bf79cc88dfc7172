"""What runs inside a worker process. It imports the heavy stack once and then trains cell after cell."""

import os
import shutil
import signal
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Literal

from vitcnn.matrix import Cell
from vitcnn.records import Places, write_progress, write_record


@dataclass(frozen=True)
class Options:
    """How cells are run; none of it is in a cell's id. Device and threads can change the last bits of a sum."""

    device: str = "auto"
    threads: int = 1
    data_folder: Path | None = None
    workers: int = 1  # processes that share the memory
    tracking: Literal["auto", "online", "offline", "off"] = "auto"
    keep_weights: bool = False  # of every cell; those that another begins with are kept anyway


_asked: list[Event] = []
_told = [False]  # by SIGTERM
_parent = os.getppid()


def start(stop: Event, threads: int) -> None:
    """Pool initialiser. Ctrl-C is the launcher's to answer; SIGTERM makes this worker save and stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: _told.__setitem__(0, True))
    _asked.append(stop)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    import vitcnn.training.cell  # noqa: F401  the 7 seconds are paid here, once

    torch.set_num_threads(threads)


def _stop() -> bool:
    return _told[0] or any(event.is_set() for event in _asked) or os.getppid() != _parent


def work(cell: Cell, places: Places, options: Options, keep: bool = False) -> Literal["done", "stopped"]:
    """Trains one cell and writes its record; goes on from its checkpoint if there is one. `keep`: its final weights."""
    from vitcnn.training.cell import train_cell
    from vitcnn.training.keeper import InterruptedCell

    folder = places.cell(cell.id)
    (folder / "failure.json").unlink(missing_ok=True)
    write_progress(folder, step=0, steps=cell.steps, accuracy=None, images_per_s=None)
    try:
        record = train_cell(
            cell,
            places=places,
            data_folder=options.data_folder,
            device=options.device,
            tracking=options.tracking,
            workers=options.workers,
            stop=_stop,
            keep=keep or options.keep_weights,
        )
    except InterruptedCell:
        return "stopped"
    write_record(record, places)
    shutil.rmtree(folder, ignore_errors=True)  # the record is there: what is left behind is only litter
    return "done"

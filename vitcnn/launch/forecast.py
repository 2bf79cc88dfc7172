"""What a study takes on a cluster, on paper: wall time, idle workers and storage."""

import heapq
import itertools
from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Column, Table

from vitcnn.launch.table import duration

START = 0.5  # seconds of a cell beside its training: data, network, Lightning's loop, final tests, record (measured)
CHECKPOINT = 2 * 12  # bytes a parameter: weights and AdamW's two moments in float32, this checkpoint and the one before
LARGER = (10**3, 10**5, 10**6)  # cells that a study with more seeds would have


class Forecast(NamedTuple):
    """`wall`: seconds; `idle`: share of the workers' time; bytes of all `records`, and of `checkpoints` at a time."""

    cells: int
    wall: float
    idle: float
    records: int
    checkpoints: int


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Seconds until all cells are done, each begun in order by the first worker that is free (Graham 1966)."""
    free = [0.0] * min(workers, len(seconds))
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free, default=0.0)


def forecast(
    seconds: Sequence[float], workers: int, record: float, parameters: Sequence[int], overhead: float = START
) -> list[Forecast]:
    """Of the study, whose cells train for `seconds` each, and of `LARGER` numbers of such cells in turns. `record`:
    bytes of one; `parameters`: of each cell's network, the largest of which are assumed to train at once."""
    out = []
    for count in (len(seconds), *(count for count in LARGER if count > len(seconds))):
        each = [one + overhead for one in itertools.islice(itertools.cycle(seconds), count)]
        wall = makespan(each, workers)
        running = min(workers, count)
        storage = round(record * count), CHECKPOINT * max(parameters, default=0) * running
        out.append(Forecast(count, wall, 1 - sum(each) / (wall * workers) if wall else 0.0, *storage))
    return out


def table(forecasts: Sequence[Forecast], workers: int) -> Table:
    columns = ("wall time", "workers idle", "records", "checkpoints, at a time")
    right = [Column(name, justify="right") for name in columns]
    out = Table("cells", *right, title=f"On {workers:,} workers", title_justify="left")
    for one in forecasts:
        sizes = (f"{one.records / 1e6:,.1f} MB", f"{one.checkpoints / 1e6:,.0f} MB")
        out.add_row(f"{one.cells:,}", duration(one.wall), f"{one.idle:.0%}", *sizes)
    return out

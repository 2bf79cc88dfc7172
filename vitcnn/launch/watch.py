"""A study watched while its cells finish: in a terminal, and for what is made again each time."""

import contextlib
import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.live import Live

from vitcnn.launch.open_study import OpenStudy
from vitcnn.launch.table import headline, table
from vitcnn.store.paths import StudyPaths
from vitcnn.store.status import states, to_train
from vitcnn.study.cell import Cell

EVERY = 2.0  # seconds between two looks at the files
LOG_EVERY = 30  # seconds between progress lines when there is no terminal


class Progress:
    """Shows a running study: a live table on a terminal, else a line every half minute. Also stops it after
    `minutes`."""

    def __init__(self, opened: OpenStudy, workers: int | None, minutes: float | None, console: Console):
        self.opened, self.workers, self.minutes, self.console = opened, workers, minutes, console
        self.live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> "Progress":
        self.live.__enter__()
        self.shown = self.began = time.monotonic()
        return self

    def tick(self) -> None:
        """Raises KeyboardInterrupt when time is up."""
        paths, now = self.opened.paths, time.monotonic()
        if self.minutes is not None and now - self.began > 60 * self.minutes:
            raise KeyboardInterrupt
        if self.console.is_terminal:
            self.live.update(table(states(self.opened.cells, paths), paths, self.workers), refresh=True)
        elif now - self.shown > LOG_EVERY:
            self.console.print(headline(states(self.opened.cells, paths), paths, self.workers))
            self.shown = now

    def __exit__(self, *error: object) -> None:
        paths = self.opened.paths
        last = table(states(self.opened.cells, paths), paths)
        self.live.update(last if self.console.is_terminal else "", refresh=True)
        self.live.__exit__(*error)
        if not self.console.is_terminal:  # without a terminal Live leaves the line open
            self.console.print(last)


def show(opened: OpenStudy, console: Console) -> None:
    """Until no cell is left to train, or Ctrl-C: a live table on a terminal, else lines as of a run."""
    with contextlib.suppress(KeyboardInterrupt), Progress(opened, None, None, console) as progress:
        while to_train(states(opened.cells, opened.paths)):
            progress.tick()
            time.sleep(EVERY)


def changes(cells: Sequence[Cell], paths: StudyPaths) -> Iterator[None]:
    """At once if cells are left to train, and whenever some have finished or failed for good. Ends when none is
    left."""
    seen = None
    while left := to_train(states(cells, paths)):
        if seen != len(left):
            seen = len(left)
            yield
        time.sleep(EVERY)

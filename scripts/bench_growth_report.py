"""The results of `bench_growth`: a table and a sentence."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from vitcnn.report import markdown

COMMANDS = ("plan", "status", "verdict", "report")
LIMIT = 5.0  # seconds, import time aside, that 10,000 cells may take
LINEAR = 1.1  # the largest exponent that is called linear: repeats differ by some percent
FELT = 0.05  # seconds; below that an exponent would be noise
HEAD = """\
# How reading a study grows with its cells

Written by `scripts/bench_growth`: {machine}, load {load:.1f} when it began{note}, {date}, Python {python}, pydantic
{pydantic}, numpy {numpy}, matplotlib {matplotlib}, torch {torch}. Studies of {models} models × sizes × seeds
({shapes}), every cell with its record of about {size:.1f} kB: a test set of 10,000 images, 20 points of a curve. Median
of {repeats} runs ({large} at {largest:,} cells), all commands and sizes in turns.

**{sentence}**

`whole`: seconds of `vitcnn` from the start of the process to its end. `imported`: of the command alone, in a process
that has imported all that it imports (which takes the seconds in brackets). `exponent`: of growth between this number
of cells and the one above it, log(ratio of times) / log(ratio of cells), import time aside; 1 is linear; – where the
smaller time is below {felt:g} s.

"""


class Row(NamedTuple):
    """One command on one study: median seconds of the whole process, and of the command with everything imported."""

    command: str
    cells: int
    whole: float
    alone: float


def exponents(rows: Sequence[Row]) -> dict[tuple[str, int], float]:
    """Of growth up to each number of cells from the one before it, where the smaller time is not too small to tell."""
    out = {}
    for before, row in pairwise(rows):
        if row.command == before.command and before.alone >= FELT:
            out[row.command, row.cells] = math.log(row.alone / before.alone) / math.log(row.cells / before.cells)
    return out


def sentence(rows: Sequence[Row]) -> str:
    steepest = exponents(rows)
    largest = max(r.cells for r in rows)
    slow = [r for r in rows if r.cells == largest and r.alone >= LIMIT]
    steep = {key: e for key, e in steepest.items() if e > LINEAR}
    if steep:
        steps = (f"{command} up to {n:,} cells (exponent {e:.2f})" for (command, n), e in steep.items())
        growth = f"More than linear: {', '.join(steps)}"
    else:
        growth = f"At most linear (largest exponent {max(steepest.values(), default=0):.2f})"
    last = ", ".join(f"{r.command} {r.alone:.1f} s" for r in rows if r.cells == largest)
    met = f"not under {LIMIT:g} s: {', '.join(r.command for r in slow)}" if slow else f"each under {LIMIT:g} s"
    return f"{growth}; {largest:,} cells, import time aside: {last}: {met}."


def table(rows: Sequence[Row], imports: dict[str, float]) -> str:
    up, counts = exponents(rows), sorted({r.cells for r in rows})
    by_place = {(r.command, r.cells): r for r in rows}
    head, lines = ["cells"], []
    for command in COMMANDS:
        head += [f"{command}: whole, s", f"imported ({imports[command]:.1f}), s", "exponent"]
    for n in counts:
        line = [f"{n:,}"]
        for row in (by_place[command, n] for command in COMMANDS):
            grown = f"{up[row.command, n]:.2f}" if (row.command, n) in up else "–"
            line += [f"{row.whole:.2f}", f"{row.alone:.2f}", grown]
        lines.append(line)
    return markdown.table(head, lines)

"""The results of `bench_attention`: a table, a sentence and a figure."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from vitcnn.models.sasa import TILE
from vitcnn.report import markdown
from vitcnn.report.figures import MARKERS, PALETTE, thousands

WIDTH, HEADS = 96, 3  # of the matched ViT: heads of 32 numbers
KINDS = (None, 3, 5, 7)  # all pairs, and windows
HEAD = """\
# What attention costs against the number of tokens

Written by `scripts/bench_attention`: {machine}, {threads} thread{s}, load {load:.1f} when it began{note},
{date}, torch {torch}, float32. Forward and backward (to the tokens too) of one layer at width D = {width} with {heads}
heads, a batch of about {tokens:,} tokens; median (fastest–slowest) of {repeats} turns of about {turn:g} s, all rows one
after the other in every turn.

**{sentence}**

![time and MACs against tokens](attention.png)

MACs of one forward image, N tokens:

- all pairs: 4 N D² + 2 N² D (four projections; scores, and what they weigh)
- a window of k × k: 4 N D² + 3 N' (k + 3)² D (scores, learned offsets, and what they weigh; tiles of 4 × 4 tokens share
  the (k + 3)² tokens around and in them; N' is N in whole tiles; one tile sees its own 16). A kernel without tiles
  would need 4 N D² + 3 N k² D.

So all pairs need more MACs than a window from N = 1.5 (k + 3)² on: 54, 96 and 150 tokens for k = 3, 5 and 7.

`counted / formula` is the FLOP counter's number over this formula. The dashed lines of times are these formulas times
one constant each, the geometric mean over the grids of time / MACs: {constants}.
The window's layer is written with torch's own operations (unfold, masked products of tiles); attention over all pairs
is one fused kernel.

"""


class Row(NamedTuple):
    """One layer on one grid: seconds of each turn for one image, forward and backward; MACs of one forward image."""

    window: int | None
    grid: int
    batch: int
    seconds: Sequence[float]
    macs: int

    @property
    def tokens(self) -> int:
        return self.grid**2

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def name(window: int | None) -> str:
    return f"window {window}×{window}" if window else "all pairs"


def formula(grid: int, window: int | None) -> int:
    """MACs of one forward image, as the head of the report writes them."""
    N, D, tiles = grid**2, WIDTH, math.ceil(grid / TILE)
    if window is None:
        return 4 * N * D**2 + 2 * N**2 * D
    around = TILE if tiles == 1 else TILE + window - 1
    return 4 * N * D**2 + 3 * (tiles * TILE) ** 2 * around**2 * D


def crossing(rows: Sequence[Row], window: int) -> tuple[int, int, float] | None:
    """(tokens, tokens, tokens between them): the grids between which the window becomes cheaper in time than all pairs
    and stays so, and where the straight lines between their medians meet on logarithmic axes. The first is 0 where it
    is cheaper from the start; None if it is not cheaper on the largest grid."""
    own = {r.tokens: r.median for r in rows if r.window == window}
    lead = [
        (r.tokens, math.log(r.median / own[r.tokens])) for r in rows if r.window is None
    ]  # above 0: the window leads
    last = max((k for k, (_, value) in enumerate(lead) if value <= 0), default=-1)
    if last == len(lead) - 1:
        return None
    if last < 0:
        return 0, lead[0][0], lead[0][0]
    (low, below), (high, above) = lead[last : last + 2]
    return low, high, low * (high / low) ** (below / (below - above))


def sentence(rows: Sequence[Row]) -> str:
    largest, parts = max(r.tokens for r in rows), []
    for window in KINDS[1:]:
        found, size = crossing(rows, window), f"{window}×{window}"
        if found is None:
            parts.append(f"{size} not up to {largest:,}")
        elif not found[0]:
            parts.append(f"{size} from {found[1]:,} or fewer")
        else:
            parts.append(f"{size} from about {found[2]:,.0f} (between {found[0]:,} and {found[1]:,})")
    median = {(r.tokens, r.window): r.median for r in rows}
    far = ", ".join(f"{median[largest, None] / median[largest, w]:.2g} ({w}×{w})" for w in KINDS[1:])
    return (
        f"In time, a window is cheaper than all pairs from so many tokens on: {'; '.join(parts)}. At {largest:,} "
        f"tokens all pairs take so many times as long: {far}."
    )


def fit(rows: Sequence[Row]) -> float:
    """Seconds a MAC: the constant that carries the formula through the medians, on a logarithmic axis."""
    return math.exp(statistics.fmean(math.log(r.median / formula(r.grid, r.window)) for r in rows))


def table(rows: Sequence[Row]) -> str:
    head = ["layer", "tokens", "images a batch", "time / image, µs", "MACs / image", "counted / formula"]
    lines = []
    for r in sorted(rows, key=lambda r: (r.window or 0, r.grid)):
        low, high = 1e6 * min(r.seconds), 1e6 * max(r.seconds)
        took = f"{1e6 * r.median:,.0f} ({low:,.0f}–{high:,.0f})"
        share = f"{r.macs / formula(r.grid, r.window):.3f}"
        lines.append([name(r.window), f"{r.tokens:,}", str(r.batch), took, f"{r.macs:,}", share])
    return markdown.table(head, lines)


def draw(rows: Sequence[Row], title: str) -> Figure:
    fig = Figure(figsize=(10.5, 4.6), layout="constrained")
    left, right = fig.subplots(1, 2)
    for place, window in enumerate(KINDS):
        chosen = [r for r in rows if r.window == window]
        tokens, look = [r.tokens for r in chosen], {"color": PALETTE[place], "marker": MARKERS[place], "markersize": 6}
        left.plot(tokens, [r.macs for r in chosen], linestyle="", label=name(window), **look)
        took = 1e6 * np.array([[r.median, r.median - min(r.seconds), max(r.seconds) - r.median] for r in chosen]).T
        right.errorbar(
            tokens, took[0], yerr=took[1:], linestyle="", capsize=2, elinewidth=1, label=name(window), **look
        )
        for ax, constant in ((left, 1.0), (right, 1e6 * fit(chosen))):
            line = [constant * formula(r.grid, window) for r in chosen]
            ax.plot(tokens, line, "--", color=PALETTE[place], linewidth=1.2, alpha=0.8)
    _axes(left, rows, "MACs of one forward image", "counted; dashed: the formula")
    _axes(right, rows, "time of one image, µs", "forward and backward, measured; dashed: formula × constant")
    left.legend(frameon=False)
    fig.suptitle(title, fontsize=10)
    return fig


def _axes(ax: Axes, rows: Sequence[Row], what: str, title: str) -> None:
    tokens = sorted({r.tokens for r in rows})
    ax.set(xscale="log", yscale="log", xlabel="tokens N (log scale)", ylabel=f"{what} (log scale)", title=title)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(tokens, [f"{n:,}" for n in tokens])
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v / 1e9:g}G" if v >= 1e9 else thousands(v)))
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)

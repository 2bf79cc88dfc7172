"""Figures of the gap along images seen, and over n and budget. Each takes `ax` and returns it."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

from vitcnn.analysis.crossing import Crossing
from vitcnn.analysis.pair import Pair
from vitcnn.analysis.random_effects import Estimate
from vitcnn.analysis.reasons import NotEnough
from vitcnn.analysis.results import Results
from vitcnn.analysis.verdict import pair_of
from vitcnn.report.figures import MARKERS, apart, legend, log_axis, of_the_gap, quiet, series, thousands

LOW = 0.30  # below a row's middle: where the crossing's interval is drawn


def gap_against_budget(ax: Axes, results: Results) -> Axes:
    """The pair's gap in points, paired by seed, a line for each n. Means with 95 % Student-t intervals over seeds."""
    sizes, along = results.study.sizes, [results.along_budget(n) for n in results.study.sizes]
    every = sorted({place for r in along for place in r.places})
    for k, (r, beside) in enumerate(zip(along, apart(len(sizes), every, most=1.08), strict=True)):
        points = [(place * beside, [100 * g for g in r.gaps(place).values()]) for place in r.places]
        color = colormaps["viridis"](0.85 * k / max(1, len(sizes) - 1))
        series(ax, points, {"color": color, "marker": MARKERS[k % len(MARKERS)], "linestyle": "-"}, f"n = {sizes[k]:,}")
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_ylabel(of_the_gap(*results.study.pair))
    if results.study.budget[0].images_seen:
        log_axis(ax, every, digits=3)
    else:  # epochs: other images seen at every n
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: thousands(v)))
        quiet(ax)
    ax.set_xlabel("images seen (log scale)")
    legend(ax)
    return ax


def largest_gap(results: Results) -> float:
    """The largest gap of any n and budget, in points, whichever sign; 1 where there is none."""
    gaps = [r.difference(*r.study.pair, n) for r in results.budgets() for n in r.study.sizes]
    return max((100 * abs(m.mean) for m in gaps if m), default=1.0) or 1.0


def scale(most: float) -> ScalarMappable:
    """Colours of gaps from −most to most, white at 0."""
    return ScalarMappable(Normalize(-most, most), colormaps["PuOr"])


def gap_map(ax: Axes, results: Results, most: float | None = None) -> Axes:
    """The pair's gap in points at each n (columns) and budget (rows), and where it changes sign along each row.

    `most`: the gap, in points, at the ends of the colour scale.
    """
    study, colours = results.study, scale(most or largest_gap(results))
    crossings: list[float | None] = []
    for row, r in enumerate(results.budgets()):
        pair = pair_of(r, *study.pair)  # of a row: it reads each record's bits once
        for column, n in enumerate(study.sizes):
            _cell(ax, column, row, pair, n, colours)
        crossings.append(_crossing(ax, row, pair))
    for row, (here, above) in enumerate(pairwise(crossings)):
        if here is not None and above is not None:
            ax.plot([here, above], [row - LOW, row + 1 - LOW], color="black", linewidth=0.9, linestyle=":", zorder=3)
    ax.set_xlim(-0.5, len(study.sizes) - 0.5)
    ax.set_ylim(-0.5, len(study.budget) - 0.5)
    ax.set_xticks(range(len(study.sizes)), [thousands(n) for n in study.sizes])
    budgets = [thousands(b.images_seen) if b.images_seen else f"{b.epochs:g}" for b in study.budget]
    ax.set_yticks(range(len(study.budget)), budgets)
    ax.set_xlabel("training images n")
    ax.set_ylabel("images seen" if study.budget[0].images_seen else "epochs")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def _cell(ax: Axes, column: int, row: int, pair: Pair, n: int, colours: ScalarMappable) -> None:
    """Its colour and number; hatched where the sign is undecided. Left empty without a common seed."""
    mean = pair.evidence.results.difference(pair.first, pair.second, n)
    corner = (column - 0.5, row - 0.5)
    if mean is None:
        ax.add_patch(Rectangle(corner, 1, 1, facecolor="none", edgecolor="#cccccc", linewidth=0.6))
        return
    gap = 100 * mean.mean
    colour = colours.to_rgba(gap)
    ax.add_patch(Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white", linewidth=0.8))
    if not _decided(_gap(pair, n)):
        hatch = {"hatch": "////", "edgecolor": "#999999", "linewidth": 0}
        ax.add_patch(Rectangle(corner, 1, 1, facecolor="none", **hatch))
    dark = np.dot(colour[:3], (0.299, 0.587, 0.114)) < 0.5
    box = {"facecolor": colour, "edgecolor": "none", "boxstyle": "square,pad=0.15"}
    text = f"{gap:+z.1f}" + (" (1 seed)" if mean.count == 1 else "")
    ink = "white" if dark else "black"
    ax.text(column, row + 0.08, text, ha="center", va="center", fontsize=8, color=ink, bbox=box, zorder=4)


def _gap(pair: Pair, n: int) -> Estimate | None:
    """Over seeds and test images; None below two seeds."""
    try:
        return pair.estimate(pair.gap(n))
    except NotEnough:
        return None


def _decided(gap: Estimate | None) -> bool:
    return gap is not None and not math.isnan(gap.half) and not gap.low <= 0 <= gap.high


def _crossing(ax: Axes, row: int, pair: Pair) -> float | None:
    """Draws where the second overtakes the first along one row, or says beside it why there is no place; its column."""
    sizes = pair.evidence.results.study.sizes
    try:
        _ = pair.ends
        found: Crossing | None = pair.crossing()
    except NotEnough:
        found = None
    if found is None or not found.passes:
        text = "too few seeds" if found is None else "not reached" if found.above else f"{pair.second} leads"
        at = {"xy": (len(sizes) - 0.5, row), "xytext": (4, 0), "textcoords": "offset points"}
        ax.annotate(text, **at, va="center", fontsize=8, annotation_clip=False)
        return None
    x = _column(sizes, found.passes[-1])
    low = _column(sizes, found.low or pair.places[0])
    high = _column(sizes, found.high or pair.places[-1])
    line = {"color": "black", "linewidth": 1.2, "zorder": 5}
    ax.plot([low, high], [row - LOW] * 2, **line, solid_capstyle="butt")
    for end, known, arrow in ((low, found.low, "<"), (high, found.high, ">")):  # an arrow: the interval is open there
        ax.plot(end, row - LOW, marker="|" if known else arrow, markersize=5, **line)
    ax.plot(x, row - LOW, "o", markersize=4, **line)
    return x


def _column(sizes: Sequence[int], n: float) -> float:
    """The column of an n between the sizes, straight over its logarithm."""
    return float(np.interp(math.log(n), np.log(sizes), range(len(sizes))))

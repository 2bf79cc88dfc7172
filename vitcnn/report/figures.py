"""The figures of a study. Each takes `ax` (or `axes`) and results and returns it; no files are read or written."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from vitcnn.analysis.results import Measure, Results, overfitting, test_accuracy
from vitcnn.analysis.stats import mean
from vitcnn.study.budget import BudgetCheck

# Okabe & Ito's palette, distinguishable by colour-blind readers too; and a marker each, for print. The second seven: to
# protanopes and deuteranopes (Machado et al. 2009) too none is as near to any other as the nearest two of the first.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
PALETTE += ("#800000", "#003F5C", "#7FC4A5", "#332288", "#117733", "#663333", "#7F3C8D")
MARKERS = "osD^vP*X<h>pd8"
BASELINE = "#777777"
PERCENT = FuncFormatter(lambda v, _: f"{100 * v:.6g}%")  # as many decimals as ticks have
PANELS = 9  # of one figure
LONG = 30  # letters of a name that are shown
LINES = 20  # of one model in a panel, and its seeds at one n; more of them are one colour


def style(results: Results, model: str) -> dict[str, object]:
    """Colour, marker and line of a model, the same in every figure of a study; from the 15th on, colours come again
    with other markers."""
    if model == results.baseline:
        return {"color": BASELINE, "marker": "x", "linestyle": "--"}
    index = [name for name in results.models if name != results.baseline].index(model)
    again, place = divmod(index, len(PALETTE))
    marker = MARKERS[(place + again) % len(MARKERS)]
    return {"color": PALETTE[place], "marker": marker, "linestyle": "-" if index < 7 else "-."}


def short(name: str) -> str:
    """As it stands in a figure, where a long name would leave no room: both of its ends."""
    return name if len(name) <= LONG else f"{name[:18]}…{name[19 - LONG :]}"


def figure_for(labels: Sequence[str]) -> Figure:
    """With room for a legend of these labels beside its axes."""
    wider = 0.08 * max(0, max(map(len, labels), default=0) - 10)
    return Figure(figsize=(6.4 + wider, max(4.4, 0.8 + 0.21 * len(labels))), layout="constrained")


def accuracy_against_n(ax: Axes, results: Results) -> Axes:
    """Test accuracy: mean, 95 % Student-t interval, and every seed (of `LINES` at most) as a point."""
    _against_n(ax, results, results.models, test_accuracy)
    ax.set_ylabel("test accuracy")
    in_percent(ax)
    return ax


def in_percent(ax: Axes) -> None:
    """An axis of accuracies, within what accuracies can be."""
    ax.yaxis.set_major_formatter(PERCENT)
    low, high = ax.get_ylim()
    room = 0.02 * (high - low)  # for markers
    ax.set_ylim(max(-room, low), min(1.0 + room, high))


def overfitting_against_n(ax: Axes, results: Results) -> Axes:
    """Train minus test accuracy, in points; the training images not augmented."""
    _against_n(ax, results, results.models, lambda r: 100 * overfitting(r))
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_ylabel("train − test accuracy (points)")
    return ax


def _against_n(ax: Axes, results: Results, models: Sequence[str], measure: Measure) -> None:
    for model, beside in zip(models, apart(len(models), results.study.sizes), strict=True):
        look = style(results, model)
        shown = [(n * beside, list(results.values(model, n, measure).values())) for n in results.study.sizes]
        series(ax, shown, look, short(model))
    n_axis(ax, results.study.sizes)
    legend(ax)


def apart(count: int, places: Sequence[float], most: float = 1.03) -> list[float]:
    """What each of `count` lines' places on a logarithmic axis are multiplied with, so that intervals do not hide each
    other: `most` from one line to the next, and all of them together by less than half the way from one of `places`
    (ascending) to the next."""
    nearest = min((b / a for a, b in itertools.pairwise(places)), default=math.inf)
    step = min(most, min(1.5, math.sqrt(nearest)) ** (1 / max(1, count - 1)))
    return [step ** (line - (count - 1) / 2) for line in range(count)]


def series(ax: Axes, points: Sequence[tuple[float, Sequence[float]]], look: dict, label: str) -> None:
    """Means joined by a line, which breaks off where there is no value; intervals as bars where there are two seeds or
    more, seeds as faint points."""
    if not any(values for _, values in points):
        return
    means = [mean(values) if values else None for _, values in points]
    x = np.array([n for n, _ in points])
    half = np.array([m.half if m else math.nan for m in means])
    bars = {"yerr": half, "capsize": 3} if np.isfinite(half).any() else {}
    ax.errorbar(x, [m.mean if m else math.nan for m in means], **bars, label=label, markersize=5, **look)
    places, seeds = zip(*((n, value) for n, values in points for value in values[:LINES]), strict=True)
    ax.plot(places, seeds, look["marker"], color=look["color"], alpha=0.35, markersize=3)


def gap_against_n(ax: Axes, results: Results) -> Axes:
    """The pair's gap in points, paired by seed; hollow, with a line from the same seed: with the
    budget check's longer training."""
    first, second = results.study.pair
    points = [(n, [100 * g for g in results.gaps(n).values()]) for n in results.study.sizes]
    series(ax, points, {"color": "black", "marker": "o", "linestyle": "-"}, "gap")
    if check := results.study.budget_check:
        longer = [(n, results.gaps(n), results.gaps(n, role="budget-check")) for n in results.study.sizes]
        moves = [
            ((n, 100 * gaps[s]), (1.08 * n, 100 * g)) for n, gaps, its in longer for s, g in its.items() if s in gaps
        ]
        ends = [(1.08 * n, 100 * g) for n, _, its in longer for g in its.values()]
        if ends:
            ax.add_collection(LineCollection(moves, color=PALETTE[1], linewidth=0.8))
            ax.plot(*zip(*ends, strict=True), "o", mfc="none", color=PALETTE[1], label=longer_label(check))
            legend(ax)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_ylabel(of_the_gap(first, second))
    n_axis(ax, results.study.sizes)
    return ax


def longer_label(check: BudgetCheck) -> str:
    """What the legend calls a budget check."""
    return f"{check.factor:g}× the training"


def of_the_gap(first: str, second: str) -> str:
    """A label, in lines where the names are long."""
    between = "\n" if len(first) + len(second) > LONG else " "
    return f"{short(first)}{between}− {short(second)},{between}test accuracy (points)"


def gap_by_setting(ax: Axes, settings: Sequence[Results]) -> Axes:
    """The pair's gap in points, paired by seed, a line for each setting of `permutation`."""
    study = settings[0].study
    for place, (results, beside) in enumerate(zip(settings, apart(len(settings), study.sizes), strict=True)):
        points = [(n * beside, [100 * g for g in results.gaps(n).values()]) for n in study.sizes]
        shade = str(0.75 * place / max(1, len(settings) - 1))  # the more is permuted, the paler
        look = {"color": shade, "marker": MARKERS[place % len(MARKERS)], "linestyle": "-"}
        series(ax, points, look, str(results.setting))
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_ylabel(of_the_gap(*study.pair))
    n_axis(ax, study.sizes)
    legend(ax)
    return ax


def panels(sizes: Sequence[int]) -> list[int]:
    """The sizes that have a panel in `training_curves`: all, or `PANELS` of them spread over all, both ends among
    them."""
    return [sizes[k] for k in np.unique(np.linspace(0, len(sizes) - 1, min(len(sizes), PANELS)).round().astype(int))]


def training_curves(axes: Sequence[Axes], results: Results) -> Sequence[Axes]:
    """Validation accuracy over images seen, one of `panels` a size, one line a seed (of `LINES` at most)."""
    for ax, n in zip(axes, panels(results.study.sizes), strict=True):
        for model in results.models:
            lines = [
                [(p.images_seen, p.val_accuracy) for p in record.curve]
                for record in list(results.at(model, n).values())[:LINES]
                if record.curve
            ]
            if lines:
                look = {"color": style(results, model)["color"], "label": model}
                ax.add_collection(LineCollection(lines, linewidth=1.2, alpha=0.8, **look))
        ax.autoscale_view()
        if results.baseline and (line := results.mean(results.baseline, n, lambda r: r.validation.accuracy)):
            ax.axhline(line.mean, color=BASELINE, linestyle="--", linewidth=1, label=results.baseline)
        ax.set_title(f"n = {n:,}", fontsize=10)
        ax.yaxis.set_major_formatter(PERCENT)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: thousands(v)))
        ax.xaxis.set_major_locator(MaxNLocator(4))
        if not ax.collections:
            ax.set_xticks([])
            ax.text(0.5, 0.5, "missing", transform=ax.transAxes, ha="center", va="center")
        ax.set_xlabel("images seen")
        quiet(ax)
        if ax.get_subplotspec().is_first_col():
            ax.set_ylabel("validation accuracy")
    lines = {label: line for ax in axes for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    names = [name for name in results.models if name in lines]
    legend(axes[min(len(axes), 3) - 1], [lines[name] for name in names], [short(name) for name in names])
    return axes


def n_axis(ax: Axes, sizes: Sequence[int]) -> None:
    """A logarithmic axis of training-set sizes."""
    log_axis(ax, sizes)
    ax.set_xlabel("training images n (log scale)")


def log_axis(ax: Axes, places: Sequence[int], digits: int = 6) -> None:
    """With the places themselves as its ticks, of so many significant digits."""
    ax.set_xscale("log")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(places, [thousands(place, digits) for place in places])
    ax.set_xlim(places[0] / 1.3, places[-1] * 1.3)
    quiet(ax)


def legend(ax: Axes, lines: Sequence[Artist] = (), labels: Sequence[str] = ()) -> None:
    """Beside the axes, where it hides nothing; of all that is drawn there unless `lines` are given."""
    if not lines:
        lines, labels = ax.get_legend_handles_labels()
    if lines:
        ax.legend(lines, labels, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def quiet(ax: Axes) -> None:
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)


def thousands(v: float, digits: int = 6) -> str:
    """1500 -> `1.5k`, 50000 -> `50k`, of so many significant digits."""
    if v >= 1e6:
        return f"{v / 1e6:.{digits}g}M"
    return f"{v / 1e3:.{digits}g}k" if v >= 1000 else f"{v:.{digits}g}"

"""What quality costs: `vitcnn cost`'s measurements beside the records' accuracies, as a table and a figure."""

import math
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from vitcnn.analysis.results import Results
from vitcnn.analysis.stats import Mean
from vitcnn.report.figures import BASELINE, PERCENT, style
from vitcnn.report.format import counted
from vitcnn.report.markdown import heading, image, join, paragraph, table
from vitcnn.report.tables import MISSING, percent
from vitcnn.store.costs import Costs, ModelCost, read_costs
from vitcnn.store.paths import StudyPaths
from vitcnn.study.matrix import describe_budget

HEAD = ["parameters", "MACs / image", "training images/s", "inference images/s", "peak memory, MB"]
NONE = "–"
SPAN = 4.0  # an axis of costs covers at least this factor: what costs the same should look so
PLACES = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)]  # of a name beside its marker
Axis = Callable[[ModelCost], tuple[float, float, float] | None]  # value, its low and high end


def measured(cost: ModelCost | None) -> list[str]:
    """The cells under `HEAD`; speeds as `1,234 (1,200–1,250)`, median, slowest and fastest round."""
    if cost is None:
        return [MISSING] * len(HEAD)
    speeds = [f"{s.median:,.0f} ({s.low:,.0f}–{s.high:,.0f})" if s else NONE for s in (cost.training, cost.inference)]
    memory = NONE if cost.memory is None else f"{cost.memory / 1e6:,.0f}"
    return [f"{cost.parameters:,}", f"{cost.macs:,}", *speeds, memory]


def cost_section(results: Results, paths: StudyPaths) -> str:
    """Markdown: the method, the figure (`cost.png`), the table. Empty where there is no `cost.json`.

    A model that was measured as another model than the study's is shown as missing.
    """
    if (costs := read_costs(paths)) is None:
        return ""
    ends = sorted({results.study.sizes[0], results.study.sizes[-1]})
    rows = [
        [e.name, *measured(costs.of(e.name, e.arch)), *(percent(results.mean(e.name, n)) for n in ends)]
        for e in results.study.models
    ]
    n = common_size(results)
    return join(
        [
            heading(2, "Cost and quality"),
            paragraph(_how(costs)),
            image("test accuracy against cost", "cost.png") if costs_drawn(results, costs, n) else "",
            table(["model", *HEAD, *(f"accuracy, n = {n:,}" for n in ends)], rows),
            _frontier(results, costs, n),
        ]
    )


def _how(costs: Costs) -> str:
    trained = [c for c in costs.models.values() if c.batch]
    batches = ", ".join(f"{b:,}" for b in sorted({c.batch for c in trained}))
    precision = ", ".join(sorted({c.precision for c in trained}))
    return (
        f"Measured by `vitcnn cost` on {costs.machine}, {counted(costs.threads, 'thread')}, "
        f"{str(costs.made_by.get('date'))[:10]}, at a load of {costs.load:.1f} when it began. Numbers are median "
        f"(slowest–fastest) of {costs.repeats} rounds. In a round every model runs for about {costs.seconds:g} s. A "
        f"training step is augmentation, forward, loss, backward, clipping and AdamW on {batches} images, {precision}. "
        f"Inference is in batches of {costs.inference_batch:,}. Peak memory is that of training, without the network's "
        f"weights and the batch ({costs.memory_is}). MACs are of one forward image. Accuracy is that above."
    )


def common_size(results: Results) -> int | None:
    """The largest n that every model with any record has finished a seed of, else the largest with any record."""
    done = [[n for n in results.study.sizes if results.at(model, n)] for model in results.models]
    begun = [set(sizes) for sizes in done if sizes]
    return max(set.intersection(*begun) or set.union(*begun)) if begun else None


def macs(cost: ModelCost) -> tuple[float, float, float] | None:
    return (cost.macs,) * 3 if cost.training else None


def microseconds(cost: ModelCost) -> tuple[float, float, float] | None:
    """Of training, for each image."""
    s = cost.training
    return (1e6 / s.median, 1e6 / s.high, 1e6 / s.low) if s else None


def costs_drawn(results: Results, costs: Costs, n: int | None) -> dict[str, ModelCost]:
    """The trained models that have both a cost and an accuracy at n."""
    found = {e.name: costs.of(e.name, e.arch) for e in results.study.models if n and results.at(e.name, n)}
    return {name: cost for name, cost in found.items() if cost and cost.training}


def _frontier(results: Results, costs: Costs, n: int | None) -> str:
    drawn = costs_drawn(results, costs, n)
    if not drawn:
        return ""
    quality = {name: results.mean(name, n).mean for name in drawn}
    lines = []
    for what, axis in (("training time an image", microseconds), ("MACs", macs)):
        price = {name: axis(cost)[0] for name, cost in drawn.items()}
        best = [
            name
            for name in drawn
            if not any(
                (quality[o], -price[o]) != (quality[name], -price[name])
                and quality[o] >= quality[name]
                and price[o] <= price[name]
                for o in drawn
            )
        ]
        lines.append(f"in {what}: {', '.join(sorted(best, key=price.get))}")
    best_of = f"Pareto frontier by the means at n = {n:,} (no model is both better and cheaper)"
    return paragraph(f"{best_of}: {'; '.join(lines)}.")


def cost_figure(results: Results, paths: StudyPaths) -> Figure | None:
    """Test accuracy against MACs and against training time; None where there is nothing to draw."""
    costs, n = read_costs(paths), common_size(results)
    if not costs or not costs_drawn(results, costs, n):
        return None
    fig = Figure(figsize=(10.5, 4.8), layout="constrained")
    left, right = fig.subplots(1, 2, sharey=True)
    accuracy_against(left, results, costs, n, macs)
    accuracy_against(right, results, costs, n, microseconds)
    left.set_xlabel("MACs of one forward image (log scale)")
    right.set_xlabel("training time of an image, µs (log scale)")
    left.set_ylabel("test accuracy")
    where = f"{costs.machine}, {counted(costs.threads, 'thread')}"
    fig.suptitle(f"{results.title}, n = {n:,}; {describe_budget(results.cells)}\n{where}", fontsize=10)
    fig.draw_without_rendering()  # the layout is settled: now names can be placed
    for ax, axis in ((left, macs), (right, microseconds)):
        _names(ax, {name: (axis(c), results.mean(name, n)) for name, c in costs_drawn(results, costs, n).items()})
    return fig


def accuracy_against(ax: Axes, results: Results, costs: Costs, n: int, axis: Axis) -> Axes:
    """Mean test accuracy at n with its 95 % interval, one marker a model; the baseline is a line."""
    values = []
    for name, cost in costs_drawn(results, costs, n).items():
        value, low, high = axis(cost)
        m, look = results.mean(name, n), style(results, name)
        half = None if math.isnan(m.half) else m.half
        bars = {"xerr": [[value - low], [high - value]], "yerr": half, "elinewidth": 1, "capsize": 2}
        ax.errorbar(value, m.mean, **bars, color=look["color"], marker=look["marker"], markersize=7, label=name)
        values += [low, high]
    if results.baseline and (baseline := results.mean(results.baseline, n)):
        ax.axhline(baseline.mean, color=BASELINE, linestyle="--", linewidth=1)
        at = {"xy": (0.01, baseline.mean), "xycoords": ("axes fraction", "data"), "va": "bottom"}
        ax.annotate(results.baseline, **at, xytext=(0, 1), textcoords="offset points", color=BASELINE, fontsize=8)
    ax.set_xscale("log")
    left, right = span(values)
    ax.set_xlim(left, right)
    ax.xaxis.set_major_locator(LogLocator(10, (1, 2, 5) if right / left < 50 else (1,)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v / 1e6:g}M" if v >= 1e6 else f"{v:,.5g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(PERCENT)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def span(values: Sequence[float]) -> tuple[float, float]:
    """The ends of a logarithmic axis of costs."""
    middle, spread = math.sqrt(min(values) * max(values)), max(SPAN, 1.6 * max(values) / min(values))
    return middle / math.sqrt(spread), middle * math.sqrt(spread)


def _names(ax: Axes, points: dict[str, tuple[tuple[float, float, float], Mean]]) -> None:
    """Each model's name beside its marker: in the nearest of `PLACES` where it covers nothing, joined to the marker
    by a line where that is far; where there is none, where it covers least."""
    to = ax.transData.transform
    taken = [text.get_window_extent() for text in ax.texts]
    for (x, low, high), m in points.values():  # markers, and bars where there are any
        up = 0 if math.isnan(m.half) else m.half
        taken.append(Bbox([to((x, m.mean)) - 6, to((x, m.mean)) + 6]))
        taken.append(Bbox([to((x, m.mean - up)) - 2, to((x, m.mean + up)) + 2]))
        taken.append(Bbox([to((low, m.mean)) - 2, to((high, m.mean)) + 2]))
    for name, ((x, *_), m) in sorted(points.items(), key=lambda item: -item[1][1].mean):
        how = {"textcoords": "offset points", "in_layout": False}
        text = ax.annotate(name, (x, m.mean), (0, 0), **how, fontsize=8)
        far, place = min(
            ((far, place) for far in (8, 16, 26, 38) for place in PLACES),
            key=lambda at: (_covered(_put(text, *at), ax, taken), at[0]),
        )
        taken.append(_put(text, far, place))
        if far > 8:
            line = {"arrowstyle": "-", "color": BASELINE, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4}
            ax.annotate("", (x, m.mean), text.get_position(), **how, arrowprops=line)


def _put(text: Annotation, far: float, place: tuple[int, int]) -> Bbox:
    """Moves a name `far` points away from its marker; the box that it then fills, in pixels."""
    dx, dy = place
    text.set_position((far * dx, far * dy))
    text.set(ha=("center", "left", "right")[dx], va=("center", "bottom", "top")[dy])
    return text.get_window_extent()


def _covered(box: Bbox, ax: Axes, taken: Sequence[Bbox]) -> float:
    """Square pixels of the others, and of what is outside the axes, under a box."""
    shared = (Bbox.intersection(box, other) for other in taken)
    inside = Bbox.intersection(box, ax.bbox)
    outside = box.width * box.height - (inside.width * inside.height if inside else 0)
    return round(outside + sum(part.width * part.height for part in shared if part))

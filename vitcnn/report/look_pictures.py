"""The pictures of what networks look at, with titles and captions."""

import re
import textwrap
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from vitcnn.errors import evenly
from vitcnn.inspect.look import Look, View
from vitcnn.inspect.trained import setting
from vitcnn.report import look as figures
from vitcnn.report.figures import short

PANELS = 6  # of a figure of several cells
FIELDS = 8  # cells of a figure of receptive fields
Picture = tuple[str, str, str, Figure]  # file without ending, title, caption, figure


def pictures(pictured: Sequence[Look], every: Sequence[Look], names: dict[str, str]) -> Iterator[Picture]:
    """In display order. `pictured` have a picture of each kind; `every`: also those whose distances alone are known.
    `names`: of cells, by id."""
    yield from _fields([one for one in pictured if one.fields], names)
    yield from _by_layer([one for one in pictured if one.distances], names)
    yield from _by_n([one for one in every if one.distances])
    for one in pictured:
        name = names[one.cell.id]
        for k, view in enumerate(one.views if one.layers else [], 1):
            yield _attention(one, view, name, k)
        if one.layers:
            yield _offsets(one, name)
        if one.positions is not None:
            yield _positions(one, name)
        if one.filters:
            yield _filters(one, name)


def _seen(one: Look) -> str:
    """The end of a caption of a permuted cell."""
    return " Shown as the network sees images: permuted." if one.permuted else ""


def _fields(looks: Sequence[Look], names: dict[str, str]) -> Iterator[Picture]:
    title = "Effective receptive fields: at initialisation (top), trained (bottom)"
    for number, part in enumerate(evenly(looks, FIELDS) if looks else [], 1):
        fig, axes = figures.panels(2 * len(part), len(part), title, (1.45, 1.55))
        for k, one in enumerate(part):
            for ax, field in zip((axes[k], axes[len(part) + k]), one.fields, strict=True):
                figures.receptive_field(ax, field.values)
                ax.set_xlabel(f"side {field.side:.1f} px", fontsize=8)
            axes[k].set_title(_folded(names[one.cell.id], 22), fontsize=8)
        side, images = part[0].side, part[0].images
        yield (
            f"fields-{number}",
            title,
            "Absolute gradient of the centre of the last feature map with respect to the "
            f"{side}×{side} pixels, mean over {images} test images (Luo et al. 2016). Brightness is the root of the "
            "share of the largest; below, the side of a square of equal values of the same effective size. What is "
            "bright at initialisation is given by the architecture; of a residual branch that starts at zero, only the "
            "shortcut shows." + _any_seen(part),
            fig,
        )


def _any_seen(looks: Sequence[Look]) -> str:
    return next((text for one in looks if (text := _seen(one))), "")


def _by_layer(looks: Sequence[Look], names: dict[str, str]) -> Iterator[Picture]:
    title = "Mean attention distance of each head"
    for number, part in enumerate(evenly(looks, PANELS) if looks else [], 1):
        fig, axes = figures.panels(len(part), 3, title, (2.7, 2.5), sharey=True)
        for ax, one in zip(axes, part, strict=True):
            heads = [[d.heads for d in group] for group in (one.distances, one.initial)]
            figures.distance_by_layer(ax, *heads, [d.uniform for d in one.distances])
            ax.set_title(_folded(names[one.cell.id]), fontsize=9)
            if ax.get_subplotspec().is_first_col():
                ax.set_ylabel("distance (pixels)")
        axes[0].set_ylim(0, _top(part))
        lines, labels = axes[0].get_legend_handles_labels()
        fig.legend(lines, labels, loc="outside lower center", ncols=3, frameon=False)
        yield (
            f"distance-{number}",
            title,
            f"Distance in pixels of the {part[0].side}×{part[0].side} images from a query token to the tokens it "
            f"attends to, weighted by attention; mean over queries and {part[0].images} test images. One point a head. "
            "Dashed: attention to all tokens equally." + _any_seen(part).replace("Shown", "Measured"),
            fig,
        )


def _by_n(looks: Sequence[Look]) -> Iterator[Picture]:
    """Of each model, budget and permutation that has cells of several n."""
    groups: dict[tuple, list[Look]] = {}
    for one in looks:
        groups.setdefault(setting(one.cell), []).append(one)
    groups = {key: group for key, group in groups.items() if len({one.cell.n for one in group}) > 1}
    title = "Mean attention distance against n"
    for number, part in enumerate(evenly(list(groups.values()), PANELS) if groups else [], 1):
        fig, axes = figures.panels(len(part), 2, title, (3.6, 2.8), sharey=True)
        for ax, group in zip(axes, part, strict=True):
            layers: list[dict[int, list[float]]] = [{} for _ in group[0].distances]
            for one in group:
                for by_n, distance in zip(layers, one.distances, strict=True):
                    by_n.setdefault(one.cell.n, []).append(float(np.nanmean(distance.heads)))
            uniform = [distance.uniform for distance in group[0].distances]
            figures.distance_by_n(ax, sorted({one.cell.n for one in group}), layers, uniform)
            ax.set_title(_folded(re.sub(r"-n\d+-s\d+", "", group[0].cell.title)), fontsize=9)
            ax.set_ylabel("distance (pixels)")
        every = [one for group in part for one in group]
        axes[0].set_ylim(0, _top(every))
        yield (
            f"distance-n-{number}",
            title,
            "One line a layer: the mean over heads and over the seeds whose weights were kept; faint points are seeds. "
            "A layer that falls with n looks more locally the more images it has (Raghu et al. 2021). Dashed: "
            "attention to all tokens equally." + _any_seen(every).replace("Shown", "Measured"),
            fig,
        )


def _top(looks: Sequence[Look]) -> float:
    """Of an axis that shows all their distances."""
    every = [d for one in looks for d in (*one.distances, *one.initial)]
    return 1.08 * max(float(np.nanmax([*d.heads, d.uniform])) for d in every)


def _attention(one: Look, view: View, name: str, number: int) -> Picture:
    layers = figures.chosen(len(one.layers), figures.LAYERS)
    rows = {_layer(one, k): view.maps[k][: figures.HEADS] for k in layers}
    first = [pixels for pixels in (view.given, view.seen) if pixels is not None]
    more = len(first) + (view.rollout is not None)
    title = f"{name}: attention on {view.name}"
    fig, panels, column = figures.maps_figure(rows, f"{title}\npredicted: {view.predicted}", more)
    for ax, pixels, label in zip(column, first, ("as given", "permuted")[-len(first) :], strict=False):
        figures.picture(ax, pixels).set_title(label if view.given is not None else "image", fontsize=6, pad=2)
    if view.rollout is not None:
        ax = figures.attention_map(column[-1], view.seen, view.rollout)
        ax.set_title(f"rollout, {ax.get_title()}", fontsize=6, pad=2)
    for k, axes in zip(layers, panels.values(), strict=True):
        for ax, shares in zip(axes, view.maps[k], strict=False):  # the first heads
            figures.attention_map(ax, view.seen, shares, one.layers[k].windows)
    origin = "from the class token" if one.from_class else "mean over the query tokens of the image"
    windows = " Lines: borders of the windows." if any(layer.windows for layer in one.layers) else ""
    roll = " Rollout (Abnar & Zuidema 2020) joins all layers." if view.rollout is not None else ""
    caption = f"One row a layer, one column a head{_left_out(one)}: {origin}, each map from 0 to its largest share."
    return f"attention-{name}-{number}", title, caption + windows + roll + _seen(one), fig


def _offsets(one: Look, name: str) -> Picture:
    layers = figures.chosen(len(one.layers), figures.LAYERS)
    title = f"{name}: attention by offset from the query token"
    rows = {_layer(one, k): figures.near(one.offsets[k][: figures.HEADS]) for k in layers}
    fig, panels, _ = figures.maps_figure(rows, title)
    for row, axes in panels.items():
        for ax, head in zip(axes, rows[row], strict=True):
            figures.offset_map(ax, head)
    rest = " The rest of the attention is to class or register tokens." if one.layers[0].prefix else ""
    caption = f"One row a layer, one column a head{_left_out(one)}. The cross is the query's own place; mean over "
    caption += f"queries and {one.images} test images. Few queries have far offsets, so uniform attention is a pyramid."
    return f"offsets-{name}", title, caption + rest + _seen(one), fig


def _left_out(one: Look) -> str:
    heads = max(len(layer.weights[0]) for layer in one.layers)
    parts = [
        f"{most} of {count} {what}"
        for count, most, what in ((len(one.layers), figures.LAYERS, "layers"), (heads, figures.HEADS, "heads"))
        if count > most
    ]
    return f" ({' and '.join(parts)})" if parts else ""


def _positions(one: Look, name: str) -> Picture:
    title = f"{name}: similarity of position embeddings"
    fig, (ax,) = figures.panels(1, 1, title, (3.6, 3.5))
    fig.colorbar(figures.position_similarity(ax, one.positions).images[0], ax=ax, label="cosine similarity", shrink=0.8)
    caption = "Each small map belongs to the token at its place: the similarity of its position vector to all others."
    return f"positions-{name}", title, caption + _seen(one), fig


def _filters(one: Look, name: str) -> Picture:
    weights, what = one.filters
    title = f"{name}: filters of the first layer"
    across = 8 if len(weights) <= 32 else 16
    fig, (ax,) = figures.panels(1, 1, title, (4.0, 5.0 * -(-len(weights) // across) / min(across, len(weights))))
    figures.filters(ax, weights, across)
    return (
        f"filters-{name}",
        title,
        f"{what[0].upper()}{what[1:]}, each on its own scale around grey." + _seen(one),
        fig,
    )


def _layer(one: Look, k: int) -> str:
    """A label: as in the figures of distances, and as in the network."""
    return f"layer {k + 1}\n{one.layers[k].name.removesuffix('.attention').removesuffix('.attn')}"


def _folded(name: str, wide: int = 40) -> str:
    """A cell's title in lines of at most so many letters; its permutation begins a new one."""
    model, _, more = name.partition(" (")
    return "\n".join(textwrap.fill(line, wide) for line in ([short(model), f"({more}"] if more else [short(model)]))

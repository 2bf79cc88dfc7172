"""Figures of what networks look at. Each takes `ax` and arrays and returns `ax`; no files are read or written."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from vitcnn.report.figures import BASELINE, MARKERS, PALETTE, legend, n_axis, quiet

LAYERS, HEADS = 6, 9  # of a figure of maps, at most
HEAT = {"cmap": "magma", "interpolation": "nearest"}
Windows = tuple[tuple[int, int], tuple[int, int]]


def maps_figure(
    rows: Mapping[str, Sequence[np.ndarray]], title: str, more: int = 0
) -> tuple[Figure, dict[str, Sequence[Axes]], Sequence[Axes]]:
    """(a figure, the axes of each row's panels, `more` axes in a column before them). `rows`: of each layer, one array
    a head; of more than `LAYERS` or `HEADS` see `chosen`."""
    columns = max(map(len, rows.values()), default=0)
    height, first = max(len(rows), more), int(more > 0)
    fig = Figure(figsize=(1.15 * (columns + first) + 0.8, 1.3 * height + 0.5), layout="constrained")
    axes = fig.subplots(height, columns + first, squeeze=False)
    out = {}
    for line, (name, heads) in zip(axes, rows.items(), strict=False):
        out[name] = line[first : first + len(heads)]
        if len(heads):
            out[name][0].set_ylabel(name, fontsize=7)
    used = {id(ax) for panels in out.values() for ax in panels} | {id(ax) for ax in axes[:more, 0]}
    for ax in axes.flat:
        ax.set_visible(id(ax) in used)
        ax.set_xticks([])
        ax.set_yticks([])
    _head(fig, title)
    return fig, out, axes[:more, 0]


def chosen(count: int, most: int) -> list[int]:
    """All of `count` layers, or `most` of them spread over all, both ends among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


def picture(ax: Axes, pixels: np.ndarray) -> Axes:
    """An image (H, W, C) uint8."""
    ax.imshow(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0, vmax=255)
    return ax


def attention_map(ax: Axes, pixels: np.ndarray, shares: np.ndarray, windows: Windows | None = None) -> Axes:
    """Shares of attention (rows, columns) over an image (H, W, C) in grey: black where there is none, on a scale from 0
    to the largest share, which is printed. Lines are borders of windows: ((side, shift) of rows, of columns)."""
    tall, wide = pixels.shape[:2]
    extent = (-0.5, wide - 0.5, tall - 0.5, -0.5)
    ax.imshow(pixels.mean(-1), cmap="gray", vmin=-128, vmax=383, extent=extent)  # pale: not to be taken for attention
    ax.imshow(shares, vmin=0, vmax=max(shares.max(), 1e-12), alpha=0.65, extent=extent, **HEAT)
    if windows:
        draws = (ax.axhline, ax.axvline)
        for draw, count, length, (side, shift) in zip(draws, shares.shape, (tall, wide), windows, strict=True):
            for border in borders(count, side, shift):
                draw(border * length / count - 0.5, color="white", linewidth=1.0)
    ax.set_title(f"max {100 * shares.max():.2g}%", fontsize=6, pad=2)
    return ax


def borders(count: int, side: int, shift: int) -> list[int]:
    """Of `count` tokens in a row, those that begin another window than the token before them. Tokens are shifted
    around the end, then cut from the start: the last window may be smaller."""
    window = (np.arange(count) - shift) % count // side
    return (1 + np.flatnonzero(np.diff(window))).tolist()


def offset_map(ax: Axes, head: np.ndarray) -> Axes:
    """One head: (2H − 1, 2W − 1), the query's place, a cross, in the middle. Brightness is the root of the share of
    attention, each map on a scale of its own with its largest share printed."""
    down, right = (size // 2 for size in head.shape)
    extent = (-right - 0.5, right + 0.5, down + 0.5, -down - 0.5)
    ax.imshow(head, norm=PowerNorm(0.5, vmin=0, vmax=max(head.max(), 1e-12)), extent=extent, **HEAT)
    ax.plot(0, 0, "+", color=PALETTE[5], markersize=5, markeredgewidth=1)
    ax.set_title(f"max {100 * head.max():.2g}%", fontsize=6, pad=2)
    return ax


def near(heads: np.ndarray) -> np.ndarray:
    """Maps by offset (h, 2H − 1, 2W − 1), cut to the offsets that some head attends to, still around the middle."""
    middle = np.array(heads.shape[1:]) // 2
    used = np.argwhere(heads.max(0) > 1e-9)
    down, right = np.abs(used - middle).max(0) if len(used) else middle
    return heads[:, middle[0] - down : middle[0] + down + 1, middle[1] - right : middle[1] + right + 1]


def distance_by_layer(
    ax: Axes, after: Sequence[np.ndarray], before: Sequence[np.ndarray], uniform: Sequence[float]
) -> Axes:
    """Mean attention distance of every head, (h,) of each layer: filled after training, hollow before it; a bar where
    attention to all tokens alike would be."""
    layers = np.arange(1, len(after) + 1)
    ax.hlines(uniform, layers - 0.35, layers + 0.35, color=BASELINE, linestyle="--", linewidth=1, label="uniform")
    for place, heads, label, beside, look in (
        (layers, before, "at initialisation", -0.12, {"mfc": "none", "color": PALETTE[1]}),
        (layers, after, "trained", 0.12, {"color": PALETTE[0]}),
    ):
        x = np.concatenate([np.full(len(one), k + beside) for k, one in zip(place, heads, strict=True)])
        ax.plot(x, np.concatenate(heads), "o", markersize=4, label=label, **look)
    ax.set_xticks(layers if len(layers) <= 12 else layers[:: -(-len(layers) // 12)])
    ax.set_xlim(0.4, len(layers) + 0.6)
    ax.set_xlabel("layer")
    quiet(ax)
    return ax


def distance_by_n(
    ax: Axes, sizes: Sequence[int], layers: Sequence[Mapping[int, Sequence[float]]], uniform: Sequence[float]
) -> Axes:
    """Mean attention distance against n, a line for each layer: of each n, one value a seed (the mean over heads).
    Dashed: what attention to all tokens alike would be."""
    for value in {round(value, 2) for value in uniform}:
        ax.axhline(value, color=BASELINE, linestyle="--", linewidth=1)
    for k, by_n in enumerate(layers):
        colour = str(0.75 * k / max(1, len(layers) - 1)) if len(layers) > len(PALETTE) else PALETTE[k]
        look = {"color": colour, "marker": MARKERS[k % len(MARKERS)]}
        points = [(n, value) for n, values in sorted(by_n.items()) for value in values]
        ax.plot(sorted(by_n), [np.mean(by_n[n]) for n in sorted(by_n)], markersize=5, label=f"layer {k + 1}", **look)
        ax.plot(*zip(*points, strict=True), linestyle="", alpha=0.35, markersize=3, **look)
    n_axis(ax, sizes)
    legend(ax)
    return ax


def receptive_field(ax: Axes, field: np.ndarray) -> Axes:
    """A field (H, W); brightness is the root of the share of its largest value."""
    ax.imshow(field, norm=PowerNorm(0.5, vmin=0, vmax=max(field.max(), 1e-30)), **HEAT)
    ax.set_xticks([])
    ax.set_yticks([])
    return ax


def position_similarity(ax: Axes, similarity: np.ndarray) -> Axes:
    """Cosine similarity (rows, columns, rows, columns): one small map for each position, at its place."""
    image = ax.imshow(mosaic(similarity.reshape(-1, *similarity.shape[2:]), similarity.shape[1]), cmap="RdBu_r")
    image.set_clim(-1, 1)
    ax.set_axis_off()
    return ax


def filters(ax: Axes, weights: np.ndarray, across: int = 8) -> Axes:
    """Filters (count, C, k, k), `across` in a row, each on a scale of its own around grey."""
    largest = np.abs(weights).max((1, 2, 3), keepdims=True)
    tiles = 0.5 + 0.5 * weights / np.where(largest > 0, largest, 1)
    sheets = [mosaic(tiles[:, channel], min(len(tiles), across)) for channel in range(tiles.shape[1])]
    sheet = np.nan_to_num(np.stack(sheets, -1), nan=1.0)
    ax.imshow(sheet if sheet.shape[-1] == 3 else sheet.mean(-1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()
    return ax


def mosaic(tiles: np.ndarray, columns: int) -> np.ndarray:
    """Tiles (count, H, W) side by side with a line of nan between them."""
    count, tall, wide = tiles.shape
    rows = -(-count // columns)
    out = np.full((rows * (tall + 1) - 1, columns * (wide + 1) - 1), np.nan)
    for k, tile in enumerate(tiles):
        top, left = k // columns * (tall + 1), k % columns * (wide + 1)
        out[top : top + tall, left : left + wide] = tile
    return out


def panels(
    count: int, across: int, title: str, size: tuple[float, float], sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels of this width and height in inches, `across` in a row."""
    across = min(count, across)
    rows = -(-count // across)
    fig = Figure(figsize=(size[0] * across + 1.2, size[1] * rows + 0.6), layout="constrained")
    axes = fig.subplots(rows, across, squeeze=False, sharey=sharey).flatten()
    for ax in axes[count:]:
        ax.set_visible(False)
    _head(fig, title)
    return fig, list(axes[:count])


def _head(fig: Figure, title: str) -> None:
    """A title, broken where it is wider than the figure."""
    wide = int(13 * fig.get_figwidth())
    fig.suptitle("\n".join(textwrap.fill(line, wide) for line in title.split("\n")), fontsize=9)

"""A contact sheet: blocks of images beside each other."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure, SubFigure

LETTERS = 22  # of a label that are shown

Rows = Sequence[np.ndarray]  # each (k, H, W, C) uint8


def sheet_figure(blocks: Sequence[tuple[str, Rows, Sequence[str]]]) -> Figure:
    """`blocks`: a title, rows of images and a label for each row."""
    across = max(len(row) for _, rows, _ in blocks for row in rows)
    down = max(len(rows) for _, rows, _ in blocks)
    fig = Figure(figsize=(7.5 * len(blocks), 0.62 * down + 0.8), layout="constrained")
    for part, (title, rows, labels) in zip(fig.subfigures(1, len(blocks)), blocks, strict=True):
        part.suptitle(title, fontsize=10)
        _grid(part, rows, labels, across)
    return fig


def _grid(fig: SubFigure, rows: Rows, labels: Sequence[str], across: int) -> None:
    axes = fig.subplots(len(rows), across, squeeze=False)
    for line, row, label in zip(axes, rows, labels, strict=True):
        for ax in line:
            ax.set_axis_off()
        for ax, image in zip(line, row, strict=False):
            ax.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        text = label if len(label) <= LETTERS else f"{label[: LETTERS - 1]}…"
        line[0].text(
            -0.15, 0.5, text, transform=line[0].transAxes, ha="right", va="center", fontsize=8, parse_math=False
        )

"""The figure of learned receptive fields."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from vitcnn.report.report import save
from vitcnn.report.style import drawing
from vitcnn.store.paths import StudyPaths


def save_receptive_fields(fields: Mapping[str, np.ndarray], title: str, paths: StudyPaths) -> Path:
    """The file of a cell's figure."""
    path = paths.report / (re.sub(r"[\s/]+", "-", f"receptive-fields-{title}") + ".png")
    with drawing():
        save(offset_maps(fields, title), path)
    return path


def offset_maps(fields: Mapping[str, np.ndarray], title: str) -> Figure:
    """One row a layer, one column a head. `fields`: (heads, offsets down, offsets right) of each layer."""
    columns = max(len(heads) for heads in fields.values())
    fig = Figure(figsize=(1.3 * columns + 1.6, 1.35 * len(fields) + 0.6), layout="constrained")
    axes = fig.subplots(len(fields), columns, squeeze=False)
    for row, (name, heads) in zip(axes, fields.items(), strict=True):
        for ax in row[len(heads) :]:
            ax.set_visible(False)
        for ax, head in zip(row, heads, strict=False):
            offset_map(ax, head)
        row[0].set_ylabel(name, fontsize=7, rotation=0, ha="right", va="center")
    fig.suptitle(f"{title}: attention by offset from the query token", fontsize=10)
    return fig


def offset_map(ax: Axes, head: np.ndarray) -> Axes:
    """One head: (2H − 1, 2W − 1), its own token in the middle. Brightness is the root of the share of attention, each
    map on a scale of its own with its largest share printed."""
    down, right = (size // 2 for size in head.shape)
    ax.imshow(
        head, cmap="magma", norm=PowerNorm(0.5, vmin=0), extent=(-right - 0.5, right + 0.5, down + 0.5, -down - 0.5)
    )
    ax.plot(0, 0, "+", color="white", markersize=4, markeredgewidth=0.7)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_title(f"max {head.max():.0%}", fontsize=6, pad=2)
    return ax

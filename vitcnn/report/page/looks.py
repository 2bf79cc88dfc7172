"""How a model looks in charts: the colours, markers and dashes of the report's figures, for Vega and for SVG."""

from dataclasses import dataclass

import numpy as np
from matplotlib.colors import to_hex, to_rgb
from matplotlib.markers import MarkerStyle

from vitcnn.analysis.results import Results
from vitcnn.report.figures import BASELINE, PALETTE, style

DASHES = {"-": [1, 0], "--": [6, 4], "-.": [7, 3, 2, 3]}
CURVES = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3], [5, 2, 1, 2, 1, 2])  # where lines have no markers
DARK = "#16181d"  # the page's background in dark mode, as in page.css
READABLE = 3.0  # contrast of a mark with what is behind it (WCAG 2, 1.4.11)


@dataclass(frozen=True)
class Look:
    """`shape`: an SVG path within −1 to 1, y downwards; `dash` and `curve`: of lines with and without markers."""

    name: str
    color: str
    shape: str
    dash: list[int]
    curve: list[int]


def looks(results: Results) -> list[Look]:
    """Of every model, in the study's order."""
    out = []
    for place, name in enumerate(results.models):
        look = style(results, name)
        curve = CURVES[place % len(CURVES)]
        out.append(Look(name, look["color"], svg_path(look["marker"]), DASHES[look["linestyle"]], curve))
    return out


def svg_path(marker: str) -> str:
    """A marker of matplotlib."""
    style = MarkerStyle(marker)
    path = style.get_path().transformed(style.get_transform())
    lines = path.to_polygons(width=0, height=0, closed_only=False)
    largest = max(np.abs(line).max() for line in lines)
    each = (" L".join(f"{x:.2f},{-y:.2f}" for x, y in line / largest) for line in lines)
    return " ".join(f"M{points}{'Z' if style.is_filled() else ''}" for points in each)


def in_the_dark() -> dict[str, str]:
    """By colour of a model that is hard to see on `DARK`: the same, mixed with as much white as it takes; black becomes
    white."""
    out = {"#000000": "#ffffff"}
    for color in (*PALETTE, BASELINE):
        if color in out:
            continue
        share = next(s for s in np.linspace(0, 1, 21) if contrast(_mixed(color, s), DARK) >= READABLE)
        if share:
            out[color] = _mixed(color, share)
    return out


def _mixed(color: str, white: float) -> str:
    return to_hex((1 - white) * np.array(to_rgb(color)) + white)


def contrast(one: str, other: str) -> float:
    """Of two colours, 1 to 21 (WCAG 2)."""

    def luminance(color: str) -> float:
        v = np.array(to_rgb(color))
        linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)

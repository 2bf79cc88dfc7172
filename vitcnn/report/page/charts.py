"""Charts of accuracy, overfitting and gap against n, as Vega-Lite. Numbers are those of `analysis.results`.

Controls of the page set a chart's parameters by name: `shown`, the models that are drawn. The page itself switches
between a logarithmic and a linear axis of n.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from vitcnn.analysis.results import Measure, Results, overfitting, test_accuracy
from vitcnn.analysis.stats import Mean, mean
from vitcnn.report.figures import LINES, PALETTE, apart, longer_label, short
from vitcnn.report.page.looks import Look, svg_path
from vitcnn.report.tables import percent

HEIGHT = 380
INK = "#000000"  # the page shows it in the colour of its text
SHOWN = "indexof(shown, datum.model) >= 0"
Rows = list[dict[str, Any]]
ZERO = [{"y": 0}]
FONT = "system-ui, sans-serif"


def named(data: str) -> alt.Chart:
    """A chart of one of the data that `finished` is given."""
    return alt.Chart(alt.NamedData(name=data))


def finished(chart: alt.LayerChart, description: str, height: int = HEIGHT, **data: Rows) -> dict[str, Any]:
    """A specification as wide as its place on the page, with its data by name; what is no number is missing there.
    Raises an error of Altair's if it is not valid."""
    whole = chart.properties(width="container", height=height, description=description, background="transparent")
    font = {"labelFont": FONT, "titleFont": FONT, "labelFontSize": 12, "titleFontSize": 13, "titleFontWeight": "normal"}
    whole = whole.configure_axis(**font, labelLimit=120, titleLimit=height, tickColor="#888888", domainColor="#888888")
    spec = whole.configure_view(stroke=None).configure_text(font=FONT).to_dict()
    return spec | {"datasets": {name: list(map(_finite, rows)) for name, rows in data.items()}}


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()}


def n_axis(sizes: Sequence[int], title: str = "training images n") -> alt.X:
    """Of the field `x`, logarithmic; with the sizes as its ticks."""
    scale = alt.Scale(type="log", domain=[sizes[0] / 1.3, sizes[-1] * 1.3], nice=False)
    return alt.X("x:Q", title=title, scale=scale, axis=alt.Axis(values=list(sizes), format="~s", labelOverlap="greedy"))


def scales(models: Sequence[Look]) -> dict[str, Any]:
    """Colour, marker and dash by the field `model`."""
    names = [look.name for look in models]

    def by_model(values: Sequence[Any]) -> dict[str, Any]:
        return {"scale": alt.Scale(domain=names, range=list(values)), "legend": None}

    colors = by_model([look.color for look in models])
    return {
        "stroke": alt.Stroke("model:N", **colors),
        "fill": alt.Fill("model:N", **colors),
        "shape": alt.Shape("model:N", **by_model([look.shape for look in models])),
        "strokeDash": alt.StrokeDash("model:N", **by_model([look.dash for look in models])),
    }


def shown_param(models: Sequence[Look]) -> alt.Parameter:
    return alt.param(name="shown", value=[look.name for look in models])


def spread(m: Mean | None) -> dict[str, Any]:
    """A mean with its interval in percent or points, and as tables show it."""
    if m is None:
        return {"mean": None, "low": None, "high": None, "text": percent(m)}
    return {"mean": 100 * m.mean, "low": 100 * m.low, "high": 100 * m.high, "text": percent(m)}


def each(values: Mapping[int, float]) -> str:
    """`seed 0: 35.1, seed 1: 35.6`, of `LINES` seeds at most."""
    text = ", ".join(f"seed {seed}: {100 * value:.1f}" for seed, value in list(values.items())[:LINES])
    return text + (f" and {len(values) - LINES} more" if len(values) > LINES else "")


def accuracy(results: Results, models: Sequence[Look]) -> dict[str, Any]:
    what = "Test accuracy against the number of training images, a line a model, with 95 % intervals over seeds."
    return _against_n(results, models, test_accuracy, "test accuracy (%)", what)


def over(results: Results, models: Sequence[Look]) -> dict[str, Any]:
    what = "Train minus test accuracy against the number of training images, a line a model, with 95 % intervals."
    return _against_n(results, models, overfitting, "train − test accuracy (points)", what, zero_line=True)


def _against_n(
    results: Results, models: Sequence[Look], measure: Measure, title: str, what: str, zero_line: bool = False
) -> dict[str, Any]:
    """Means, intervals, and every seed (of `LINES` at most) as a faint point."""
    sizes, means, seeds = results.study.sizes, [], []
    for look, beside in zip(models, apart(len(models), sizes), strict=True):
        for n in sizes:
            at = {"model": look.name, "n": n, "x": n * beside}
            _add(at, results.values(look.name, n, measure), means, seeds)
    layers = [zero()] if zero_line else []
    layers += _series(models, n_axis(sizes), title)
    data = {"means": means, "seeds": seeds} | ({"zero": ZERO} if zero_line else {})
    return finished(alt.layer(*layers).add_params(shown_param(models)), what, **data)


def _add(at: dict[str, Any], values: Mapping[int, float], means: Rows, seeds: Rows) -> None:
    """One row of means, and one a seed."""
    m = mean(list(values.values())) if values else None
    means.append(at | spread(m) | {"each": each(values)})
    seeds += [at | {"seed": seed, "value": 100 * v} for seed, v in list(values.items())[:LINES]]


def _series(models: Sequence[Look], x: alt.X, title: str) -> list[alt.Chart]:
    """Of the data `seeds` and `means`: seeds, then the line, intervals and markers of means."""
    look, y = scales(models), {"title": title, "scale": alt.Scale(zero=False)}
    marker = {key: look[key] for key in ("stroke", "fill", "shape")}
    where = ["model:N", alt.Tooltip("n:Q", format=",")]
    both = [*where, alt.Tooltip("text:N", title="mean"), alt.Tooltip("each:N", title="seeds")]
    one = [*where, "seed:O", alt.Tooltip("value:Q", title="value", format=".2f")]
    of_seeds, of_means = (named(data).transform_filter(SHOWN) for data in ("seeds", "means"))
    level = {"x": x, "y": alt.Y("mean:Q", **y)}
    bar = {"x": x, "y": alt.Y("low:Q", **y), "y2": "high:Q", "stroke": look["stroke"]}
    return [
        of_seeds.mark_point(size=22, opacity=0.4).encode(x=x, y=alt.Y("value:Q", **y), **marker, tooltip=one),
        of_means.mark_line(strokeWidth=2).encode(**level, stroke=look["stroke"], strokeDash=look["strokeDash"]),
        of_means.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=1.5).encode(**bar),
        of_means.transform_filter("isValid(datum.mean)")
        .mark_point(size=65, strokeWidth=1.5, opacity=1)
        .encode(**level, **marker, tooltip=both),
    ]


def zero() -> alt.Chart:
    """A line at 0."""
    return named("zero").mark_rule(stroke=INK, strokeWidth=1).encode(y="y:Q")


def gap(results: Results) -> dict[str, Any]:
    """The pair's gap, paired by seed; hollow, joined to the same seed: with the budget check's longer training."""
    (first, second), sizes, check = results.study.pair, results.study.sizes, results.study.budget_check
    line, means, seeds = Look(f"{first} − {second}", INK, svg_path("o"), [1, 0], [1, 0]), [], []
    gaps = {n: results.gaps(n) for n in sizes}
    for n, values in gaps.items():
        _add({"model": line.name, "n": n, "x": n}, values, means, seeds)
    title, x = f"{short(first)} − {short(second)} (points)", n_axis(sizes)
    layers = [zero(), *_series([line], x, title)]
    longer = [
        {"x": n, "to": 1.08 * n, "n": n, "seed": s, "from": 100 * gaps[n][s], "value": 100 * v}
        for n in sizes
        for s, v in results.gaps(n, role="budget-check").items()
        if s in gaps[n]
    ]
    if check and longer:
        layers += _moves(x, title, longer_label(check))
    what = f"{line.name} in test accuracy against the number of training images, with 95 % intervals over seeds."
    data = {"zero": ZERO, "means": means, "seeds": seeds, "longer": longer}
    return finished(alt.layer(*layers).add_params(shown_param([line])), what, **data)


def _moves(x: alt.X, title: str, label: str) -> list[alt.Chart]:
    """Of the data `longer`: lines from a seed's gap to that with longer training."""
    base, color, there = named("longer"), PALETTE[1], x.copy()
    there.shorthand = "to:Q"
    tooltip = [alt.Tooltip("n:Q", format=","), "seed:O", alt.Tooltip("value:Q", title=label, format=".2f")]
    at = {"x": there, "y": alt.Y("value:Q", title=title)}
    return [
        base.mark_rule(stroke=color).encode(x=x, x2="to:Q", y=alt.Y("from:Q", title=title), y2="value:Q"),
        base.mark_point(size=65, stroke=color, strokeWidth=1.5, opacity=1).encode(**at, tooltip=tooltip),
    ]

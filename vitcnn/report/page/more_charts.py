"""Charts of training curves, cost and classes, as Vega-Lite. The page's controls set their parameters by name."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from vitcnn.analysis.results import Results
from vitcnn.report.by_class import ByClass
from vitcnn.report.cost import common_size, costs_drawn, macs, microseconds, span
from vitcnn.report.figures import BASELINE, LINES, longer_label
from vitcnn.report.page.charts import SHOWN, Rows, finished, n_axis, named, scales, shown_param, spread
from vitcnn.report.page.looks import Look
from vitcnn.store.costs import Costs

MEASURES = {
    "accuracy": "validation accuracy (%)",
    "train_loss": "training loss (nats)",
    "nll": "validation loss (nats)",
}
PRICES = {"macs": "MACs of one forward image", "microseconds": "training time of an image (µs)"}
ALL = -1  # a seed, or a class: every one
DIGITS = 10  # the most classes whose matrix has numbers in it


def groups(results: Results) -> dict[tuple[int, str], str]:
    """The cells that are drawn together, by n and role, and their names."""
    check = results.study.budget_check
    out = {(n, "main"): f"{n:,}" for n in results.study.sizes}
    longer = sorted({c.n for c in results.cells if c.role == "budget-check"})
    return out | {(n, "budget-check"): f"{n:,}, {longer_label(check)}" for n in longer}


def curves(results: Results, models: Sequence[Look]) -> dict[str, Any]:
    """Training curves of the cells of one n, a line a seed (of `LINES` at most), with the model's marker at its end."""
    values, levels = _points(results, models)
    look = scales([Look(m.name, m.color, m.shape, m.curve, m.curve) for m in models])
    here = f"{SHOWN} && datum.group === group"
    of_seed = f"(seed === {ALL} || datum.seed === seed)"
    base = named("values").transform_filter(f"{here} && {of_seed}").transform_calculate(y="datum[measure]")
    at = {
        "x": alt.X("x:Q", title="images seen", axis=alt.Axis(format="~s", tickCount=5)),
        "y": alt.Y("y:Q", title=None, scale=alt.Scale(zero=False)),
        "stroke": look["stroke"],
    }
    seen = alt.Tooltip("x:Q", title="images seen", format=",")
    told = ["model:N", "seed:O", seen, alt.Tooltip("y:Q", title="value", format=".4~f")]
    level = alt.Tooltip("value:Q", title="validation accuracy (%)", format=".1f")
    layers = [
        named("levels")
        .transform_filter(f"{here} && measure === 'accuracy'")
        .mark_rule(stroke=BASELINE, strokeDash=[6, 4], strokeWidth=1.5)
        .encode(y="value:Q", tooltip=["model:N", level]),
        base.mark_line(strokeWidth=1.8, opacity=0.85).encode(**at, strokeDash=look["strokeDash"], detail="seed:N"),
        base.mark_point(size=14, opacity=0.6).encode(**at, tooltip=told),
        base.transform_filter("datum.last")
        .mark_point(size=65, opacity=1)
        .encode(**at, fill=look["fill"], shape=look["shape"], tooltip=told),
    ]
    chosen = {"group": 0, "seed": ALL, "measure": "accuracy"}
    params = [shown_param(models), *(alt.param(name=name, value=value) for name, value in chosen.items())]
    what = "Training curves of the cells of one n: a line a model and seed, over images seen in training."
    return finished(alt.layer(*layers).add_params(*params), what, values=values, levels=levels)


def _points(results: Results, models: Sequence[Look]) -> tuple[Rows, Rows]:
    """(points of the curves; the baseline's validation accuracy, where it has one)."""
    values, levels = [], []
    for group, (n, role) in enumerate(groups(results)):
        for look in models:
            for seed, record in list(results.at(look.name, n, role).items())[:LINES]:
                for place, p in enumerate(record.curve, 1):
                    found = {"accuracy": 100 * p.val_accuracy, "train_loss": p.train_loss, "nll": p.val_nll}
                    at = {"group": group, "model": look.name, "seed": seed, "x": p.images_seen}
                    last = {"last": 1} if place == len(record.curve) else {}
                    values.append(at | {key: round(v, 4) for key, v in found.items()} | last)
        if results.baseline and (m := results.mean(results.baseline, n, lambda r: r.validation.accuracy)):
            levels.append({"group": group, "model": results.baseline, "value": 100 * m.mean})
    return values, levels


def cost(results: Results, costs: Costs, models: Sequence[Look]) -> dict[str, Any]:
    """Test accuracy against what a model costs, at the n and between the costs of the report's figure."""
    n, values, ends = common_size(results), [], []
    for price, axis in (("macs", macs), ("microseconds", microseconds)):
        priced = {name: axis(found) for name, found in costs_drawn(results, costs, n).items()}
        ends += [{"price": price, "x": x} for x in span([x for three in priced.values() for x in three])]
        for name, (value, low, high) in priced.items():
            at = {"model": name, "price": price, "x": value, "left": low, "right": high}
            values.append(at | spread(results.mean(name, n)))
    look = scales(models)
    base = named("values").transform_filter(f"{SHOWN} && datum.price === price")
    x = {
        "title": None,
        "scale": alt.Scale(type="log", padding=40, nice=False),
        "axis": alt.Axis(format="~s", labelOverlap="greedy", labelSeparation=8),
    }
    y = {"title": f"test accuracy at n = {n:,} (%)", "scale": alt.Scale(zero=False, padding=20)}
    at = {"x": alt.X("x:Q", **x), "y": alt.Y("mean:Q", **y)}
    marker = {key: look[key] for key in ("stroke", "fill", "shape")}
    told = ["model:N", alt.Tooltip("x:Q", title="cost", format=",.4~f"), alt.Tooltip("text:N", title="accuracy")]
    layers = [
        named("ends").transform_filter("datum.price === price").mark_point(opacity=0).encode(x=at["x"]),
        base.transform_filter("isValid(datum.low)")
        .mark_rule()
        .encode(x=at["x"], y=alt.Y("low:Q", **y), y2="high:Q", stroke=look["stroke"]),
        base.mark_rule().encode(x=alt.X("left:Q", **x), x2="right:Q", y=at["y"], stroke=look["stroke"]),
        base.mark_point(size=80, opacity=1).encode(**at, **marker, tooltip=told),
    ]
    chart = alt.layer(*layers).add_params(shown_param(models), alt.param(name="price", value="macs"))
    what = "Test accuracy against the cost of each model, with 95 % intervals over seeds."
    return finished(chart, what, values=values, ends=ends)


def by_class(found: ByClass, models: Sequence[Look]) -> dict[str, Any]:
    """The accuracy on the classes of the report's table at each n: the chosen class in full, the others faint."""
    pair = [look for look in models if look.name in found.pair]
    values = [
        {"k": k, "name": found.names[k], "model": m, "x": n, "value": 100 * float(found.accuracy(m, n)[k])}
        for m in found.pair
        for n in found.at
        for k in found.shown()
    ]
    look, base = scales(pair), named("values").transform_filter(SHOWN)
    at = {
        "x": n_axis(list(found.at)),
        "y": alt.Y("value:Q", title="accuracy on the class (%)", scale=alt.Scale(zero=False)),
        "stroke": look["stroke"],
        "opacity": alt.when(f"picked === {ALL} || datum.k === picked").then(alt.value(1)).otherwise(alt.value(0.1)),
    }
    told = [alt.Tooltip("name:N", title="class"), "model:N", alt.Tooltip("x:Q", title="n", format=",")]
    told.append(alt.Tooltip("value:Q", title="accuracy (%)", format=".1f"))
    layers = [
        base.mark_line().encode(**at, strokeDash=look["strokeDash"], detail="k:N"),
        base.mark_point(size=45).encode(**at, fill=look["fill"], shape=look["shape"], tooltip=told),
    ]
    chart = alt.layer(*layers).add_params(shown_param(pair), alt.param(name="picked", value=found.shown()[0]))
    what = "Accuracy on each class against the number of training images, for both models of the pair."
    return finished(chart, what, values=values)


def confused(found: ByClass) -> dict[str, Any]:
    """The confusion matrix of one model at one n: of each class (a row), the share given each class (a column)."""
    shown = found.shown()
    names, values = [found.names[k] for k in shown], []
    for n, both in found.at.items():
        for which, model in enumerate(found.pair):
            part = 100 * both[model][np.ix_(shown, shown)]
            for (row, column), share in np.ndenumerate(part):
                cell = {"class": names[row], "predicted": names[column], "share": round(float(share), 2)}
                values.append({"n": n, "which": which} | cell)
    base = named("values").transform_filter("datum.n === n && datum.which === which")
    axis = {"labelLimit": 90, "ticks": False, "domain": False}
    at = {
        "x": alt.X("predicted:N", sort=names, axis=alt.Axis(**axis, labelAngle=-60)),
        "y": alt.Y("class:N", sort=names, axis=alt.Axis(**axis)),
    }
    told = ["class:N", "predicted:N", alt.Tooltip("share:Q", title="% of the class")]
    shade = alt.Color("share:Q", scale=alt.Scale(scheme="blues", domain=[0, 100]), legend=None)
    layers = [base.mark_rect().encode(**at, color=shade, tooltip=told)]
    if len(shown) <= DIGITS:
        ink = alt.when("datum.share > 50").then(alt.value("#fefefe")).otherwise(alt.value("#111111"))
        numbers = base.transform_filter("datum.share >= 0.5").mark_text(fontSize=11)
        layers.append(numbers.encode(**at, text=alt.Text("share:Q", format=".0f"), color=ink))
    params = [alt.param(name="n", value=found.ends[-1]), alt.param(name="which", value=0)]
    chart = alt.layer(*layers).add_params(*params)
    what = "Confusion matrix: of the test images of each class, the share given each class."
    return finished(chart, what, 120 + 24 * len(shown), values=values)

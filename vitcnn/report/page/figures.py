"""Which charts stand for which figures of the report, and the controls of each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vitcnn.analysis.results import Results
from vitcnn.report.by_class import by_class_of
from vitcnn.report.cost import common_size, costs_drawn
from vitcnn.report.figures import longer_label
from vitcnn.report.page import charts, more_charts
from vitcnn.report.page.looks import Look, looks
from vitcnn.store.costs import read_costs
from vitcnn.store.labels import read_labels
from vitcnn.store.paths import StudyPaths


@dataclass(frozen=True)
class Control:
    """A choice of one value of a chart's parameter; `options`: (value, label), the first is chosen at the start."""

    name: str
    label: str
    options: Sequence[tuple[Any, str]]


@dataclass(frozen=True)
class Chart:
    """A chart of the page: `name`, what it shows, its Vega-Lite specification, models that can be left out, whether n
    can be linear."""

    name: str
    caption: str
    spec: dict[str, Any]
    models: Sequence[Look] = ()
    of_n: bool = False
    controls: Sequence[Control] = field(default=())


def charts_of(results: Results, paths: StudyPaths) -> dict[str, list[Chart]]:
    """By the name of the report's figure. `results`: of one setting and budget, as the report shows."""
    models, study = looks(results), results.study
    out = {
        "accuracy.png": [Chart("accuracy", "Test accuracy against n", charts.accuracy(results, models), models, True)],
        "overfitting.png": [
            Chart("overfitting", "Train minus test accuracy against n", charts.over(results, models), models, True)
        ],
        "curves.png": [_curves(results, models)],
    }
    if set(study.pair) <= set(results.models):
        longer = f"; hollow: {longer_label(study.budget_check)}" if study.budget_check else ""
        out["gap.png"] = [Chart("gap", f"The gap against n{longer}", charts.gap(results), of_n=True)]
    if (costs := read_costs(paths)) and (priced := costs_drawn(results, costs, common_size(results))):
        shown = [look for look in models if look.name in priced]
        prices = Control("price", "Cost", list(more_charts.PRICES.items()))
        spec = more_charts.cost(results, costs, shown)
        out["cost.png"] = [Chart("cost", "Test accuracy against cost", spec, shown, controls=[prices])]
    if found := by_class_of(results, read_labels(paths.labels)):
        pair = [look for look in models if look.name in found.pair]
        names = [(k, found.names[k]) for k in found.shown()]
        each = Control("picked", "Class", [*names, (more_charts.ALL, "all")])
        which = Control("which", "Model", list(enumerate(found.pair)))
        sizes = Control("n", "n", [(n, f"{n:,}") for n in reversed(found.at)])
        spec = more_charts.by_class(found, models)
        out["classes.png"] = [
            Chart("by-class", "Accuracy on one class against n", spec, pair, True, [each]),
            Chart("confusion", "Confusion matrix", more_charts.confused(found), controls=[which, sizes]),
        ]
    return out


def _curves(results: Results, models: Sequence[Look]) -> Chart:
    labels = list(more_charts.groups(results).values())
    controls = [
        Control("group", "n", list(enumerate(labels))),
        Control("measure", "Curve", list(more_charts.MEASURES.items())),
        Control("seed", "Seed", [(more_charts.ALL, "all"), *((seed, str(seed)) for seed in results.study.seeds)]),
    ]
    spec = more_charts.curves(results, models)
    return Chart("curves", "Training curves of the cells of one n", spec, models, controls=controls)

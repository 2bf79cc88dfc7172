"""The tables of a report, as Markdown. Every mean states the seeds behind it; what is missing is shown as missing."""

import itertools
import statistics
from collections.abc import Callable, Iterable
from functools import partial

from vitcnn.analysis.results import (
    Measure,
    Results,
    calibration_error,
    loss,
    macro_accuracy,
    overfitting,
    test_accuracy,
)
from vitcnn.analysis.stats import Mean
from vitcnn.report.format import seeds
from vitcnn.report.markdown import bullets, join, paragraph, table
from vitcnn.store.records import Record
from vitcnn.study.cell import Cell

MISSING = "missing"


def percent(m: Mean | None, signed: bool = False) -> str:
    """`71.9 ± 0.4 (5 seeds)`; no interval below two seeds."""
    if m is None:
        return MISSING
    value = f"{100 * m.mean:{'+' if signed else ''}z.1f}"
    return f"{value}{'' if m.count == 1 else f' ± {100 * m.half:.1f}'} ({seeds(m.count)})"


def nats(m: Mean | None) -> str:
    """`0.812 ± 0.030 (5 seeds)`."""
    if m is None:
        return MISSING
    half = "" if m.count == 1 else f" ± {m.half:.3f}"
    return f"{m.mean:.3f}{half} ({seeds(m.count)})"


def by_size(results: Results, measure: Measure, show: Callable[[Mean | None], str] = percent) -> str:
    rows = ([f"{n:,}", *(show(results.mean(e, n, measure)) for e in results.models)] for n in results.study.sizes)
    return table(["n", *results.models], rows)


def accuracy(results: Results) -> str:
    return by_size(results, test_accuracy)


def overfit(results: Results) -> str:
    return by_size(results, overfitting, partial(percent, signed=True))


def other_measures(results: Results) -> str:
    """Macro accuracy, loss and calibration error on the test set, a table each, as far as the records have them."""
    tests = [r.test for r in results.records.values() if r.test.macro_accuracy is not None]
    parts = []
    if all(abs(t.macro_accuracy - t.accuracy) < 1e-6 for t in tests):
        count = len(results.records)
        which = "every record" if len(tests) == count else f"the {len(tests):,} of {count:,} records that have it"
        parts += [paragraph(f"Macro accuracy (mean over classes) equals accuracy in {which}.")] if tests else []
    else:
        parts += [paragraph("Macro accuracy (mean over classes), in percent:"), by_size(results, macro_accuracy)]
    parts += [paragraph("Negative log-likelihood, in nats:"), by_size(results, loss, nats)]
    if tests:
        parts.append(paragraph("Expected calibration error (15 bins), in points:"))
        parts.append(by_size(results, calibration_error))
    return join(parts)


def gap(results: Results) -> str:
    first, second = results.study.pair
    rows = ([f"{n:,}", percent(results.difference(first, second, n), signed=True)] for n in results.study.sizes)
    return table(["n", f"{first} − {second}, points"], rows)


def against_second(results: Results) -> str:
    """Every other model minus the pair's second, paired by seed, a column each."""
    second = results.study.pair[1]
    others = [e for e in results.models if e != second]
    rows = (
        [f"{n:,}", *(percent(results.difference(e, second, n), signed=True) for e in others)]
        for n in results.study.sizes
    )
    return table(["n", *(f"{e} − {second}" for e in others)], rows)


def cost(results: Results) -> str:
    """One row a model, from its records: these do not depend on n."""
    rows = []
    for model in results.models:
        mine = [r for n in results.study.sizes for r in results.at(model, n).values()]
        if not mine:
            rows.append([model, *[MISSING] * 6])
            continue
        r = mine[0]
        speeds = [r.cost.images_per_s for r in mine if r.cost.images_per_s]
        rows.append(
            [
                model,
                f"{r.cost.parameters:,}",
                f"{r.cost.macs:,}",
                f"{r.input.image_size} px",
                str(r.input.tokens or "–"),
                "–" if r.input.native_pixels_per_token is None else f"{r.input.native_pixels_per_token:g}",
                f"{statistics.median(speeds):,.0f}" if speeds else "–",
            ]
        )
    head = ["model", "parameters", "MACs / image", "input", "tokens", "native pixels per token", "images/s (median)"]
    return table(head, rows)


def recipes(results: Results) -> str:
    """Which recipe each model was trained with at each n, and at each permutation and budget where these differ; fields
    at their default are not printed."""
    study, rows = results.study, []
    places = list(itertools.product(study.permutation or (None,), study.budget))
    for n in study.sizes:
        same: dict[tuple[str, ...], list[str]] = {}
        for permutation, budget in places:
            here = [c for c in results.cells if c.n == n and c.role == "main"]
            here = [c for c in here if c.permutation in (permutation, None) and c.budget in (budget, None)]
            where = [str(permutation)] * (len(study.permutation) > 1) + [str(budget)] * (len(study.budget) > 1)
            same.setdefault(tuple(_recipe(results, m, here) for m in results.models), []).append(", ".join(where))
        for texts, where in same.items():
            rows.append([f"{n:,}", *(["; ".join(where)] if len(same) > 1 else ["all"]), *texts])
    if all(where == "all" for _, where, *_ in rows):
        return table(["n", *results.models], [[n, *texts] for n, _, *texts in rows])
    return table(["n", "trained", *results.models], rows)


def _recipe(results: Results, model: str, cells: list[Cell]) -> str:
    first = next(c for c in cells if c.model == model)
    if first.is_linear:
        found = {f"C {r.found['C']:g}" for r in results.at(model, first.n).values() if "C" in r.found}
        return ", ".join(sorted(found)) or MISSING
    fields = first.recipe.model_dump(exclude_defaults=True)
    return ", ".join(f"{k} {v}" for k, v in fields.items()) or "defaults"


def made_by(records: Iterable[Record]) -> str:
    """Versions and machines behind the records, each distinct value once."""
    seen: dict[str, set[str]] = {}
    for record in records:
        for key, value in record.made_by.items():
            seen.setdefault(key, set()).add(str(value))
    dates = sorted(seen.pop("date", ()))
    lines = [f"{key}: {', '.join(sorted(values))}" for key, values in seen.items()]
    return bullets([*lines, f"finished: {dates[0]} to {dates[-1]}"] if dates else lines)

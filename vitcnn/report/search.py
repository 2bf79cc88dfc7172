"""The report of a recipe search: every trial's validation accuracy, the choice, and where the grid was too narrow."""

import math
from collections.abc import Collection, Sequence

from vitcnn.analysis.results import Results
from vitcnn.analysis.select import RULE, Trial, best, edges, gains, trials
from vitcnn.errors import ConfigError
from vitcnn.report import tables
from vitcnn.report.markdown import bullets, heading, join, paragraph, table
from vitcnn.study.matrix import span


def _else(key: str, every: Sequence[Trial]) -> str:
    """The heading of a field's gain, with the value that it is compared with where all models share it."""
    by_model = {trial.model: trial for trial in reversed(every)}
    first, *others = {str(getattr(trial.recipe, key)) for trial in by_model.values()}
    return f"{key} (instead of {'its first value' if others else first})"


def search_report(results: Results, wrong: Sequence[str], failed: Collection[str] = ()) -> str:
    """Raises ConfigError where the search is not finished; `wrong`: the files that are not records, `failed`: ids
    of cells whose loss was not a number."""
    study = results.study
    try:
        known = {cell_id: record.validation for cell_id, record in results.records.items()}
        every = trials(results.cells, known, failed)
    except ConfigError as error:
        raise ConfigError("\n".join([str(error), *wrong])) from None
    chosen = best(every)
    count = len(every) // len(chosen)
    seen = span({cell.images_seen for cell in results.cells if not cell.is_linear}, ",")
    parts = [
        heading(1, study.name),
        paragraph(
            f"{results.title}: {count} trials for each model and size, seeds {list(study.seeds)}, {seen} images seen "
            f"by each. Numbers are validation accuracy in percent. Chosen (bold): {RULE}. Test results play no part."
        ),
        paragraph(results.about.made) if results.about and results.about.made else "",
    ]
    for name in results.models:
        sizes = [n for n in study.sizes if (name, n) in chosen]
        if not sizes:
            continue
        by_variant = {(t.variant, t.n): t for t in every if t.model == name}
        rows = []
        for variant in dict.fromkeys(v for v, _ in by_variant):
            row = [variant]
            for n in sizes:
                accuracy = by_variant[variant, n].accuracy
                value = f"{100 * accuracy:.1f}" if math.isfinite(accuracy) else "failed"
                row.append(f"**{value}**" if chosen[name, n].variant == variant else value)
            rows.append(row)
        parts += [heading(2, name), table(["recipe", *(f"n = {n:,}" for n in sizes)], rows)]
    head = ["", "over the median trial", *(_else(key, every) for key in study.searched)]
    rows = [
        [f"{name}, n = {n:,}", *(_points(v) for v in won.values())] for (name, n), won in gains(study, every).items()
    ]
    parts += [
        heading(2, "Gain of the search"),
        paragraph(
            "Validation accuracy of the chosen trial in points: minus that of the median trial, and minus that of the "
            "best trial with one field at its first value."
        ),
        table(head, rows),
        heading(2, "Edges of the grid"),
        bullets(edges(study, every)) or paragraph("No choice is on an edge."),
        heading(2, "Software and hardware"),
        tables.made_by(results.records.values()),
    ]
    return join(parts)


def _points(value: float) -> str:
    return f"{100 * value:+.1f}" if math.isfinite(value) else "all others failed"

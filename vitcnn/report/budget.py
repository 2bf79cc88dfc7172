"""The gap against the budget: a table, and two figures of it."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from vitcnn.analysis.results import Results
from vitcnn.report import figures
from vitcnn.report.budget_figures import gap_against_budget, gap_map, largest_gap, scale
from vitcnn.report.markdown import heading, image, join, paragraph, table
from vitcnn.report.tables import percent


def has_budgets(results: Results) -> bool:
    """Whether there are several budgets, and the pair to compare at each."""
    return len(results.study.budget) > 1 and set(results.study.pair) <= set(results.models)


def budget_section(results: Results) -> str:
    """Markdown, of one setting of `permutation`; empty for a study of one budget, or without its pair."""
    study = results.study
    if not has_budgets(results):
        return ""
    (first, second), budgets = study.pair, results.budgets()
    head = ["", *map(str, study.budget)]
    gaps = [
        [f"n = {n:,}", *(percent(r.difference(first, second, n), signed=True) for r in budgets)] for n in study.sizes
    ]
    each = [[f"{e}, n = {n:,}", *(percent(r.mean(e, n)) for r in budgets)] for e in study.pair for n in study.sizes]
    return join(
        [
            heading(2, "Budget"),
            paragraph("Every cell is trained once at each budget. Tables and figures above are at the largest."),
            heading(3, "Gap"),
            paragraph(f"{first} minus {second} in points, paired by seed. Intervals are over seeds."),
            image("gap against images seen", "budget.png"),
            table(head, gaps),
            heading(3, "Accuracy"),
            paragraph("Test accuracy of each model in percent."),
            table(head, each),
            heading(3, "Map"),
            paragraph(
                f"The gap at each n and budget, in points. Above 0 {first} leads. Hatched: undecided (the 95 % "
                "interval over seeds and test images holds 0, or there is one seed; not corrected for several tests). "
                f"Empty: missing. A dot marks where {second} overtakes {first} along n. The bar is its 95 % interval; "
                "an arrow marks an end beyond the measured sizes."
            ),
            image("gap at each n and budget", "map.png"),
        ]
    )


def budget_figure(results: Results, title: str) -> Figure:
    fig = figures.figure_for([f"n = {n:,}" for n in results.study.sizes])
    gap_against_budget(fig.subplots(), results).set_title(title)
    return fig


def map_figure(settings: Sequence[Results], title: str) -> Figure:
    """One panel a setting, all on one colour scale."""
    study = settings[0].study
    columns = min(len(settings), 2)
    rows = -(-len(settings) // columns)
    wide, high = 1.0 * len(study.sizes) + 2.2, 0.62 * len(study.budget) + 1.0
    fig = Figure(figsize=(max(6.0, wide * columns + 1.0), high * rows + 0.7), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False)
    most = max(map(largest_gap, settings))
    for ax, results in zip(axes.flat, settings, strict=False):
        gap_map(ax, results, most)
        if len(settings) > 1:
            ax.set_title(str(results.setting), fontsize=9)
    for spare in axes.flat[len(settings) :]:
        spare.set_visible(False)
    first, second = map(figures.short, study.pair)
    fig.colorbar(scale(most), ax=axes, label=f"{first} − {second} (points)", shrink=0.9, pad=0.02)
    fig.suptitle(title, fontsize=10)
    return fig

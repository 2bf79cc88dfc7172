"""`report.md` and its figures, from the records of a study and nothing else."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from vitcnn.analysis.results import Results
from vitcnn.data.sources.cache import Info
from vitcnn.data.sources.fetch import about_data
from vitcnn.report import figures, tables, transfer
from vitcnn.report.budget import budget_figure, budget_section, map_figure
from vitcnn.report.cost import cost_figure, cost_section
from vitcnn.report.format import counted, seeds
from vitcnn.report.permutation import permutation_section
from vitcnn.report.search import search_report
from vitcnn.report.text import report_text
from vitcnn.store.paths import StudyPaths, write_atomically
from vitcnn.store.records import read_records
from vitcnn.store.status import failures
from vitcnn.study.cell import Cell
from vitcnn.study.matrix import describe_budget
from vitcnn.study.schema import Study

STYLE = {
    "svg.hashsalt": "vitcnn",
    "font.size": 10,
    "axes.titlesize": 10,
    "savefig.dpi": 130,
    "text.parse_math": False,  # names may hold a "$"
}  # same records, same bytes


def write_report(study: Study, cells: Sequence[Cell], paths: StudyPaths, about: Info | None = None) -> Path:
    """Writes figures (SVG and PNG) and `report.md`, and returns its path.

    `about`: what is known of the data set; by default, what the cache knows.
    """
    records, wrong = read_records(paths.records)
    about = about or about_data(study.dataset, resolution=study.resolution)
    results, failed = Results.of(study, cells, records, about), failures(cells, paths)
    text = search_report(results, wrong, failed) if study.grid else _study_report(results, paths)
    if failed:
        lines = [f"- {tables.escape(f'{cell.title}: {failed[cell.id]}')}" for cell in cells if cell.id in failed]
        text += (
            "\n## Failed cells\n\nTheir loss was not a number. They are left out of every mean.\n\n"
            + "\n".join(lines)
            + "\n"
        )
    if wrong:
        text += "\n## Files that are not records\n\n" + "\n".join(f"- {tables.escape(line)}" for line in wrong) + "\n"
    path = paths.report / "report.md"
    write_atomically(path, text)
    return path


def _study_report(results: Results, paths: StudyPaths) -> str:
    """The text, its figures written. Tables and claims are of the first setting of `permutation`, at the largest
    budget."""
    first = results.first_setting
    shown = first.at_largest_budget
    sections = {
        "budget": budget_section(first),
        "permutation": permutation_section(results.settings()),
        "transfer": transfer.transfer_section(shown),
        "cost": cost_section(shown, paths),
    }
    with mpl.rc_context(STYLE):
        _figures(shown, paths.report)
        if sections["budget"]:
            save(budget_figure(first, _title(first, "")), paths.report / "budget")
            panels = results.settings() if len(results.study.permutation) > 1 else [results]
            save(map_figure(panels, _title(results, "", results.data)), paths.report / "map")
        if sections["permutation"]:
            _permutation_figure(results, paths.report)
        if fig := cost_figure(shown, paths):
            save(fig, paths.report / "cost")
    return "\n".join([report_text(results, first), *filter(None, sections.values())])


def _figures(results: Results, folder: Path) -> None:
    title = _title(results, f"\n{describe_budget(results.cells)}")
    names, check = [figures.short(name) for name in results.models], results.study.budget_check
    one: dict[str, tuple[Callable, Sequence[str]]] = {
        "accuracy": (figures.accuracy_against_n, names),
        "gap": (figures.gap_against_n, [figures.longer_label(check)] if check else []),
        "overfitting": (figures.overfitting_against_n, names),
    }
    if lines := transfer.labels(results):
        one["transfer"] = transfer.transfer_figure, lines
    for name, (draw, labels) in one.items():
        fig = figures.figure_for(labels)
        draw(fig.subplots(), results).set_title(title)
        save(fig, folder / name)
    count = len(figures.panels(results.study.sizes))
    columns = min(count, 3)
    rows = -(-count // columns)
    fig = Figure(figsize=(3.4 * columns, 2.8 * rows + 0.5), layout="constrained")
    axes = fig.subplots(rows, columns, sharey=True, squeeze=False)
    for spare in axes.flat[count:]:
        spare.set_visible(False)
    figures.training_curves(axes.flat[:count], results)
    fig.suptitle(title, fontsize=10)
    save(fig, folder / "curves")


def _permutation_figure(results: Results, folder: Path) -> None:
    settings = [one.at_largest_budget for one in results.settings()]
    fig = figures.figure_for([str(one.setting) for one in settings])
    title = _title(results, f"\n{describe_budget(settings[0].cells)}", results.data)
    figures.gap_by_setting(fig.subplots(), settings).set_title(title)
    save(fig, folder / "permutation")


def _title(results: Results, more: str, what: str = "") -> str:
    missing = f", {len(results.missing):,} of {counted(len(results.cells), 'cell')} missing" if results.missing else ""
    return f"{what or results.title}, {seeds(len(results.study.seeds))}{missing}{more}"


def save(fig: Figure, path: Path) -> None:
    """As SVG and PNG, laid out once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.get_layout_engine().execute(fig)
    fig.set_layout_engine("none")
    fig.savefig(path.with_name(f"{path.name}.svg"), metadata={"Date": None})
    fig.savefig(path.with_name(f"{path.name}.png"), metadata={"Software": None})

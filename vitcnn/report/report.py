"""`report.md` and its figures, from the records of a study and nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from vitcnn.analysis.results import Results
from vitcnn.data.sources.cache import Info
from vitcnn.data.sources.fetch import about_data
from vitcnn.report import figures, transfer
from vitcnn.report.budget import budget_figure, budget_section, has_budgets, map_figure
from vitcnn.report.by_class import by_class_figure, by_class_of, by_class_section
from vitcnn.report.cost import cost_figure, cost_section
from vitcnn.report.format import counted, seeds
from vitcnn.report.markdown import bullets, heading, join, paragraph
from vitcnn.report.permutation import has_permutations, permutation_section
from vitcnn.report.search import search_report
from vitcnn.report.style import drawing
from vitcnn.report.text import study_text
from vitcnn.store.labels import read_labels
from vitcnn.store.paths import StudyPaths, write_atomically
from vitcnn.store.records import read_records
from vitcnn.store.status import failures
from vitcnn.study.cell import Cell
from vitcnn.study.matrix import describe_budget
from vitcnn.study.schema import Study


@dataclass(frozen=True)
class Report:
    """`text`: Markdown."""

    text: str
    results: Results
    paths: StudyPaths

    def write(self) -> Path:
        """Writes figures (PNG) and `report.md`, and returns its path."""
        if not self.results.study.grid:
            _all_figures(self.results, self.paths)
        path = self.paths.report / "report.md"
        write_atomically(path, self.text)
        return path


def read_report(study: Study, cells: Sequence[Cell], paths: StudyPaths, about: Info | None = None) -> Report:
    """From the records; draws and writes nothing. `about`: what is known of the data set; by default, what the cache
    knows."""
    records, wrong = read_records(paths.records)
    about = about or about_data(study.dataset_spec)
    results, failed = Results.of(study, cells, records, about), failures(cells, paths)
    text = search_report(results, wrong, failed) if study.grid else _study_text(results, paths)
    if failed:
        lines = [f"{cell.title}: {failed[cell.id]}" for cell in cells if cell.id in failed]
        left_out = "Their loss was not a number. They are left out of every mean."
        text = join([text, heading(2, "Failed cells"), paragraph(left_out), bullets(lines)])
    if wrong:
        text = join([text, heading(2, "Files that are not records"), bullets(wrong)])
    return Report(text, results, paths)


def write_report(study: Study, cells: Sequence[Cell], paths: StudyPaths, about: Info | None = None) -> Path:
    """Writes figures (PNG) and `report.md`, and returns its path."""
    return read_report(study, cells, paths, about).write()


def report_text(study: Study, cells: Sequence[Cell], paths: StudyPaths, about: Info | None = None) -> str:
    """What `write_report` writes to `report.md`."""
    return read_report(study, cells, paths, about).text


def _study_text(results: Results, paths: StudyPaths) -> str:
    """Tables and claims are of the first setting of `permutation`, at the largest budget."""
    first = results.first_setting
    shown = first.at_largest_budget
    more = [
        by_class_section(by_class_of(shown, read_labels(paths.labels))),
        budget_section(first),
        permutation_section(results.settings()),
        transfer.transfer_section(shown),
        cost_section(shown, paths),
    ]
    return join([study_text(results, first), *more])


def _all_figures(results: Results, paths: StudyPaths) -> None:
    first = results.first_setting
    shown, settings = first.at_largest_budget, results.settings()
    with drawing():
        _figures(shown, paths.report)
        if found := by_class_of(shown, read_labels(paths.labels)):
            save(by_class_figure(found, _title(shown, "")), paths.report / "classes.png")
        if has_budgets(first):
            save(budget_figure(first, _title(first, "")), paths.report / "budget.png")
            panels = settings if len(results.study.permutation) > 1 else [results]
            save(map_figure(panels, _title(results, "", results.data)), paths.report / "map.png")
        if has_permutations(settings):
            _permutation_figure(results, paths.report)
        if fig := cost_figure(shown, paths):
            save(fig, paths.report / "cost.png")


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
        save(fig, folder / f"{name}.png")
    count = len(figures.panels(results.study.sizes))
    columns = min(count, 3)
    rows = -(-count // columns)
    fig = Figure(figsize=(3.4 * columns, 2.8 * rows + 0.5), layout="constrained")
    axes = fig.subplots(rows, columns, sharey=True, squeeze=False)
    for spare in axes.flat[count:]:
        spare.set_visible(False)
    figures.training_curves(axes.flat[:count], results)
    fig.suptitle(title, fontsize=10)
    save(fig, folder / "curves.png")


def _permutation_figure(results: Results, folder: Path) -> None:
    settings = [one.at_largest_budget for one in results.settings()]
    fig = figures.figure_for([str(one.setting) for one in settings])
    title = _title(results, f"\n{describe_budget(settings[0].cells)}", results.data)
    figures.gap_by_setting(fig.subplots(), settings).set_title(title)
    save(fig, folder / "permutation.png")


def _title(results: Results, more: str, what: str = "") -> str:
    missing = f", {len(results.missing):,} of {counted(len(results.cells), 'cell')} missing" if results.missing else ""
    return f"{what or results.title}, {seeds(len(results.study.seeds))}{missing}{more}"


def save(fig: Figure, path: Path) -> None:
    """As a PNG of 256 colours, a third of the bytes of one in full colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    full = BytesIO()
    fig.savefig(full, format="png")
    with Image.open(full) as image:
        image.convert("RGB").quantize(method=Image.Quantize.MAXCOVERAGE).save(path)

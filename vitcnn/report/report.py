"""`report.md` and its figures, from the records of a study and nothing else."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from PIL import Image

from vitcnn.analysis.caveats import (
    above_baseline,
    below_baseline,
    budget_shifts,
    few_for_the_baseline,
    leak,
    whole_pool,
)
from vitcnn.analysis.format import counted, seeds
from vitcnn.analysis.results import Results
from vitcnn.analysis.verdict import verdict
from vitcnn.data.sources.cache import Info
from vitcnn.data.sources.fetch import about_data
from vitcnn.models.config import Linear
from vitcnn.report import figures, tables, transfer
from vitcnn.report.cost import cost_figure, cost_section
from vitcnn.report.permutation import dial_section, has_dial
from vitcnn.report.search import search_report
from vitcnn.report.verdict import verdict_text
from vitcnn.store.paths import StudyPaths, write_atomically
from vitcnn.store.records import read_records
from vitcnn.store.status import failures
from vitcnn.study.cell import Cell
from vitcnn.study.matrix import describe_budget
from vitcnn.study.schema import Study

STYLE = {
    "font.size": 10,
    "axes.titlesize": 10,
    "savefig.dpi": 130,
    "text.parse_math": False,  # names may hold a "$"
}  # same records, same bytes


def write_report(study: Study, cells: Sequence[Cell], paths: StudyPaths, about: Info | None = None) -> Path:
    """Writes figures (PNG) and `report.md`, and returns its path.

    `about`: what is known of the data set; by default, what the cache knows.
    """
    text, results = _text_and_results(study, cells, paths, about)
    if not study.grid:
        with mpl.rc_context(STYLE):
            _figures(results.first_setting, paths.report)
            if has_dial(results.settings()):
                _dial_figure(results, paths.report)
            if fig := cost_figure(results.first_setting, paths):
                save(fig, paths.report / "cost.png")
    path = paths.report / "report.md"
    write_atomically(path, text)
    return path


def report_text(study: Study, cells: Sequence[Cell], paths: StudyPaths, about: Info | None = None) -> str:
    """What `write_report` writes to `report.md`; draws and writes nothing."""
    return _text_and_results(study, cells, paths, about)[0]


def _text_and_results(
    study: Study, cells: Sequence[Cell], paths: StudyPaths, about: Info | None
) -> tuple[str, Results]:
    records, wrong = read_records(paths.records)
    about = about or about_data(study.dataset_spec)
    results, failed = Results.of(study, cells, records, about), failures(cells, paths)
    if study.grid:
        text = search_report(results, wrong, failed)
    else:
        first = results.first_setting
        more = [dial_section(results.settings()), transfer.transfer_section(first), cost_section(first, paths)]
        text = "\n".join([_text(first, [*_baseline(results), _missing(results)]), *filter(None, more)])
    if failed:
        lines = [f"- {tables.escape(f'{cell.title}: {failed[cell.id]}')}" for cell in cells if cell.id in failed]
        text += "\n## Failed cells\n\nTheir loss was no number. They count in no mean.\n\n" + "\n".join(lines) + "\n"
    if wrong:
        text += "\n## Files that are no records\n\n" + "\n".join(f"- {tables.escape(line)}" for line in wrong) + "\n"
    return text, results


def _figures(results: Results, folder: Path) -> None:
    title = f"{results.title}, {_how_many(results)}\n{describe_budget(results.cells)}"
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


def _dial_figure(results: Results, folder: Path) -> None:
    settings = results.settings()
    fig = figures.figure_for([str(one.setting) for one in settings])
    title = f"{results.study.dataset_spec.title}, {_how_many(results)}"
    figures.gap_by_setting(fig.subplots(), settings).set_title(f"{title}\n{describe_budget(results.cells)}")
    save(fig, folder / "dial.png")


def save(fig: Figure, path: Path) -> None:
    """As a PNG of 256 colours, a third of the bytes of one in full colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    full = BytesIO()
    fig.savefig(full, format="png")
    with Image.open(full) as image:
        image.convert("RGB").quantize(method=Image.Quantize.MAXCOVERAGE).save(path)


def _how_many(results: Results) -> str:
    missing = f", {len(results.missing):,} of {counted(len(results.cells), 'cell')} missing" if results.missing else ""
    return f"{seeds(len(results.study.seeds))}{missing}"


def _text(results: Results, first: Sequence[str]) -> str:
    study, few = results.study, few_for_the_baseline(results)
    source = f"the search `{study.search}`" if study.search else "the study file; no search stands behind them"
    parts = [
        f"# {tables.escape(study.name)}\n",
        *first,
        f"{tables.escape(results.title)}: {len(study.models)} models × {len(study.sizes)} sizes × "
        f"{seeds(len(study.seeds))}, {describe_budget(results.cells)}. Test accuracy in percent of the last step's "
        "weights, mean ± half the 95 % Student-t interval over seeds. Validation images are not counted in n. "
        f"Recipes are from {source}.\n",
        results.about.made + "\n" if results.about and results.about.made else "",
        few + "\n" if few else "",
        _left_out(results),
        leak(results) + "\n" if leak(results) else "",
        "## Accuracy against data\n\n![accuracy against n](accuracy.png)\n",
        tables.accuracy(results),
        whole_pool(results) + "\n" if whole_pool(results) else "",
        _gap(results),
        _verdict(results),
        "## Overfitting\n\nAccuracy on the training images (the first 10,000 of them), not augmented, minus test "
        "accuracy, in points.\n\n"
        "![train minus test accuracy](overfitting.png)\n",
        tables.overfit(results),
        "## Beside accuracy\n\nOn the test set, of the last step's weights.\n",
        tables.beside_accuracy(results),
        "## Training curves\n\n![validation accuracy over images seen](curves.png)\n",
        "## Models\n",
        tables.cost(results),
        *(
            f"{tables.escape(e.name)} begins with the trained weights of {tables.escape(e.init_from)} at the same n and "
            "seed; its images seen are those after that.\n"
            for e in study.models
            if e.init_from
        ),
        f"## Recipes\n\nFields at their default are left out.{_nearest(study)}\n",
        tables.recipes(results),
        "## Made by\n",
        tables.made_by(results.records.values()),
    ]
    return "\n".join(part for part in parts if part)


def _baseline(results: Results) -> list[str]:
    """Who is above the linear baseline and who is not, of a dial at every setting; empty where that is not known."""
    settings = results.settings() if len(results.study.permutation) > 1 else [results]
    where = [f"{one.setting}: " if len(settings) > 1 else "" for one in settings]
    said = [there + sentence for there, one in zip(where, settings, strict=True) for sentence in below_baseline(one)]
    if not said and all(above := [above_baseline(one) for one in settings]):
        said = above[:1]
    return ["\n".join(f"**{tables.escape(sentence)}**" for sentence in said) + "\n"] if said else []


def _nearest(study: Study) -> str:
    """Where the recipes of sizes come from at which the search was not made."""
    at: dict[tuple[int, ...], list[str]] = {}
    for e in study.models:
        if by_size := study.found(e):
            at.setdefault(tuple(sorted(by_size)), []).append(e.name)
    if all(set(study.sizes) <= set(made) for made in at):
        return ""
    sizes = {", ".join(f"{n:,}" for n in made): tables.escape(", ".join(who)) for made, who in at.items()}
    where = "; at n = ".join(f"{there} for {who}" if len(at) > 1 else there for there, who in sizes.items())
    return f" The search was made at n = {where}; others take the nearest one's, in log n; midway, the smaller's."


def _left_out(results: Results) -> str:
    count = max((r.data.get("left_out", 0) for r in results.records.values()), default=0)
    return (
        f"{counted(count, 'image')} of the folder could not be read and {'was' if count == 1 else 'were'} left out.\n"
        if count
        else ""
    )


def _missing(results: Results) -> str:
    if not results.missing:
        return ""
    names = ", ".join(cell.title for cell in results.missing[:20])
    more = f" and {len(results.missing) - 20} more" if len(results.missing) > 20 else ""
    return f"**{len(results.missing)} of {len(results.cells)} cells missing:** {tables.escape(names)}{more}.\n"


def _verdict(results: Results) -> str:
    if missing := [tables.escape(name) for name in results.study.pair if name not in results.models]:
        return f"## Verdict\n\nNone: no model is called {' or '.join(missing)} (`pair`).\n"
    return f"## Verdict\n\n{verdict_text(results, verdict(results))}"


def _gap(results: Results) -> str:
    first, second = results.study.pair
    if not {first, second} <= set(results.models):
        return ""
    told = [tables.escape(name) for name in results.study.pair]
    text = (
        f"## Gap\n\n{' minus '.join(told)}, paired by seed; intervals here are over seeds alone, those of the verdict "
        f"over test images too.\n\n![gap against n](gap.png)\n\n{tables.gap(results)}"
    )
    shifts = budget_shifts(results)
    for s in shifts:
        at_this = ": at this n the study is **budget-limited**" if s.limited else ""
        text += f"\nBudget check at n = {s.n:,}: {s.told()}{at_this}.\n"
    if results.study.budget_check and not shifts:
        text += "\nBudget check: not finished.\n"
    if sum(not isinstance(e.arch, Linear) for e in results.study.models) > 2:
        text += f"\nEvery model minus {told[1]}, paired by seed, points; each interval is for one difference alone.\n"
        text += f"\n{tables.against_second(results)}"
    return text

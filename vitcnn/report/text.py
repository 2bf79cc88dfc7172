"""The text of a study's report: what stands before its figures, and between them."""

from vitcnn.analysis.budget_check import budget_shifts
from vitcnn.analysis.caveats import (
    above_baseline,
    baseline_fitted,
    below_baseline,
    copied_test_images,
    unpermuted,
    whole_pool,
)
from vitcnn.analysis.results import Results
from vitcnn.analysis.verdict import verdict
from vitcnn.data.subsets import without_class
from vitcnn.report import tables
from vitcnn.report.caveats import caveat, shift
from vitcnn.report.format import counted, seeds
from vitcnn.report.markdown import heading, image, join, paragraph
from vitcnn.report.verdict import verdict_text
from vitcnn.study.budget import Budget
from vitcnn.study.matrix import describe_budget
from vitcnn.study.schema import Study


def study_text(results: Results, first: Results) -> str:
    """Markdown, up to the recipes. `results`: all there are; `first`: those of the first setting of `permutation`,
    which tables (at the largest budget) and verdict are about."""
    shown, study = first.at_largest_budget, first.study
    pool = whole_pool(shown)
    return join(
        [
            heading(1, study.name),
            _baseline(results),
            _missing(results),
            *_setup(shown),
            heading(2, "Accuracy against data"),
            image("accuracy against n", "accuracy.png"),
            tables.accuracy(shown),
            paragraph(caveat(pool)) if pool else "",
            *_gap(shown),
            heading(2, "Verdict"),
            _verdict(first),
            heading(2, "Overfitting"),
            paragraph(
                "Train minus test accuracy in points. Train accuracy is on the training images (the first 10,000 of "
                "them), not augmented."
            ),
            image("train minus test accuracy", "overfitting.png"),
            tables.overfit(shown),
            heading(2, "Other measures"),
            paragraph("On the test set, with the last step's weights."),
            tables.other_measures(shown),
            heading(2, "Training curves"),
            image("validation accuracy over images seen", "curves.png"),
            heading(2, "Models"),
            tables.cost(shown),
            *(
                paragraph(
                    f"{e.name} begins with the trained weights of {e.init_from} at the same n and seed. Its images "
                    "seen are those after that."
                )
                for e in study.models
                if e.init_from
            ),
            heading(2, "Recipes"),
            paragraph(f"Fields at their default are left out.{_nearest(study)}"),
            tables.recipes(results),
            heading(2, "Software and hardware"),
            tables.made_by(first.records.values()),
        ]
    )


def _setup(results: Results) -> list[str]:
    study = results.study
    source = f"the search `{study.search}`" if study.search else "the study file, not from a search"
    largest = f" The study has {len(study.budget)} budgets; this is the largest." if len(study.budget) > 1 else ""
    notes = [baseline_fitted(results), unpermuted(results)]
    copies = copied_test_images(results)
    lines = [
        f"{results.title}: {len(study.models)} models × {len(study.sizes)} sizes × "
        f"{seeds(len(study.seeds))}, {describe_budget(results.cells)}.{largest} Numbers are test accuracy in percent "
        "with the last step's weights: mean ± half the 95 % Student-t interval over seeds. Validation images are not "
        f"counted in n. Recipes are from {source}.",
        results.about.made if results.about else "",
        *(caveat(note) for note in notes if note),
        _unreadable(results),
        *_reading(results),
        _strong(caveat(copies), copies.copies) if copies else "",
    ]
    return [paragraph(line) for line in lines if line]


def _strong(text: str, serious: int) -> str:
    return f"**{text}**" if serious else text


def _baseline(results: Results) -> str:
    """Which models are above the linear baseline, at every setting of a permutation; empty where that is not known."""
    settings = results.settings() if len(results.study.permutation) > 1 else [results]
    shown = [one.at_largest_budget for one in settings]
    where = [f"{one.setting}: " if len(settings) > 1 else "" for one in settings]
    lines = [there + caveat(c) for there, one in zip(where, shown, strict=True) for c in below_baseline(one)]
    if not lines and all(above := [above_baseline(one) for one in shown]):
        lines = [caveat(above[0])]
    return paragraph(*(f"**{line}**" for line in lines)) if lines else ""


def _nearest(study: Study) -> str:
    """Which recipes serve the sizes and budgets that the search did not have."""
    at: dict[tuple[int, ...], list[str]] = {}
    budgets: list[Budget] = []
    for e in study.models:
        if found := study.found(e):
            at.setdefault(tuple(sorted({f.n for f in found})), []).append(e.name)
            budgets += [f.budget for f in found if f.budget]
    text = ""
    if not all(set(study.sizes) <= set(searched) for searched in at):
        sizes = {", ".join(f"{n:,}" for n in searched): ", ".join(who) for searched, who in at.items()}
        where = "; at n = ".join(f"{there} for {who}" if len(at) > 1 else there for there, who in sizes.items())
        text = f" The search was made at n = {where}. Other n use the nearest on a log scale (ties: the smaller)."
    if set(budgets) - set(study.budget):
        each = dict.fromkeys(map(str, budgets))
        nearest = " Each cell uses the recipe found at the nearest." if len(each) > 1 else ""
        text += f" Budget of the search's trials: {' or '.join(each)}.{nearest}"
    return text


def _unreadable(results: Results) -> str:
    count = max((r.data.get("left_out", 0) for r in results.records.values()), default=0)
    was = "was" if count == 1 else "were"
    return f"{counted(count, 'image')} of the folder could not be read and {was} left out." if count else ""


def _reading(results: Results) -> list[str]:
    """Where the test set is from, warnings of the data, and training subsets without an image of some class."""
    about, sizes = results.about, {}
    for record in results.records.values():
        for name in record.data.get("absent", ()):
            sizes.setdefault(name, set()).add(record.cell.n)
    warnings = [*(about.warnings if about else ()), *(without_class(name, at) for name, at in sorted(sizes.items()))]
    origin = [f"Test images: {about.test_from}."] if about else []
    return origin + [f"**{line[0].upper()}{line[1:]}.**" for line in warnings]


def _missing(results: Results) -> str:
    if not results.missing:
        return ""
    names = ", ".join(cell.title for cell in results.missing[:20])
    more = f" and {len(results.missing) - 20} more" if len(results.missing) > 20 else ""
    return paragraph(f"**{len(results.missing)} of {len(results.cells)} cells missing:** {names}{more}.")


def _verdict(results: Results) -> str:
    if missing := [name for name in results.study.pair if name not in results.models]:
        return paragraph(f"None: no model is called {' or '.join(missing)} (`pair`).")
    return verdict_text(results, verdict(results))


def _gap(results: Results) -> list[str]:
    first, second = results.study.pair
    if not {first, second} <= set(results.models):
        return []
    parts = [
        heading(2, "Gap"),
        paragraph(
            f"{first} minus {second}, paired by seed. Intervals here are over seeds alone; those of the verdict are "
            "over test images too."
        ),
        image("gap against n", "gap.png"),
        tables.gap(results),
    ]
    shifts = budget_shifts(results)
    for s in shifts:
        limited = " At this n the study is **budget-limited**." if s.limited else ""
        parts.append(paragraph(f"Budget check at n = {s.n:,}: {shift(s)}{limited}"))
    if results.study.budget_check and not shifts:
        parts.append(paragraph("The budget check is not finished."))
    if sum(not e.is_linear for e in results.study.models) > 2:
        each = "paired by seed, in points. Each interval is for one difference."
        parts += [paragraph(f"Every model minus {second}, {each}"), tables.against_second(results)]
    return parts

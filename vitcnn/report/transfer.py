"""Accuracy on one data set against the number of pre-training images of another."""

from collections import Counter
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes

from vitcnn.analysis.results import Results, test_accuracy
from vitcnn.report import figures
from vitcnn.report.markdown import heading, image, join, paragraph, table
from vitcnn.report.tables import percent
from vitcnn.study.schema import Study, StudyModel

Family = dict[int, StudyModel]  # one network's models, by images of pre-training on one study's data; 0: from scratch


def families(models: Sequence[StudyModel]) -> dict[str, Family]:
    """By the name of each family's model from scratch; of its first pre-trained one where there is none, or where
    another study's family has the same. Networks that are not pre-trained at all are in none."""
    networks = [model for model in models if not model.init_from and not model.is_linear]
    found: list[Family] = []
    for model in networks:
        if not (before := model.pretrain):
            continue
        family = next((f for f in found if before.n not in f and _kin(model, f[max(f)])), None)
        if family is None:
            same = [e for e in networks if e.arch == model.arch and not e.pretrain]
            scratch = min(same, key=lambda e: e.recipe != model.recipe, default=None)
            found.append(family := {0: scratch} if scratch else {})
        family[before.n] = model
    shared = Counter(family[0].name for family in found if 0 in family)
    names = (next(e.name for n, e in f.items() if n or shared[e.name] == 1) for f in found)
    return dict(zip(names, found, strict=True))


def _kin(one: StudyModel, other: StudyModel) -> bool:
    """Do they differ by the images of pre-training alone?"""
    mine, its = (e.pretrain for e in (one, other))
    return (one.arch, one.recipe, mine.study, mine.model) == (other.arch, other.recipe, its.study, its.model)


def transfer_section(results: Results) -> str:
    """Markdown; empty where no model is pre-trained."""
    known = families(results.study.models)
    if not known:
        return ""
    sizes = results.study.sizes
    columns = [(name, family, n) for name, family in known.items() for n in sizes]
    befores = sorted({n for family in known.values() for n in family})
    head = ["pre-training images", *(_label(name, n) for name, _, n in columns)]

    def rows(shown: Callable[[Family, int, int], str], befores: Sequence[int]) -> str:
        lines = [
            [f"{b:,}" if b else "none", *(shown(family, b, n) if b in family else "–" for _, family, n in columns)]
            for b in befores
        ]
        return table(head, lines)

    def reached(family: Family, before: int, n: int) -> str:
        return percent(results.mean(family[before].name, n))

    def gained(family: Family, before: int, n: int) -> str:
        if 0 not in family:
            return "–"
        return percent(results.difference(family[before].name, family[0].name, n), signed=True)

    before = "; ".join(_of_before(file, results.study.before[file]) for file in _files(known))
    parts = [
        heading(2, "Pre-training"),
        paragraph(
            f"Test accuracy in percent. The networks were pre-trained on {before}. Then they were trained, with a new "
            "head, on n images of this study. Rows are pre-training images; `none`: from scratch. Images seen in "
            "pre-training are not counted in images seen."
        ),
        image("accuracy against pre-training images", "transfer.png"),
        rows(reached, befores),
    ]
    if any(0 in family for family in known.values()):
        gain = "Gain of pre-training: points over the same network from scratch, paired by seed."
        parts.append(paragraph(f"{gain} Each interval is for one difference.{_other_recipes(known)}"))
        parts.append(rows(gained, [b for b in befores if b]))
    return join(parts)


def _other_recipes(known: dict[str, Family]) -> str:
    """Where the study gives the one from scratch another recipe than the pre-trained ones."""
    other = [name for name, f in known.items() if 0 in f and any(e.recipe != f[0].recipe for e in f.values())]
    them = " and ".join(other)
    return f" From scratch, {them} has another recipe, which is part of this gain." if other else ""


def _files(known: dict[str, Family]) -> list[str]:
    models = [model for family in known.values() for model in family.values()]
    return sorted({model.pretrain.study for model in models if model.pretrain})


def _of_before(file: str, study: Study) -> str:
    synthetic = ", generated" if study.dataset_spec.generated else ""
    permuted = f", {' or '.join(map(str, study.permutation))}" if study.permutation else ""
    return f"images of {study.dataset}{synthetic}{permuted} ({file}, {study.budget[0]})"


def _label(name: str, n: int) -> str:
    return f"{figures.short(name)}, n = {n:,}"


def labels(results: Results) -> list[str]:
    """Of the figure's lines."""
    return [_label(name, n) for name in families(results.study.models) for n in results.study.sizes]


def transfer_figure(ax: Axes, results: Results) -> Axes:
    """A line for each network and n: means, 95 % Student-t intervals, seeds as points; from scratch at the left."""
    known, sizes = families(results.study.models), results.study.sizes
    before = sorted({n for family in known.values() for n in family} - {0})
    paths = {0: before[0] / 6} | {n: n for n in before}
    lines = [(name, family, k) for name, family in known.items() for k in range(len(sizes))]
    sides = figures.apart(len(lines), list(paths.values()))
    for (name, family, k), beside in zip(lines, sides, strict=True):
        look = figures.style(results, name)
        look |= {"linestyle": ("-", "--", ":", "-.")[k % 4], "marker": figures.MARKERS[k % len(figures.MARKERS)]}
        measured = [(b, list(results.values(family[b].name, sizes[k], test_accuracy).values())) for b in sorted(family)]
        figures.series(ax, [(paths[b] * beside, values) for b, values in measured], look, _label(name, sizes[k]))
    figures.n_axis(ax, list(paths.values()))
    ax.set_xticks(list(paths.values()), ["none", *map(figures.thousands, before)])
    ax.set_xlabel("pre-training images (log scale)")
    ax.set_ylabel("test accuracy")
    figures.in_percent(ax)
    figures.legend(ax)
    return ax

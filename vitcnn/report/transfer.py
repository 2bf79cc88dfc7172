"""Accuracy on one data set against the images of another that networks were trained on before."""

from collections import Counter
from collections.abc import Sequence

from matplotlib.axes import Axes

from vitcnn.analysis.results import Results, test_accuracy
from vitcnn.config import Entrant
from vitcnn.report import figures
from vitcnn.report.tables import escape, markdown, percent

Family = dict[int, Entrant]  # one network's entrants, by images of pre-training on one study's data; 0: from scratch


def families(entrants: Sequence[Entrant]) -> dict[str, Family]:
    """By the name of each family's entrant from scratch; of its first pre-trained one where there is none, or where
    another study's family has the same. Networks that are not pre-trained at all are in none."""
    networks = [entrant for entrant in entrants if not entrant.start and entrant.model.model != "linear"]
    found: list[Family] = []
    for entrant in networks:
        if not (before := entrant.pretrain):
            continue
        family = next((f for f in found if before.n not in f and _kin(entrant, f[max(f)])), None)
        if family is None:
            scratch = next((e for e in networks if e.model == entrant.model and not e.pretrain), None)
            found.append(family := {0: scratch} if scratch else {})
        family[before.n] = entrant
    shared = Counter(family[0].name for family in found if 0 in family)
    names = (next(e.name for n, e in f.items() if n or shared[e.name] == 1) for f in found)
    return dict(zip(names, found, strict=True))


def _kin(one: Entrant, other: Entrant) -> bool:
    return (one.model, one.pretrain.study) == (other.model, other.pretrain.study)


def transfer_section(results: Results) -> str:
    """Markdown; empty where no entrant is pre-trained."""
    known = families(results.study.entrants)
    if not known:
        return ""
    sizes = results.study.sizes
    rows = []
    for before in sorted({n for family in known.values() for n in family}):
        row = [f"{before:,}" if before else "none"]
        for family in known.values():
            entrant = family.get(before)
            row += [percent(results.mean(entrant.name, n)) if entrant else "–" for n in sizes]
        rows.append(row)
    files = {entrant.pretrain.study for family in known.values() for entrant in family.values() if entrant.pretrain}
    head = ["images before", *(f"{name}, n = {n:,}" for name in known for n in sizes)]
    return (
        f"## Pre-training\n\nTest accuracy in percent of networks that were trained on images of another data set "
        f"({escape(', '.join(sorted(files)))}) before, by how many, and then, with a new head, on n images of this one."
        " `none`: from scratch. Images seen before are not counted in images seen.\n\n"
        f"![accuracy against images before](transfer.png)\n\n{markdown(head, rows)}"
    )


def _label(name: str, n: int) -> str:
    return f"{figures.short(name)}, n = {n:,}"


def labels(results: Results) -> list[str]:
    """Of the figure's lines."""
    return [_label(name, n) for name in families(results.study.entrants) for n in results.study.sizes]


def transfer_figure(ax: Axes, results: Results) -> Axes:
    """A line for each network and n: means, 95 % Student-t intervals, seeds as points; from scratch at the left."""
    known, sizes = families(results.study.entrants), results.study.sizes
    before = sorted({n for family in known.values() for n in family} - {0})
    places = {0: before[0] / 6} | {n: n for n in before}
    lines = [(name, family, k) for name, family in known.items() for k in range(len(sizes))]
    sides = figures.apart(len(lines), list(places.values()))
    for (name, family, k), beside in zip(lines, sides, strict=True):
        look = figures.style(results, name)
        look |= {"linestyle": ("-", "--", ":", "-.")[k % 4], "marker": figures.MARKERS[k % len(figures.MARKERS)]}
        measured = [(b, list(results.values(family[b].name, sizes[k], test_accuracy).values())) for b in sorted(family)]
        points = [(places[b] * beside, values) for b, values in measured if values]
        figures.series(ax, points, look, _label(name, sizes[k]))
    figures.n_axis(ax, list(places.values()))
    ax.set_xticks(list(places.values()), ["none", *map(figures.thousands, before)])
    ax.set_xlabel("images trained on before (log scale)")
    ax.set_ylabel("test accuracy")
    figures.in_percent(ax)
    figures.legend(ax)
    return ax

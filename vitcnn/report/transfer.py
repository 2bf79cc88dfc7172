"""Accuracy on one data set against the images of another that networks were trained on before."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from vitcnn.analysis.results import Results, test_accuracy
from vitcnn.config import Entrant
from vitcnn.report import figures
from vitcnn.report.tables import escape, markdown, percent

Family = dict[int, Entrant]  # the entrants of one network, by images of pre-training; 0: from scratch


def families(entrants: Sequence[Entrant]) -> dict[str, Family]:
    """By the name of each family's entrant from scratch, or of its first; only those that are pre-trained at all."""
    found: list[Family] = []
    for entrant in entrants:
        if entrant.start or entrant.model.model == "linear":
            continue
        before = entrant.pretrain.n if entrant.pretrain else 0
        mine = next((f for f in found if next(iter(f.values())).model == entrant.model and before not in f), None)
        if mine is None:
            found.append(mine := {})
        mine[before] = entrant
    pretrained = (family for family in found if any(family))
    return {family.get(0, next(iter(family.values()))).name: family for family in pretrained}


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


def transfer_figure(ax: Axes, results: Results) -> Axes:
    """A line for each network and n: means, 95 % Student-t intervals, seeds as points; from scratch at the left."""
    known, sizes = families(results.study.entrants), results.study.sizes
    before = sorted({n for family in known.values() for n in family} - {0})
    places = {0: before[0] / 6} | {n: n for n in before}
    lines = [(name, family, k) for name, family in known.items() for k in range(len(sizes))]
    for place, (name, family, k) in enumerate(lines):
        look = figures.style(results, family[min(family)].name)
        look |= {"linestyle": ("-", "--", ":", "-.")[k % 4], "marker": figures.MARKERS[k % len(figures.MARKERS)]}
        beside = 1.03 ** (place - (len(lines) - 1) / 2)
        measured = [(b, list(results.values(family[b].name, sizes[k], test_accuracy).values())) for b in sorted(family)]
        points = [(places[b] * beside, values) for b, values in measured if values]
        figures.series(ax, points, look, f"{name}, n = {sizes[k]:,}")
    figures.n_axis(ax, list(places.values()))
    ax.set_xticks(list(places.values()), ["none", *map(figures.thousands, before)])
    ax.set_xlabel("images trained on before (log scale)")
    ax.set_ylabel("test accuracy")
    figures.in_percent(ax)
    figures.legend(ax)
    return ax

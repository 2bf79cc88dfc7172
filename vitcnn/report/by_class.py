"""Accuracy class by class, and confusion matrices: a table and a figure."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitcnn.analysis.by_class import confusion
from vitcnn.analysis.results import Results
from vitcnn.report.figures import short
from vitcnn.report.markdown import heading, image, join, paragraph, table
from vitcnn.store.labels import Labels

MOST = 20  # classes of a table or a figure


class ByClass:
    """The pair's confusion matrices at the smallest and the largest n at which both have predictions."""

    def __init__(self, results: Results, labels: Labels):
        self.names, self.pair = labels.names, results.study.pair
        found = {
            n: {m: confusion(results, m, n, labels.array(), len(labels.names)) for m in self.pair}
            for n in results.study.sizes
        }
        self.at = {n: both for n, both in found.items() if all(c is not None for c in both.values())}

    @property
    def ends(self) -> list[int]:
        sizes = list(self.at)
        return sizes if len(sizes) < 2 else [sizes[0], sizes[-1]]

    def accuracy(self, model: str, n: int) -> np.ndarray:
        """(classes,)."""
        return np.diag(self.at[n][model])

    def shown(self) -> list[int]:
        """All classes; of more than `MOST`, those with the largest gaps at the largest n."""
        first, second = self.pair
        gap = np.nan_to_num(np.abs(self.accuracy(first, self.ends[-1]) - self.accuracy(second, self.ends[-1])))
        return sorted(np.argsort(-gap, kind="stable")[:MOST].tolist())


def by_class_of(results: Results, labels: Labels | None) -> ByClass | None:
    """None where predictions are not known of both models at any n."""
    if labels is None or not set(results.study.pair) <= set(results.models):
        return None
    found = ByClass(results, labels)
    return found if found.at else None


def by_class_section(found: ByClass | None) -> str:
    """Markdown; empty where nothing is known."""
    if found is None:
        return ""
    shown, columns = found.shown(), [(m, n) for m in found.pair for n in found.ends]
    which = f"The {MOST} classes with the largest gaps" if len(found.names) > MOST else "Every class"
    gains = "" if len(found.ends) < 2 else " The gain is that from the smallest to the largest n."
    head = ["class", *(f"{m}, n = {n:,}" for m, n in columns)]
    head += [f"gain, {m}" for m in found.pair if len(found.ends) > 1]
    rows = []
    for k in shown:
        values = [found.accuracy(m, n)[k] for m, n in columns]
        if len(found.ends) > 1:
            values += [found.accuracy(m, found.ends[1])[k] - found.accuracy(m, found.ends[0])[k] for m in found.pair]
        signs = ["" if place < len(columns) else "+" for place in range(len(values))]
        rows.append([found.names[k], *(f"{100 * v:{sign}.1f}" for v, sign in zip(values, signs, strict=True))])
    return join(
        [
            heading(2, "Classes"),
            paragraph(f"{which}: test accuracy in percent, mean over seeds.{gains}"),
            table(head, rows),
            paragraph(
                f"Which classes are taken for which, at n = {found.ends[-1]:,}: of the test images of each class "
                "(rows), the share that was given each class (columns), mean over seeds."
            ),
            image("confusion matrices", "classes.png"),
        ]
    )


def by_class_figure(found: ByClass, title: str) -> Figure:
    """One confusion matrix a model, at the largest n."""
    shown = found.shown()
    side = max(2.6, 0.24 * len(shown) + 1.0)
    fig = Figure(figsize=(2 * side + 1.6, side + 1.6), layout="constrained")
    axes = fig.subplots(1, 2, sharey=True)
    for ax, model in zip(axes, found.pair, strict=True):
        drawn = confusion_matrix(ax, found.at[found.ends[-1]][model], [found.names[k] for k in shown], shown)
        drawn.set_title(short(model), fontsize=9)
    axes[0].set_ylabel("class")
    fig.colorbar(axes[0].images[0], ax=axes, label="share of the class", shrink=0.9, pad=0.02)
    fig.suptitle(f"{title}, n = {found.ends[-1]:,}", fontsize=10)
    return fig


def confusion_matrix(ax: Axes, matrix: np.ndarray, names: list[str], shown: list[int]) -> Axes:
    """Rows and columns `shown` of a matrix (classes, classes); numbers where there is room."""
    part = matrix[np.ix_(shown, shown)]
    ax.imshow(part, cmap="Blues", vmin=0, vmax=1)
    ax.set_xticks(range(len(shown)), [short(name) for name in names], rotation=90, fontsize=7)
    ax.set_yticks(range(len(shown)), [short(name) for name in names], fontsize=7)
    ax.set_xlabel("predicted")
    if len(shown) <= 10:
        for row, column in np.ndindex(part.shape):
            if part[row, column] >= 0.005:
                colour = "white" if part[row, column] > 0.5 else "black"
                text = f"{100 * part[row, column]:.0f}"
                ax.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)
    return ax

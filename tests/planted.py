"""Results with a known truth, and the claims that are judged of them."""

import math

import numpy as np
from synthetic import make_study

from vitcnn.analysis.results import Results
from vitcnn.analysis.simulate import Truth, draw
from vitcnn.analysis.verdict import verdict
from vitcnn.report.caveats import caveat
from vitcnn.report.claims import words

# ---- planted truths: accuracy at n = 50, 200, 1,000 ----

AS_SAID = {"cnn": (0.80, 0.85, 0.88), "swin": (0.70, 0.82, 0.90), "vit": (0.60, 0.78, 0.93)}
OPPOSITE = {"cnn": (0.60, 0.78, 0.93), "swin": (0.45, 0.60, 0.70), "vit": (0.80, 0.85, 0.88)}
ALIKE = dict.fromkeys(("cnn", "swin", "vit"), (0.80, 0.85, 0.90))
TRUTHS = {"supported": AS_SAID, "contradicted": OPPOSITE, "undecided": ALIKE}


def drawn(folder, accuracy: dict, *overrides: str, spread: float = 0.03, seed: int = 0, **more) -> Results:
    study, all_cells, _ = make_study(folder, "seeds=6", *overrides)
    count = len(study.sizes)
    curves = {e: np.array(a[:count]) for e, a in accuracy.items()}
    truth = Truth(curves, own=np.full(count, spread), shared=np.full(count, spread), taste=0.2, images=1500, **more)
    return draw(study, all_cells, truth, np.random.default_rng(seed))


def claims(results: Results, pair: tuple[str, str] | None = None) -> dict:
    return {claim.key: claim for claim in verdict(results, pair).claims}


def says(claim) -> str:
    return words(claim)[0]


def found(claim) -> str:
    """What was found, as a sentence."""
    return words(claim)[1]


def said(judged) -> str:
    """All caveats as sentences."""
    return "\n".join(map(caveat, judged.caveats))


def one_line(text: str) -> str:
    return " ".join(text.split())


def without(results: Results, lost) -> Results:
    """The same study without the cells that `lost(cell)` is true of."""
    kept = [r for r in results.records.values() if not lost(r.cell)]
    return Results.of(results.study, results.cells, kept, results.about)


def wobbly(cell) -> float:
    """Far apart, and each cell a little off on its own: above the baseline, with intervals."""
    level = {"vit": 0.6, "swin": 0.7, "cnn": 0.8, "linear": 0.5}[cell.model]
    own = np.random.default_rng([cell.seed, cell.n, len(cell.model), ord(cell.model[0])]).normal(0, 0.01)
    return level + 0.05 * math.log10(cell.n) + own

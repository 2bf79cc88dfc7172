"""Records drawn along planted learning curves."""

from dataclasses import replace

import numpy as np
from synthetic import make_study

from vitcnn.analysis.evidence import Evidence
from vitcnn.analysis.pair import Pair
from vitcnn.analysis.simulate import Truth, draw

SIZES = [50, 100, 200, 400]


def evidence(folder, sizes: list[int], *, spread=0.01, seed=0, seeds=5, images=1000, **curves) -> Evidence:
    """Records of cnn and vit with true accuracies `curves`, drawn."""
    study, all_cells, _ = make_study(folder, f"sizes={sizes}", f"seeds={seeds}", "models=[vit, cnn]")
    flat = np.full(len(sizes), 4 * spread)
    truth = Truth({e: np.array(c) for e, c in curves.items()}, own=flat, shared=flat, images=images)
    return Evidence(draw(study, all_cells, truth, np.random.default_rng(seed)))


def lines(known: Evidence, first: str, second: str, sizes: list[int] = SIZES) -> Pair:
    return Pair(known, first, second, tuple(sizes), None)


# ---- of records ----

FALLING = {"cnn": [0.75, 0.78, 0.80, 0.81], "vit": [0.65, 0.74, 0.84, 0.89]}


def without(known: Evidence, gone: set[tuple[str, int, int]]) -> Evidence:
    """The same records but those of some (model, n, seed)."""
    cells = {cell.id: cell for cell in known.results.cells}
    kept = {i: r for i, r in known.results.records.items() if (cells[i].model, cells[i].n, cells[i].seed) not in gone}
    return Evidence(replace(known.results, records=kept))

"""Studies whose truth is known: records drawn from a model of seeds and test images.

An image i is right for model e at size n (and budget) and seed s where

    μ_en + shared_s + own_ens + τ u_i + κ v_ei + ε_ensi > 0,

all terms but μ drawn from normal distributions: `shared` moves both models alike (that is what pairing is for), u is
the image's difficulty, v its taste for one model, ε the luck of one training. μ is set so that the accuracy for new
seeds and new images is the wanted one, exactly.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from vitcnn.analysis.results import Results
from vitcnn.store.records import Cost, Record, Score, TestScore, pack_bits
from vitcnn.study.cell import Cell
from vitcnn.study.schema import Study

COST = Cost.model_construct(parameters=0)


@dataclass(frozen=True)
class Truth:
    """`accuracy[model]` (sizes,) or (sizes, budgets): for new seeds and new images. `own` and `shared`, of the same
    shape: deviations of the seeds' effects, on the latent scale; `difficulty` (τ) and `taste` (κ) those of the images'.
    """

    accuracy: dict[str, np.ndarray]
    own: np.ndarray
    shared: np.ndarray
    difficulty: float = 1.0
    taste: float = 0.6
    images: int = 2000
    train: float = 1.0  # accuracy on the training images

    def deviation(self, own: float, shared: float) -> float:
        """Of the whole latent sum."""
        return float(np.sqrt(1 + self.difficulty**2 + self.taste**2 + own**2 + shared**2))

    def at_budget(self, b: int) -> "Truth":
        """Of the b-th budget alone, (sizes,)."""
        accuracy = {name: _by_budget(a)[:, b] for name, a in self.accuracy.items()}
        return replace(self, accuracy=accuracy, own=_by_budget(self.own)[:, b], shared=_by_budget(self.shared)[:, b])

    def gap(self, first: str, second: str) -> np.ndarray:
        return self.accuracy[first] - self.accuracy[second]


def latent_spread(points: float, accuracy: float, truth: Truth) -> float:
    """The latent deviation that makes accuracies near `accuracy` spread by `points` (in [0, 1])."""
    scale = np.sqrt(1 + truth.difficulty**2 + truth.taste**2)
    return float(points * scale / norm.pdf(norm.ppf(accuracy)))


def draw(study: Study, cells: Sequence[Cell], truth: Truth, rng: np.random.Generator) -> Results:
    """One study; every cell of a model in `truth` gets a record."""
    N, sizes = truth.images, list(study.sizes)
    difficulty = truth.difficulty * rng.standard_normal(N, np.float32)
    taste = {name: truth.taste * rng.standard_normal(N, np.float32) for name in truth.accuracy}
    accuracy = {name: _by_budget(a) for name, a in truth.accuracy.items()}
    own, common = _by_budget(truth.own), _by_budget(truth.shared)
    places = list(itertools.product(range(len(sizes)), range(len(study.budget))))
    shared = {(s, place): rng.standard_normal() * common[place] for s in study.seeds for place in places}
    records = {}
    for cell in cells:
        if cell.model not in truth.accuracy or cell.role != "main":
            continue
        place = sizes.index(cell.n), study.budget.index(cell.budget)
        mu = norm.ppf(accuracy[cell.model][place]) * truth.deviation(own[place], common[place])
        seed = shared[cell.seed, place] + own[place] * rng.standard_normal()
        right = mu + seed + difficulty + taste[cell.model] + rng.standard_normal(N, np.float32) > 0
        records[cell.id] = _record(cell, right, truth.train)
    return Results(study, cells, records)


def _by_budget(values: np.ndarray) -> np.ndarray:
    """(sizes,) or (sizes, budgets) -> (sizes, budgets)."""
    return np.reshape(values, (len(values), -1))


def _record(cell: Cell, right: np.ndarray, train: float) -> Record:
    """Without validation, and all of one size: tens of thousands of these are made."""
    test = TestScore.model_construct(accuracy=float(right.mean()), nll=0.0, images=len(right), bits=pack_bits(right))
    score = Score.model_construct(accuracy=train, nll=0.0, images=cell.n)
    known = {"id": cell.id, "cell": cell, "test": test, "train": score, "validation": score, "cost": COST}
    return Record.model_construct(**known, data={}, found={})

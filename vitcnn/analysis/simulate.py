"""Studies whose truth is known: records drawn from a model of seeds and test images.

An image i is right for model e at size n and seed s where

    μ_en + shared_s + own_ens + τ u_i + κ v_ei + ε_ensi > 0,

all terms but μ drawn from normal distributions: `shared` moves both models alike (that is what pairing is for), u is
the image's difficulty, v its taste for one model, ε the luck of one training. μ is set so that the accuracy for new
seeds and new images is the wanted one, exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from vitcnn.analysis.results import Results
from vitcnn.store.records import Cost, Record, Score, TestScore, pack_bits
from vitcnn.study.cell import Cell
from vitcnn.study.schema import Study

COST = Cost.model_construct(parameters=0)


@dataclass(frozen=True)
class Truth:
    """`accuracy[model]` (sizes,): for new seeds and new images. `own` and `shared` (sizes,): deviations of the seeds'
    effects, on the latent scale; `difficulty` (τ) and `taste` (κ) those of the images'."""

    accuracy: dict[str, np.ndarray]
    own: np.ndarray
    shared: np.ndarray
    difficulty: float = 1.0
    taste: float = 0.6
    images: int = 2000
    train: float = 1.0  # accuracy on the training images

    def deviation(self, k: int) -> float:
        """Of the whole latent sum at the k-th size."""
        return float(np.sqrt(1 + self.difficulty**2 + self.taste**2 + self.own[k] ** 2 + self.shared[k] ** 2))

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
    shared = {(s, n): rng.standard_normal() * truth.shared[k] for s in study.seeds for k, n in enumerate(sizes)}
    records = {}
    for cell in cells:
        if cell.model not in truth.accuracy or cell.role != "main":
            continue
        k = sizes.index(cell.n)
        mu = norm.ppf(truth.accuracy[cell.model][k]) * truth.deviation(k)
        seed = shared[cell.seed, cell.n] + truth.own[k] * rng.standard_normal()
        right = mu + seed + difficulty + taste[cell.model] + rng.standard_normal(N, np.float32) > 0
        records[cell.id] = _record(cell, right, truth.train)
    return Results(study, cells, records)


def _record(cell: Cell, right: np.ndarray, train: float) -> Record:
    """Without validation, and all of one size: tens of thousands of these are made."""
    test = TestScore.model_construct(accuracy=float(right.mean()), nll=0.0, images=len(right), bits=pack_bits(right))
    score = Score.model_construct(accuracy=train, nll=0.0, images=cell.n)
    known = {"id": cell.id, "cell": cell, "test": test, "train": score, "validation": score, "cost": COST}
    return Record.model_construct(**known, data={}, found={})

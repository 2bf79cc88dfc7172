"""The floor: logistic regression on pixels (scikit-learn), a cell and a record like any other."""

import copy
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor

from vitcnn.data.sources import Info
from vitcnn.matrix import Cell
from vitcnn.models.build import facts
from vitcnn.records import Cost, Record, Score, Sight, TestScore, pack_bits

if TYPE_CHECKING:
    from vitcnn.training.cell import CellData

ITERATIONS = 500  # of L-BFGS


def train_linear(
    cell: Cell, about: Info, data: "CellData", made_by: dict[str, object], alive: Callable[[], None]
) -> Record:
    """Fits each C of the entrant and keeps the one with the highest validation accuracy (ties: lower loss).

    Each fit starts from the one before (smaller C) and takes at most `ITERATIONS` steps of L-BFGS, so the largest C
    may stand for "hardly regularised" rather than for an optimum reached; the record has the iterations.

    Pixels are centred and scaled by one number over the whole subset. `alive` is called after every fit.
    """
    began = time.monotonic()
    (x, y), validation, test = (_flat(part) for part in (data.train, data.validation, data.test))
    mean, std = x.mean(0), x.std()
    x = (x - mean) / std
    trials = []
    with threadpool_limits(torch.get_num_threads()):
        fit = LogisticRegression(max_iter=ITERATIONS, warm_start=True)  # from strong to weak regularisation
        for C in sorted(cell.model.C):
            fit = copy.deepcopy(fit).set_params(C=C).fit(x, y)
            trials.append((fit, C, _score(fit, (validation[0] - mean) / std, validation[1])[1]))
            alive()
    seconds = time.monotonic() - began
    fit, C, best = max(trials, key=lambda t: (t[2].accuracy, -t[2].nll))
    correct, score = _score(fit, (test[0] - mean) / std, test[1])
    counted = facts(cell.model, about)
    return Record(
        id=cell.id,
        cell=cell,
        test=TestScore(**score.model_dump(), bits=pack_bits(correct)),
        validation=best,
        train=_score(fit, x[:10_000], y[:10_000])[1],
        curve=(),
        cost=Cost(
            parameters=counted.parameters,
            macs=counted.macs,
            steps=0,
            images_seen=0,
            epochs=0,
            seconds=seconds,
            images_per_s=None,
        ),
        sight=Sight(image_size=about.size, words=None, native_pixels_per_word=None),
        subset=data.subset,
        found={
            "C": C,
            "trials": [{"C": c, "val_accuracy": s.accuracy, "iterations": int(f.n_iter_.max())} for f, c, s in trials],
        },
        made_by=made_by,
    )


def _flat(part: tuple[Tensor, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    images, labels = (tensor.cpu().numpy() for tensor in part)
    return images.reshape(len(images), -1).astype(np.float32) / 255, labels


def _score(fit: LogisticRegression, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, Score]:
    log_p = log_softmax(fit.decision_function(x).astype(np.float64), axis=1)  # scikit-learn's own has log(0)
    correct = fit.classes_[log_p.argmax(1)] == y
    column = np.searchsorted(fit.classes_, y)
    nll = float(-log_p[np.arange(len(y)), column].mean())
    return correct, Score(accuracy=float(correct.mean()), nll=nll, images=len(y))

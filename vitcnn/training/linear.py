"""The baseline: logistic regression on pixels (scikit-learn), a cell and a record like any other."""

import copy
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from vitcnn.data.cell_data import CellData, Part, free_for_each
from vitcnn.errors import ConfigError
from vitcnn.store.paths import StudyPaths
from vitcnn.store.status import write_progress
from vitcnn.study.cell import Cell
from vitcnn.training.callback import InterruptedCell
from vitcnn.training.evaluate import TRAIN_IMAGES, Trained, batches, measure

ITERATIONS = 500  # of L-BFGS
BYTES = 12  # a pixel: the stored one, twice as float32 (and again while it is scaled)
SYNTHETIC_IMAGES = 50_000  # the most synthetic images to fit; an unlimited set cannot be in memory


def train_linear(cell: Cell, data: CellData, paths: StudyPaths, workers: int, stop: Callable[[], bool]) -> Trained:
    """Fits each C of the model and keeps the one with the highest validation accuracy (ties: lower loss).

    Each fit starts from the one before (smaller C) and takes at most `ITERATIONS` steps of L-BFGS, so at the
    largest C the fit may stop before the optimum; the record has the iterations.

    Pixels are centred and scaled by one number over the whole subset. `workers`: how many share the memory. Of
    synthetic images at most the first `SYNTHETIC_IMAGES` are used, and the record has their number. Raises
    `InterruptedCell` once `stop()` is true after a fit.
    """
    began, classes = time.monotonic(), data.info.classes
    most = SYNTHETIC_IMAGES if data.info.made else None
    _check_memory(data, most, workers)
    x, y = _flat(data.train, most), data.train[1][:most].cpu().numpy()
    mean, std = x.mean(0), x.std() or 1.0
    x, validation, test = ((pixels - mean) / std for pixels in (x, _flat(data.validation), _flat(data.test)))
    trials = []
    with threadpool_limits(torch.get_num_threads()):
        fit = LogisticRegression(max_iter=ITERATIONS, warm_start=True)  # from strong to weak regularisation
        fit = fit if len(np.unique(y)) > 1 else OneClass()
        for C in sorted(cell.arch.C):
            fit = copy.deepcopy(fit).set_params(C=C).fit(x, y)
            trials.append((fit, C, measure(logits(fit, validation, classes), data.validation[1].cpu())[1]))
            write_progress(paths.cell(cell.id), step=0, steps=0, stopped=stop())
            if stop():
                raise InterruptedCell
    seconds = time.monotonic() - began
    fit, C, _ = max(trials, key=lambda t: (t[2].accuracy, -t[2].nll))
    return Trained(
        logits=[logits(fit, pixels, classes) for pixels in (validation, x[:TRAIN_IMAGES], test)],
        seconds=seconds,
        found={
            "C": C,
            **({"images": len(x)} if data.info.made else {}),
            "trials": [{"C": c, "val_accuracy": s.accuracy, "iterations": int(f.n_iter_.max())} for f, c, s in trials],
        },
    )


class OneClass:
    """Logistic regression on a subset with a single class, which scikit-learn does not support: always predicts that
    class."""

    n_iter_ = np.zeros(1)

    def set_params(self, **_: float) -> "OneClass":
        return self

    def fit(self, _: np.ndarray, y: np.ndarray) -> "OneClass":
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return np.zeros((len(x), 1))


def _check_memory(data: CellData, most: int | None, workers: int) -> None:
    """Raises ConfigError if the pixels as floats would not fit into memory."""
    n, size = len(data.train[1][:most]), data.info.size
    need = BYTES * (n + len(data.validation[1]) + len(data.test[1])) * size**2 * data.info.channels
    free, available = free_for_each(torch.device("cpu"), workers)
    if need > free:
        raise ConfigError(
            f"logistic regression on {n:,} images of {size}×{size} pixels needs {need / 1e9:.1f} GB of memory; "
            f"{available}; remove `linear` or this size, or use smaller images (`resolution`)"
        )


def _flat(part: Part, most: int | None = None) -> np.ndarray:
    images = torch.cat([pixels.cpu() for pixels, _ in batches(part, most)])
    return images.flatten(1).numpy().astype(np.float32) / 255


def logits(fit: LogisticRegression | OneClass, x: np.ndarray, classes: int) -> torch.Tensor:
    """(N, classes) float32. Classes that no training image had get a probability of 10⁻⁶ each."""
    scores = torch.from_numpy(fit.decision_function(x)).double()
    if scores.ndim == 1:  # two classes: the score of the second relative to the first
        scores = torch.stack([torch.zeros_like(scores), scores], 1)
    out = (scores.logsumexp(1, keepdim=True) + math.log(1e-6)).repeat(1, classes)
    out[:, torch.from_numpy(fit.classes_)] = scores
    return out.float()

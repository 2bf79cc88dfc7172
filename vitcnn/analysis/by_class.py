"""Accuracy of each class, and which classes are taken for which."""

import numpy as np

from vitcnn.analysis.results import Results


def confusion(results: Results, model: str, n: int, labels: np.ndarray, classes: int) -> np.ndarray | None:
    """(classes, classes): of the test images of each class (rows), the share that was given each class (columns), mean
    over seeds; its diagonal is the accuracy of each class. A class without test images is a row of NaN. None where no
    record has its predictions.
    """
    each = []
    for record in results.at(model, n).values():
        predicted = record.test.classes()
        if predicted is not None and len(predicted) == len(labels):
            counts = np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
            with np.errstate(invalid="ignore"):
                each.append(counts / counts.sum(1, keepdims=True))
    return np.mean(each, axis=0) if each else None

"""Scores are those of scikit-learn and of the formula; logistic regression gives logits for every class."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss

from vitcnn.training.evaluate import measure
from vitcnn.training.linear import logits as linear_logits


def calibration_error(p: np.ndarray, labels: np.ndarray) -> float:
    """Guo et al. 2017, equation 3: Σ_b |B_b|/N · |accuracy(B_b) − confidence(B_b)|, 15 bins of equal width."""
    confidence, right = p.max(1), p.argmax(1) == labels
    total = 0.0
    for b in range(15):
        inside = (b / 15 <= confidence) & (confidence < (b + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(2, 9), st.sampled_from([0.1, 1.0, 3.0]))
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
def test_a_score_is_scikit_learns_and_its_calibration_error_that_of_the_formula(seed, n, classes, scale):
    rng = np.random.default_rng(seed)
    there = rng.choice(classes, rng.integers(1, classes + 1), replace=False)  # the others are absent from the labels
    labels, logits = rng.choice(there, n), torch.from_numpy(rng.normal(0, scale, (n, classes)).astype(np.float32))
    p = logits.double().softmax(1).numpy()
    correct, score = measure(logits, torch.from_numpy(labels))
    assert np.array_equal(correct, p.argmax(1) == labels)
    assert correct.dtype == bool
    assert score.images == n
    assert score.accuracy == pytest.approx(accuracy_score(labels, p.argmax(1)))
    assert score.macro_accuracy == pytest.approx(balanced_accuracy_score(labels, p.argmax(1)))
    assert score.nll == pytest.approx(log_loss(labels, p, labels=range(classes)), rel=1e-5)
    assert score.ece == pytest.approx(calibration_error(p, labels), abs=1e-5)


def test_macro_accuracy_weighs_classes_alike_and_leaves_out_those_that_are_absent():
    guessed, labels = torch.tensor([0, 0, 0, 1, 2]), torch.tensor([0, 0, 0, 0, 2])
    _, score = measure(torch.nn.functional.one_hot(guessed, 4).float(), labels)
    assert score.accuracy == pytest.approx(4 / 5)
    assert score.macro_accuracy == pytest.approx((3 / 4 + 1) / 2)


def test_a_class_that_is_never_right_counts_as_zero():
    _, score = measure(torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 0, 1]))
    assert score.macro_accuracy == pytest.approx(0.5)


@pytest.mark.parametrize(("confidence", "right", "ece"), [(0.9, 9, 0.0), (0.9, 5, 0.4), (0.6, 10, 0.4)])
def test_the_calibration_error_is_the_distance_of_confidence_from_accuracy(confidence, right, ece):
    logits = torch.tensor([[math.log(confidence), math.log(1 - confidence)]]).repeat(10, 1)
    labels = (torch.arange(10) >= right).long()
    assert measure(logits, labels)[1].ece == pytest.approx(ece, abs=1e-6)


def test_confident_logits_that_are_wrong_have_a_loss_that_is_their_distance_and_no_infinity():
    _, score = measure(torch.tensor([[0.0, 1000.0]]), torch.tensor([0]))
    assert (score.accuracy, score.macro_accuracy) == (0, 0)
    assert score.nll == pytest.approx(1000)
    assert score.ece == pytest.approx(1)


# ---- logistic regression ----


def fitted(classes: list[int], seed: int = 0, features: int = 4) -> tuple[LogisticRegression, np.ndarray]:
    """A fit on images of these classes only, and other images."""
    rng = np.random.default_rng(seed)
    y = np.repeat(classes, 15)
    x = rng.normal(size=(len(y), features)) + 0.7 * rng.normal(size=(max(classes) + 1, features))[y]
    return LogisticRegression(max_iter=500).fit(x, y), rng.normal(size=(40, features))


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_linear_logits_are_scikit_learns_probabilities(classes):
    fit, x = fitted(list(range(classes)))
    logits = linear_logits(fit, x, classes)
    assert logits.shape == (40, classes)
    assert logits.dtype == torch.float32
    assert logits.log_softmax(1).numpy() == pytest.approx(fit.predict_log_proba(x), abs=1e-5)


@pytest.mark.parametrize(("there", "classes"), [([0, 2, 3], 5), ([1, 4], 5), ([0, 2], 3)])
def test_a_class_that_the_subset_lacks_has_a_probability_of_one_in_a_million_and_a_finite_loss(there, classes):
    fit, x = fitted(there)
    p = linear_logits(fit, x, classes).double().softmax(1).numpy()
    absent = [c for c in range(classes) if c not in there]
    assert p[:, absent] == pytest.approx(np.full((40, len(absent)), 1e-6), rel=1e-3)
    assert p[:, there] == pytest.approx(fit.predict_proba(x), abs=1e-5)
    _, score = measure(linear_logits(fit, x, classes), torch.full((40,), absent[0]))
    assert score.nll == pytest.approx(-math.log(1e-6), rel=1e-3)
    assert score.accuracy == 0

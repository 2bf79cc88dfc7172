"""Scoring: accuracy, macro accuracy, negative log-likelihood and calibration error; and the record that
contains them, for networks and logistic regression."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_calibration_error

from vitcnn.data.cell_data import CellData, Part
from vitcnn.errors import NotFiniteLoss
from vitcnn.models.profile import ModelProfile
from vitcnn.store.records import Cost, Point, Record, Score, TestScore, pack_bits, pack_classes
from vitcnn.study.cell import Cell
from vitcnn.training.lane import Lane
from vitcnn.training.weights import weights_hash

BATCH = 125  # a fifth faster on a CPU than 500 (measured: ViT, windows)
TRAIN_IMAGES = 10_000  # of the training subset, scored at the end: as many as most test sets have
GPU_PIXELS = 2**26  # numbers of a batch of images, as the network sees them: 256 MB
BINS = 15  # Guo et al. 2017


def batches(part: Part, limit: int | None = None, size: int = BATCH) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of (images, labels) in order, at most `limit` images; from disk read batch by batch."""
    images, labels = part
    end = min(len(labels), limit or len(labels))
    for start in range(0, end, size):
        yield images[start : min(end, start + size)], labels[start : min(end, start + size)]


def batch_for(lane: Lane) -> int:
    """Batch size of evaluation: thousands on a GPU, to keep it busy."""
    device = lane.feed.device
    if device.type != "cuda":
        return BATCH
    return int(max(BATCH, min(4000, GPU_PIXELS // (lane.feed.shape[0] * lane.preprocess.size**2))))


@torch.inference_mode()
def logits_of(lane: Lane, part: Part, limit: int | None = None) -> Tensor:
    """(N, classes) float32 of the network in evaluation mode, in the precision of training; on the lane's device, which
    may still be computing them."""
    lane.eval()
    found = batches(part, limit, batch_for(lane))
    return torch.cat([lane(images.to(lane.feed.device)) for images, _ in found])


def measure(logits: Tensor, labels: Tensor) -> tuple[np.ndarray, Score]:
    """Logits (N, classes) float32 and labels (N,) -> (correct (N,) bool, the score).

    Macro accuracy is the mean over the classes that occur in `labels` of the accuracy on each. The calibration error
    is the expected one, over 15 bins of equal width (Guo et al. 2017). Raises NotFiniteLoss.
    """
    if not math.isfinite(nll := F.cross_entropy(logits.double(), labels).item()):
        raise NotFiniteLoss(f"the loss on {len(labels):,} images is {nll} after training")
    correct = logits.argmax(1) == labels
    there = torch.bincount(labels, minlength=logits.shape[1])
    right = torch.bincount(labels[correct], minlength=logits.shape[1])
    score = Score(
        accuracy=correct.double().mean().item(),
        macro_accuracy=(right[there > 0] / there[there > 0]).double().mean().item(),
        nll=nll,
        ece=multiclass_calibration_error(logits.softmax(1), labels, logits.shape[1], n_bins=BINS).item(),
        images=len(labels),
    )
    return correct.numpy(), score


@dataclass(frozen=True)
class Trained:
    """The result of training a cell, a network or logistic regression."""

    logits: Sequence[Tensor]  # (N, classes) on validation, training (its first 10,000) and test images
    seconds: float
    network: nn.Module | None = None  # None: logistic regression
    curve: Sequence[Point] = ()
    resumed: int = 0
    lanes: int = 1
    found: dict[str, Any] = field(default_factory=dict)  # hyperparameters chosen on validation
    unusual: dict[str, str] = field(default_factory=dict)  # deviations from the usual way to run steps
    failed: str | None = None  # why the loss is not finite; then there are no logits


def record_of(
    cell: Cell, data: CellData, trained: Trained, profile: ModelProfile, made_by: dict[str, object]
) -> Record:
    """Scores a trained cell. Raises NotFiniteLoss, also if training has failed."""
    if trained.failed is not None:
        raise NotFiniteLoss(trained.failed)
    parts = zip(trained.logits, (data.validation, data.train, data.test), strict=True)
    (_, validation), (_, train), (correct, test) = (
        measure(logits.cpu(), labels[: len(logits)].cpu()) for logits, (_, labels) in parts
    )
    return Record(
        id=cell.id,
        cell=cell,
        test=TestScore(
            **test.model_dump(),
            bits=pack_bits(correct),
            predicted=pack_classes(trained.logits[-1].argmax(1).cpu().numpy(), data.info.classes),
        ),
        validation=validation,
        train=train,
        curve=tuple(trained.curve),
        cost=Cost(
            parameters=profile.parameters,
            macs=profile.macs,
            steps=cell.steps,
            images_seen=cell.images_seen,
            epochs=cell.images_seen / cell.n,
            seconds=trained.seconds,
            images_per_s=cell.images_seen / trained.seconds or None,
            resumed=trained.resumed,
            lanes=trained.lanes,
        ),
        input=profile.input,
        subset=data.subset,
        data=data.facts,
        weights=None if trained.network is None else weights_hash(trained.network.state_dict()),
        found=trained.found,
        made_by=made_by | trained.unusual,
    )

"""A LightningModule that trains the lanes of a process."""

import time
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from vitcnn.errors import NotFiniteLoss
from vitcnn.store.records import Point
from vitcnn.training.capture import capture_all
from vitcnn.training.lane import Lane
from vitcnn.training.tracker import Tracker

VISIT = 0.25  # about the seconds of training between two synchronisations on a GPU


class CellsModule(LightningModule):
    """Lanes of cells with the same number of steps. Optimisation is by the lanes themselves ("manual").

    A batch is a span of steps (first, last), which every lane trains. An epoch, in Lightning's sense, ends at the next
    point of the curve, every `val_every` steps, with Lightning's validation. A lane whose loss is not finite is
    `failed`; the others continue.
    """

    def __init__(self, lanes: Sequence[Lane], trackers: Sequence[Tracker | None], val_every: int):
        super().__init__()
        self.automatic_optimization = False
        self.lanes, self.trackers, self.val_every = nn.ModuleList(lanes), trackers, val_every
        self.steps, self.position = lanes[0].steps, lanes[0].position
        self.longest = min(lane.feed.capacity for lane in lanes)
        self.visit = 1  # steps of the next span
        self.not_deterministic: list[str] = []
        self._waiting: list[torch.cuda.Event] = []
        self._waited = time.monotonic()
        self._scores: list[list[tuple[Tensor, Tensor]]] = [[] for _ in lanes]

    def configure_optimizers(self) -> None:
        """Each lane has its own."""

    def on_fit_start(self) -> None:
        """Captures here, after Lightning has moved the module (which replaces an LSTM's tensors) and cleared CUDA's
        caches."""
        self.not_deterministic = capture_all(self.lanes)
        for lane, tracker in zip(self.lanes, self.trackers, strict=True):
            if tracker:
                tracker.restore(metrics(point, lane) for point in lane.curve)

    def on_train_start(self) -> None:
        for lane in self.lanes:
            if lane.captured_at not in (None, lane.addresses()):
                raise RuntimeError("a network's tensors were moved after its step was captured")

    def training_step(self, span: tuple[int, int], _: int) -> None:
        first, last = span
        lanes = self.alive()
        for lane in lanes:
            lane.load(first, last)
        for step in range(first, last):  # lane by lane within a step, so that all streams are busy
            for lane in lanes:
                lane.do(step)
        self.position = last
        self._keep_pace(last - first)

    def alive(self) -> list[Lane]:
        return [lane for lane in self.lanes if lane.failed is None]

    def wait(self) -> None:
        """Waits until the device has finished all work."""
        if self.lanes[0].stream:
            torch.cuda.synchronize(self.lanes[0].feed.device)

    def _keep_pace(self, count: int) -> None:
        """On a GPU the host stays one span ahead; a span is just long enough that its overhead is small."""
        if not self.lanes[0].stream:
            return
        for event in self._waiting:
            event.synchronize()
        self._waiting = [lane.stream.record_event() for lane in self.alive()]
        now = time.monotonic()
        fitting = int(VISIT * count / max(1e-9, now - self._waited))
        self._waited, self.visit = now, max(1, min(self.longest, fitting, 2 * self.visit))

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        self.wait()
        images, labels = batch
        for lane, scores in zip(self.lanes, self._scores, strict=True):
            if lane.failed is None:
                logits = lane(images)
                scores.append((logits.argmax(1) == labels, F.cross_entropy(logits, labels, reduction="none")))

    def on_validation_epoch_end(self) -> None:
        for lane, scores, tracker in zip(self.lanes, self._scores, self.trackers, strict=True):
            if lane.failed is not None:
                continue
            correct, nll = (torch.cat(parts).cpu().double().mean().item() for parts in zip(*scores, strict=True))
            scores.clear()
            try:
                point = lane.add_point(correct, nll)
            except NotFiniteLoss as error:
                lane.failed = str(error)
                continue
            if tracker:
                tracker.log_metrics(*metrics(point, lane))
        if not self.alive():
            self.trainer.should_stop = True


class Spans(IterableDataset):
    """Spans of steps (first, last), from the module's position to the next point of the curve."""

    def __init__(self, module: CellsModule):
        self.module = module

    def __iter__(self) -> Iterator[tuple[int, int]]:
        step, every = self.module.position, self.module.val_every
        end = min(self.module.steps, (step // every + 1) * every)
        while step < end:
            last = min(end, step + self.module.visit)
            yield step, last
            step = last


def metrics(point: Point, lane: Lane) -> tuple[dict[str, float], int]:
    """(a point of the curve as W&B shows it, its step)."""
    step = point.images_seen // lane.recipe.batch_size
    return {
        "images_seen": float(point.images_seen),
        "train/loss": point.train_loss,
        "val/acc": point.val_accuracy,
        "val/nll": point.val_nll,
        "lr": lane.lr_at(step),
    }, step

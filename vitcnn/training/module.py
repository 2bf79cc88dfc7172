"""How a network is trained: one LightningModule for every entrant."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor, nn

from vitcnn.base import NotFiniteLoss
from vitcnn.data.augment import Draws, apply, draw, mixed_loss
from vitcnn.data.batches import Eyes
from vitcnn.models.build import decay_groups, memory_layout
from vitcnn.recipe import Recipe, parse_augment
from vitcnn.records import Point
from vitcnn.seeds import role_seed


class CellModule(LightningModule):
    """AdamW, warm-up and cosine, label smoothing; every draw of step t is a function of `seed` and t alone.

    A batch is (images (B, C, H, W) uint8, labels (B,), step). The training curve is kept here, and in checkpoints.
    """

    def __init__(self, network: nn.Module, eyes: Eyes, recipe: Recipe, steps: int, seed: int):
        super().__init__()
        self.layout = memory_layout(network)
        self.network = network.to(memory_format=self.layout)
        self.eyes, self.recipe, self.steps, self.seed = eyes, recipe, steps, seed
        self.curve: list[Point] = []
        self.register_buffer("loss_sum", torch.zeros(()), persistent=True)  # since the last point of the curve
        self.register_buffer("loss_count", torch.zeros(()), persistent=True)
        self._scores: list[tuple[Tensor, Tensor]] = []

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (B, C, H, W) -> logits (B, classes)."""
        x = self.eyes(images)
        return self.network(x.to(memory_format=self.layout))

    def training_step(self, batch: tuple[Tensor, Tensor, int], _: int) -> Tensor:
        images, labels, step = batch
        if step != self.global_step:
            raise RuntimeError(f"the data is at step {step}, the optimiser at {self.global_step}")
        _generator(self.device).manual_seed(role_seed(self.seed, "order", step, 2))  # the network's draws (drop path)
        draws = self.draws(step, labels, images.shape[1:])
        loss = mixed_loss(self(apply(images, draws)), labels, draws, self.recipe.label_smoothing, "mean")
        self.loss_sum += loss.detach()
        self.loss_count += 1
        return loss

    def draws(self, step: int, labels: Tensor, shape: Sequence[int]) -> Draws:
        """How the images (C, H, W) of a step are augmented, one for each label (B,)."""
        generator = torch.Generator().manual_seed(role_seed(self.seed, "order", step, 1))
        return draw(parse_augment(self.recipe.augment), len(labels), shape, generator)

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        self._scores.append(score(self(batch[0]), batch[1]))

    def on_validation_epoch_end(self) -> None:
        correct, nll = (torch.cat(parts) for parts in zip(*self._scores, strict=True))
        self._scores.clear()
        loss = self.mean_loss()
        if not math.isfinite(val_nll := nll.double().mean().item()):
            raise NotFiniteLoss(not_finite("validation", val_nll, self.global_step, self._lr()))
        point = Point(
            images_seen=self.global_step * self.recipe.batch_size,
            train_loss=loss,
            val_accuracy=correct.double().mean().item(),
            val_nll=val_nll,
        )
        self.curve.append(point)
        self.loss_sum.zero_()
        self.loss_count.zero_()
        self.log_dict(watched(point, self._lr()))

    def mean_loss(self) -> float:
        """Since the last point of the curve. Raises NotFiniteLoss, with the step and the learning rate."""
        loss = (self.loss_sum / self.loss_count).item()
        if not math.isfinite(loss):
            raise NotFiniteLoss(not_finite("training", loss, self.global_step, self._lr()))
        return loss

    def _lr(self) -> float:
        return self.lr_schedulers().get_last_lr()[0]

    @property
    def curves(self) -> list[list[Point]]:
        """One, as a cohort has one for each of its cells."""
        return [self.curve]

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """By hand: Lightning refuses to clip for a fused optimiser under bf16, where nothing is scaled."""
        if self.recipe.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)

    def configure_optimizers(self) -> dict[str, Any]:
        groups = decay_groups(self.network, self.recipe.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=self.recipe.lr, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(schedule_at, self.recipe.warmup, self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["curve"] = [point.model_dump() for point in self.curve]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.curve = [Point.model_validate(point) for point in checkpoint["curve"]]


def _generator(device: torch.device) -> torch.Generator:
    """What a network draws from. (`torch.manual_seed` seeds those of all kinds of devices: 1.5 ms a step, measured.)"""
    return torch.cuda.default_generators[device.index or 0] if device.type == "cuda" else torch.default_generator


def schedule_at(warmup: float, steps: int, step: int) -> float:
    """What the learning rate is multiplied with at `step`: up in a line over that share of the steps, then a cosine
    down to 0 (Loshchilov & Hutter 2017)."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def watched(point: Point, lr: float) -> dict[str, float]:
    """A point of the curve as W&B shows it."""
    return {
        "images_seen": float(point.images_seen),
        "train/loss": point.train_loss,
        "val/acc": point.val_accuracy,
        "val/nll": point.val_nll,
        "lr": lr,
    }


def not_finite(which: str, loss: float, step: int, lr: float) -> str:
    return f"the {which} loss is {loss} at step {step} (learning rate {lr:.3g})"


def score(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(right or wrong (B,) bool, negative log-likelihood (B,) float32 in nats)."""
    logits = logits.float()
    return logits.argmax(1) == labels, F.cross_entropy(logits, labels, reduction="none")

"""How a network is trained: one LightningModule for every entrant."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor, nn

from vitcnn.config import Recipe
from vitcnn.data.batches import Eyes, augment
from vitcnn.models.build import decay_groups
from vitcnn.records import Point
from vitcnn.seeds import role_seed


class NotFiniteLoss(Exception):
    """The training loss is no longer a number."""


class CellModule(LightningModule):
    """AdamW, warm-up and cosine, label smoothing; every draw of step t is a function of `seed` and t alone.

    A batch is (images (B, C, H, W) uint8, labels (B,), step). The training curve is kept here, and in checkpoints.
    """

    def __init__(self, network: nn.Module, eyes: Eyes, recipe: Recipe, steps: int, seed: int):
        super().__init__()
        self.network, self.eyes, self.recipe, self.steps, self.seed = network, eyes, recipe, steps, seed
        self.curve: list[Point] = []
        self.register_buffer("loss_sum", torch.zeros(()), persistent=True)  # since the last point of the curve
        self.register_buffer("loss_count", torch.zeros(()), persistent=True)
        self._scores: list[tuple[Tensor, Tensor]] = []

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (B, C, H, W) -> logits (B, classes)."""
        x = self.eyes(images)
        return self.network(x.to(memory_format=torch.channels_last))

    def training_step(self, batch: tuple[Tensor, Tensor, int], _: int) -> Tensor:
        images, labels, step = batch
        if step != self.global_step:
            raise RuntimeError(f"the data is at step {step}, the optimiser at {self.global_step}")
        torch.manual_seed(role_seed(self.seed, "order", step, 2))  # the network's own draws (drop path)
        draws = torch.Generator().manual_seed(role_seed(self.seed, "order", step, 1))
        images = augment(images, self.recipe.augment, draws)
        loss = F.cross_entropy(self(images), labels, label_smoothing=self.recipe.label_smoothing)
        self.loss_sum += loss.detach()
        self.loss_count += 1
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        self._scores.append(score(self(batch[0]), batch[1]))

    def on_validation_epoch_end(self) -> None:
        correct, nll = (torch.cat(parts) for parts in zip(*self._scores, strict=True))
        self._scores.clear()
        point = Point(
            images_seen=self.global_step * self.recipe.batch_size,
            train_loss=self.mean_loss(),
            val_accuracy=correct.double().mean().item(),
            val_nll=nll.double().mean().item(),
        )
        self.curve.append(point)
        self.loss_sum.zero_()
        self.loss_count.zero_()
        self.log_dict(
            {
                "images_seen": float(point.images_seen),
                "train/loss": point.train_loss,
                "val/acc": point.val_accuracy,
                "val/nll": point.val_nll,
                "lr": self.lr_schedulers().get_last_lr()[0],
            }
        )

    def mean_loss(self) -> float:
        """Since the last point of the curve. Raises NotFiniteLoss, with the step and the learning rate."""
        loss = (self.loss_sum / self.loss_count).item()
        if not math.isfinite(loss):
            lr = self.lr_schedulers().get_last_lr()[0]
            raise NotFiniteLoss(f"the training loss is {loss} at step {self.global_step} (learning rate {lr:.3g})")
        return loss

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """By hand: Lightning refuses to clip for a fused optimiser under bf16, where nothing is scaled."""
        if self.recipe.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)

    def configure_optimizers(self) -> dict[str, Any]:
        groups = decay_groups(self.network, self.recipe.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=self.recipe.lr, fused=True)
        warmup = max(1, round(self.recipe.warmup * self.steps))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, self.steps - warmup)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["curve"] = [point.model_dump() for point in self.curve]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.curve = [Point.model_validate(point) for point in checkpoint["curve"]]


def score(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(right or wrong (B,) bool, negative log-likelihood (B,) float32 in nats)."""
    logits = logits.float()
    return logits.argmax(1) == labels, F.cross_entropy(logits, labels, reduction="none")

"""A cohort: cells of one entrant with the same number of steps, trained in lock-step as one program.

Each cell keeps its own subset, order, draws, learning rate, weight decay and curve, and leaves what it would have left
alone: checkpoints in its own folder in the form that `CellModule` reads, W&B's run, and a record.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor
from torch.utils.data import IterableDataset

from vitcnn.data.augment import apply, join, mixed_loss
from vitcnn.data.batches import Eyes, TrainStream
from vitcnn.records import Point
from vitcnn.training.checkpoints import CheckedIO
from vitcnn.training.module import CellModule, not_finite, schedule_at, score, watched
from vitcnn.training.stacked import RowAdamW, Stacked, clip_rows
from vitcnn.training.tracking import Tracker


class CohortStream(IterableDataset):
    """The K batches of a step end to end: (images (K·B, C, H, W) uint8, labels (K·B,), the step)."""

    def __init__(self, streams: Sequence[TrainStream]):
        self.streams = streams

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, int]]:
        for batches in zip(*self.streams, strict=True):
            images, labels, steps = zip(*batches, strict=True)
            yield torch.cat(images), torch.cat(labels), steps[0]


class CohortModule(LightningModule):
    """`members` as one: what `CellModule` does, for K cells at once. Their recipes may differ in learning rate, weight
    decay, augmentation and initialisation; their networks are such as `Stacked` takes.

    A member whose loss is no longer a number is in `failed`, with what to say of it; the others go on, since rows do
    not touch each other.
    """

    def __init__(self, members: Sequence[CellModule], trackers: Sequence[Tracker | None]):
        super().__init__()
        self._members, self._trackers = list(members), list(trackers)
        self.stacked = Stacked([member.network for member in members])
        self.eyes = Eyes.together([member.eyes for member in members])
        self.recipe, self.steps = members[0].recipe, members[0].steps
        self.register_buffer("loss_sum", torch.zeros(len(members)), persistent=False)
        self.register_buffer("loss_count", torch.zeros(()), persistent=False)
        self.failed: dict[int, str] = {}
        self._scores: list[tuple[Tensor, Tensor]] = []

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (K·B, C, H, W), the batches end to end -> logits (K, B, classes)."""
        return self.stacked(self.eyes(images).unflatten(0, (len(self._members), -1)))

    def training_step(self, batch: tuple[Tensor, Tensor, int], _: int) -> Tensor:
        images, labels, step = batch
        if step != self.global_step:
            raise RuntimeError(f"the data is at step {step}, the optimiser at {self.global_step}")
        parts = zip(self._members, labels.chunk(len(self._members)), strict=True)
        draws = join([member.draws(step, part, images.shape[1:]) for member, part in parts])
        logits = self(apply(images, draws)).flatten(0, 1)
        losses = mixed_loss(logits, labels, draws, self.recipe.label_smoothing)
        losses = losses.unflatten(0, (len(self._members), -1)).mean(1)
        self.loss_sum += losses.detach()
        self.loss_count += 1
        return losses.sum()

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Every member on the same images, as many at once as in training."""
        found = []
        for images, labels in zip(*(part.split(self.recipe.batch_size) for part in batch), strict=True):
            logits = self(images.repeat(len(self._members), 1, 1, 1))
            right, nll = score(logits.flatten(0, 1), labels.repeat(len(self._members)))
            found.append([part.unflatten(0, logits.shape[:2]) for part in (right, nll)])
        self._scores.append(tuple(torch.cat(parts, 1) for parts in zip(*found, strict=True)))

    def on_validation_epoch_end(self) -> None:
        right, nll = (torch.cat(parts, 1).double().mean(1).tolist() for parts in zip(*self._scores, strict=True))
        self._scores.clear()
        factor, losses = self.lr_schedulers().get_last_lr()[0], self.mean_losses()
        self._put_aside("validation", nll)
        for k, (member, loss) in enumerate(zip(self._members, losses, strict=True)):
            if k in self.failed:
                continue
            point = Point(
                images_seen=self.global_step * self.recipe.batch_size,
                train_loss=loss,
                val_accuracy=right[k],
                val_nll=nll[k],
            )
            member.curve.append(point)
            if tracker := self._trackers[k]:
                tracker.log_metrics(watched(point, member.recipe.lr * factor), self.global_step)
        self.loss_sum.zero_()
        self.loss_count.zero_()

    def mean_losses(self) -> list[float]:
        """Of every member since the last point of the curve; one that is no number puts its member among the failed."""
        losses = (self.loss_sum / self.loss_count).tolist()
        self._put_aside("training", losses)
        return losses

    def _put_aside(self, which: str, losses: Sequence[float]) -> None:
        for k, loss in enumerate(losses):
            if not math.isfinite(loss):
                lr = self._members[k].recipe.lr * self.lr_schedulers().get_last_lr()[0]
                self.failed.setdefault(k, not_finite(which, loss, self.global_step, lr))

    @property
    def curves(self) -> list[list[Point]]:
        return [member.curve for member in self._members]

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        if self.recipe.clip_norm:
            clip_rows(self.stacked.rows.grad, self.recipe.clip_norm)

    def configure_optimizers(self) -> dict[str, Any]:
        lr, decay = ([getattr(m.recipe, key) for m in self._members] for key in ("lr", "weight_decay"))
        optimizer = RowAdamW(self.stacked.rows, lr, decay, self.stacked.decayed)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(schedule_at, self.recipe.warmup, self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def members(self) -> list[CellModule]:
        """The members with what their networks have become."""
        for k, member in enumerate(self._members):
            self.stacked.give(k, member.network)
        return self._members


class CohortIO(CheckedIO):
    """A cohort's checkpoint is one file for each member, as if it had been trained alone, and is read from these."""

    def __init__(self, module: CohortModule, files: Sequence[Path]):
        self.module, self.files = module, list(files)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """One beside the other; a kill between two of them leaves cells at different steps."""
        for k, (member, file) in enumerate(zip(self.module.members(), self.files, strict=True)):
            super().save_checkpoint(self._part(checkpoint, k, member), file)

    def _part(self, checkpoint: dict[str, Any], k: int, member: CellModule) -> dict[str, Any]:
        (moments,), (schedule,) = checkpoint["optimizer_states"], checkpoint["lr_schedulers"]
        factor, lr = moments["param_groups"][0]["lr"], member.recipe.lr
        own_optimizer = member.configure_optimizers()["optimizer"]
        parameters = [p for group in own_optimizer.param_groups for p in group["params"]]
        optimizer = own_optimizer.state_dict()
        for group in optimizer["param_groups"]:
            group |= {"lr": lr * factor, "initial_lr": lr}
        if moments["state"]:
            own = {key: value[k] for key, value in moments["state"][0].items() if key != "step"}
            own = {key: self.module.stacked.split(row).values() for key, row in own.items()}
            optimizer["state"] = {  # in each parameter's memory layout: fused AdamW pairs numbers by their place
                place: {
                    key: torch.empty_like(p, device="cpu").copy_(part) for key, part in zip(own, parts, strict=True)
                }
                | {"step": moments["state"][0]["step"].clone()}
                for place, (p, *parts) in enumerate(zip(parameters, *own.values(), strict=True))
            }
        part = checkpoint | {
            "optimizer_states": [optimizer],
            "lr_schedulers": [_rates(schedule, [lr] * len(optimizer["param_groups"]), factor)],
            "state_dict": member.state_dict()
            | {"loss_sum": self.module.loss_sum[k].cpu(), "loss_count": self.module.loss_count.cpu()},
        }
        member.on_save_checkpoint(part)
        return part

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        parts = [super(CohortIO, self).load_checkpoint(file, map_location, weights_only) for file in self.files]
        module, states = self.module, [part["optimizer_states"][0]["state"] for part in parts]
        for k, (member, part) in enumerate(zip(module._members, parts, strict=True)):
            member.load_state_dict(part["state_dict"])
            member.on_load_checkpoint(part)
            module.stacked.take(k, member.network)
            module.loss_sum[k] = member.loss_sum
            module.loss_count.copy_(member.loss_count)
        whole, factor = copy.deepcopy(parts[0]), parts[0]["lr_schedulers"][0]["_last_lr"][0] / module.recipe.lr
        moments = module.configure_optimizers()["optimizer"].state_dict()
        moments["param_groups"][0] |= {"lr": factor, "initial_lr": 1.0}
        moments["state"][0] = {"step": states[0][0]["step"]} | {
            key: torch.stack([torch.cat([one[key].flatten() for one in state.values()]) for state in states])
            for key in ("exp_avg", "exp_avg_sq")
        }
        return whole | {
            "optimizer_states": [moments],
            "lr_schedulers": [_rates(whole["lr_schedulers"][0], [1.0], factor)],
            "state_dict": module.state_dict(),
        }


def _rates(schedule: dict[str, Any], base: list[float], factor: float) -> dict[str, Any]:
    """A LambdaLR's state with other base rates."""
    lambdas = schedule["lr_lambdas"][:1] * len(base)
    return schedule | {"base_lrs": base, "_last_lr": [lr * factor for lr in base], "lr_lambdas": lambdas}

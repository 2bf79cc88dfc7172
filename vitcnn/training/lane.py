"""One cell in training: its network, its optimiser, and a step of training as one program.

A process trains one cell or several in parallel, each in its lane. Lanes share nothing but images.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitcnn.data.augment.augmentation import Augmentation, mixed_loss
from vitcnn.data.augment.spec import parse_augment
from vitcnn.data.batches import Feed, on_device
from vitcnn.data.preprocess import Preprocess
from vitcnn.data.rng import states
from vitcnn.errors import NotFiniteLoss
from vitcnn.models.build import decay_groups, memory_layout
from vitcnn.seeds import role_seed
from vitcnn.store.records import Point
from vitcnn.study.recipe import Recipe
from vitcnn.training.ranks import Rank

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's state of each parameter


class Lane(nn.Module):
    """AdamW, warm-up and cosine, label smoothing; every random number of step t is a function of `seed` and t alone.

    `program` is a whole step. Its inputs are on the device: `feed` has the batches of the next steps, `rates` their
    learning rates, `cursor` the index of the next one. It returns nothing and never waits for the device, so that it
    can be captured as a CUDA graph (`training.capture`).
    """

    def __init__(
        self,
        network: nn.Module,
        preprocess: Preprocess,
        recipe: Recipe,
        steps: int,
        seed: int,
        rank: Rank = Rank(),  # noqa: B008 (frozen)
    ):
        super().__init__()
        self.rank = rank
        self.layout = memory_layout(network)
        self.network = network.to(memory_format=self.layout)
        self.preprocess, self.recipe, self.steps, self.seed = preprocess, recipe, steps, seed
        self.curve: list[Point] = []
        self.failed: str | None = None  # why the loss is not finite
        self.eager_reason: str | None = None  # on a GPU, why its steps are not one captured graph
        self.position = 0  # steps done
        self.seconds, self.resumed = 0.0, 0  # of training, over all runs; how often it resumed from a checkpoint
        self.run: Callable[[], None] = self.program
        self.captured_at: list[int] | None = None  # the addresses that a captured step reads and writes
        self.stream: torch.cuda.Stream | None = None

    def start(self, feed: Feed) -> None:
        """Moves to the feed's device and creates the optimiser. Called before the first step or `restore`."""
        self.feed, device, B = feed, feed.device, self.recipe.batch_size
        self.to(device)
        self.augmentation = Augmentation(parse_augment(self.recipe.augment), feed.shape).to(device)
        self.offsets = torch.arange(B, device=device)[self.rank.share(B)]
        self.replica = [self.rank.parallel(self.network)]  # in a list: its parameters are the network's
        self.step, self.cursor = (torch.zeros(1, dtype=torch.int64, device=device) for _ in range(2))
        self.rates = torch.zeros(feed.capacity, device=device)
        # since the last point of the curve
        self.loss_sum, self.loss_count = (torch.zeros((), device=device) for _ in range(2))
        self.lr = torch.zeros((), device=device)
        self.optimizer = torch.optim.AdamW(
            decay_groups(self.network, self.recipe.weight_decay),
            lr=self.lr,
            fused=device.type in ("cpu", "cuda"),
            capturable=device.type == "cuda",
        )
        for p in self._trained():
            step = torch.zeros((), device=device if device.type == "cuda" else "cpu")
            self.optimizer.state[p] = dict(zip(MOMENTS, (step, torch.zeros_like(p), torch.zeros_like(p)), strict=True))

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (B, C, H, W) -> logits (B, classes) float32, in the precision of training."""
        return self._logits(self.network, images)

    def _logits(self, network: nn.Module, images: Tensor) -> Tensor:
        x = self.preprocess(images).to(memory_format=self.layout)
        half = self.recipe.precision == "bf16"
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half, cache_enabled=False):
            return network(x).float()

    def program(self) -> None:
        """One step of training."""
        rows, labels, lr = (
            part.index_select(0, self.cursor)[0] for part in (self.feed.rows, self.feed.labels, self.rates)
        )
        self.lr.copy_(lr)
        images = self.feed.pool.index_select(0, rows)
        numbers = self.step * self.recipe.batch_size + self.offsets  # positions in the endless sequence of epochs
        params = self.augmentation.sample_params(states(role_seed(self.seed, "augment"), numbers))
        self.optimizer.zero_grad()
        logits = self._logits(self.replica[0], self.augmentation(images, params))
        loss = mixed_loss(logits, labels, params, self.recipe.label_smoothing)
        loss.backward()
        if self.recipe.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        self.loss_sum += self.rank.mean(loss.detach())
        self.loss_count += 1
        self.step += 1
        self.cursor += 1

    def load(self, first: int, last: int) -> None:
        """Loads the program's inputs for steps `first` … `last` − 1."""
        if self.stream:  # after work on other streams: start-up, a point of the curve
            self.stream.wait_stream(torch.cuda.current_stream(self.feed.device))
        with self.on_stream():
            self.feed.load(first, last)
            rates = np.array([self.lr_at(step) for step in range(first, last)], np.float32)
            self.rates[: last - first] = on_device(rates, self.feed.device)
            self.step.fill_(first)
            self.cursor.zero_()

    def do(self, step: int) -> None:
        """Trains a loaded step. On a GPU it returns before the step is finished."""
        # random numbers of the network itself (drop path)
        own = (self.rank.index,) if self.rank.index else ()
        default_generator(self.feed.device).manual_seed(role_seed(self.seed, "order", step, 2, *own))
        with self.on_stream():
            self.run()
        self.position = step + 1

    def advance(self, first: int, last: int) -> None:
        """Trains steps `first` … `last` − 1."""
        self.load(first, last)
        for step in range(first, last):
            self.do(step)

    def release(self) -> "Lane":
        """Frees the memory of a captured step."""
        self.run, self.captured_at = self.program, None
        self.optimizer.zero_grad()
        return self

    def addresses(self) -> list[int]:
        """Memory addresses of the network's tensors."""
        return [value.data_ptr() for value in (*self.network.parameters(), *self.network.buffers())]

    def on_stream(self) -> AbstractContextManager:
        return torch.cuda.stream(self.stream) if self.stream else nullcontext()

    def lr_at(self, step: int) -> float:
        return self.recipe.lr * schedule_at(self.recipe.warmup, self.steps, step)

    def add_point(self, val_accuracy: float, val_nll: float) -> Point:
        """Adds a point to the curve, with the mean training loss since the last one. Raises NotFiniteLoss, with the
        step and the learning rate, if one of the two losses is not finite."""
        train_loss = (self.loss_sum / self.loss_count).item()
        for which, loss in (("training", train_loss), ("validation", val_nll)):
            if not math.isfinite(loss):
                at = f"at step {self.position} (learning rate {self.lr_at(self.position):.3g})"
                raise NotFiniteLoss(f"the {which} loss is {loss} {at}")
        self.loss_sum.zero_()
        self.loss_count.zero_()
        seen = self.position * self.recipe.batch_size
        self.curve.append(Point(images_seen=seen, train_loss=train_loss, val_accuracy=val_accuracy, val_nll=val_nll))
        return self.curve[-1]

    def _trained(self) -> Iterator[nn.Parameter]:
        return (p for group in self.optimizer.param_groups for p in group["params"])

    def changing(self) -> list[Tensor]:
        """All tensors that a training step changes and the next one reads."""
        moments = (value for p in self._trained() for value in self.optimizer.state[p].values())
        return [*self.network.parameters(), *self.network.buffers(), *moments, self.loss_sum, self.loss_count]

    def checkpoint(self) -> dict[str, Any]:
        """The state that `restore` loads, on any device: plain values and tensors."""
        names = {p: name for name, p in self.network.named_parameters()}
        return {
            "step": self.position,
            "network": self.network.state_dict(),
            "moments": {names[p]: self.optimizer.state[p] for p in self._trained()},
            "loss": (self.loss_sum, self.loss_count),
            "curve": [point.model_dump() for point in self.curve],
            "seconds": self.seconds,
            "resumed": self.resumed,
        }

    @torch.no_grad()
    def restore(self, checkpoint: dict[str, Any]) -> None:
        self.position = checkpoint["step"]
        self.network.load_state_dict(checkpoint["network"])
        named = dict(self.network.named_parameters())
        for name, moments in checkpoint["moments"].items():
            for key in MOMENTS:
                self.optimizer.state[named[name]][key].copy_(moments[key])
        for own, value in zip((self.loss_sum, self.loss_count), checkpoint["loss"], strict=True):
            own.copy_(value)
        self.curve = [Point.model_validate(point) for point in checkpoint["curve"]]
        self.seconds, self.resumed = checkpoint["seconds"], checkpoint["resumed"] + 1


def default_generator(device: torch.device) -> torch.Generator:
    """The generator that networks on the device use. (`torch.manual_seed` seeds all devices: 1.5 ms, measured.)"""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    if device.type == "mps":
        return torch.mps._get_default_mps_generator()
    return torch.default_generator


def schedule_at(warmup: float, steps: int, step: int) -> float:
    """The factor of the learning rate at `step`: linear warm-up over that share of the steps, then a cosine to 0
    (Loshchilov & Hutter 2017)."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

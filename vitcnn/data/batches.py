"""Images on the device: which make up step t, and how the network sees them.

Everything random is a function of the seed and the step alone, so a resumed run sees what an undisturbed one sees.
"""

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import IterableDataset

from vitcnn.data.cell_data import Images
from vitcnn.seeds import role_seed


class TrainStream(IterableDataset):
    """Batches of step `start` … `steps` − 1: (images (B, C, H, W) uint8, labels (B,) int64, the step).

    `images` is a tensor, or what stands for one and reads or makes a batch when it is its turn.

    The images come from an endless row of epochs, each a fresh permutation, cut into batches of exactly `batch_size`;
    so a budget in images is kept to the batch whatever n is. (No `__len__`: Lightning would count a resumed stream's
    batches from 0 and begin it again too early.)
    """

    def __init__(self, images: Images, labels: Tensor, *, batch_size: int, steps: int, seed: int, start: int = 0):
        self.images, self.labels = images, labels
        self.batch_size, self.steps, self.seed, self.start = batch_size, steps, seed, start
        self._epoch: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, int]]:
        for step in range(self.start, self.steps):
            index = torch.from_numpy(self.indices(step)).to(self.labels.device, non_blocking=True)
            yield self.images[index], self.labels[index], step

    def indices(self, step: int) -> np.ndarray:
        """Positions in the subset of the images of one step, (batch_size,)."""
        n, out = len(self.labels), []
        position, end = step * self.batch_size, (step + 1) * self.batch_size
        while position < end:
            epoch, offset = divmod(position, n)
            take = min(end - position, n - offset)
            out.append(self._permutation(epoch)[offset : offset + take])
            position += take
        return np.concatenate(out)

    def _permutation(self, epoch: int) -> np.ndarray:
        if self._epoch[0] != epoch:
            rng = np.random.default_rng(role_seed(self.seed, "order", epoch))
            self._epoch = epoch, rng.permutation(len(self.labels))
        return self._epoch[1]


class Eyes(torch.nn.Module):
    """From stored pixels to what the network sees: uint8 (B, C, H, W) -> float (B, C, S, S).

    Scaled to zero mean and unit deviation per channel, by the statistics of the training subset, then resized to the
    network's own size S (bilinear; antialiased where it shrinks). With `order`, pixels change places before that, and
    nearest neighbours enlarge: no pixel is mixed with one that came to stand beside it.
    """

    def __init__(self, size: int, mean: Tensor, std: Tensor, order: Tensor | None = None):
        super().__init__()
        self.size = size
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("mean", mean[..., None, None], persistent=False)
        self.register_buffer("std", std[..., None, None], persistent=False)

    @classmethod
    def of(cls, images: Images, size: int, order: Tensor | None = None) -> "Eyes":
        """With the statistics of `images` (N, C, H, W) uint8."""
        counts = []
        for start in range(0, len(images), 1000):  # bounds the memory that counting takes
            chunk = images[start : start + 1000].transpose(0, 1).flatten(1)
            counts.append(torch.stack([torch.bincount(channel, minlength=256) for channel in chunk]))
        histogram = torch.stack(counts).sum(0).double()
        values, weight = torch.arange(256, dtype=torch.float64, device=histogram.device) / 255, histogram.sum(1)
        mean = histogram @ values / weight
        variance = histogram @ values**2 / weight - mean**2
        return cls(size, mean.float(), variance.clamp_min(1e-6).sqrt().float(), order)

    @classmethod
    def together(cls, several: Sequence["Eyes"]) -> "Eyes":
        """K eyes of one size and order as one, for K batches of like length end to end: each batch with its own."""
        mean, std = (torch.stack([getattr(one, part)[..., 0, 0] for one in several]) for part in ("mean", "std"))
        return cls(several[0].size, mean, std, several[0].order)

    def forward(self, images: Tensor) -> Tensor:
        if self.order is not None:
            images = images.flatten(2)[..., self.order].view(images.shape)
        mean, std = self.mean, self.std
        if mean.ndim == 4:  # of K sets of images, whose batches lie end to end
            mean, std = (part.repeat_interleave(len(images) // len(part), 0) for part in (mean, std))
        x = (images.float() / 255 - mean) / std
        if x.shape[-2:] == (self.size, self.size):
            return x
        rows, columns = (resizing(side, self.size, self.order is not None).to(x) for side in x.shape[-2:])
        with torch.autocast(x.device.type, enabled=False):
            return rows @ (x @ columns.T)


@cache
def resizing(before: int, after: int, sharp: bool) -> Tensor:
    """(after, before): the matrix that resizes one side of an image. torch's `interpolate` as a product, which enlarges
    two to five times as fast on a CPU. `sharp`: nearest neighbours enlarge."""
    one = torch.eye(before)[None, None]
    if sharp and after >= before:
        return F.interpolate(one, (after, before), mode="nearest-exact")[0, 0]
    return F.interpolate(one, (after, before), mode="bilinear", antialias=after < before)[0, 0]

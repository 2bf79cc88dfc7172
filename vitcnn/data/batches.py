"""Which images make up step t, and their transfer to the training device.

The order is a function of the seed and the step alone, so a resumed run sees the same images as an uninterrupted one.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from vitcnn.data.cell_data import Images, OnDisk, resident
from vitcnn.seeds import role_seed


class TrainStream(IterableDataset):
    """Batches of steps `start` … `steps` − 1: (images (B, C, H, W) uint8, labels (B,) int64, the step).

    `images` is a tensor, or an object that reads or generates a batch when it is indexed.

    Images come from an endless sequence of epochs, each a fresh permutation, cut into batches of exactly `batch_size`.
    So a budget in images is exact to the batch for every n. Of several processes that train one cell, each has a
    `share` of every batch.
    """

    def __init__(
        self,
        images: Images,
        labels: Tensor,
        *,
        batch_size: int,
        steps: int,
        seed: int,
        start: int = 0,
        share: slice = slice(None),
    ):
        self.images, self.labels, self.share = images, labels, share
        self.batch_size, self.steps, self.seed, self.start = batch_size, steps, seed, start
        self.each = len(range(batch_size)[share])  # images of a batch
        self._epoch: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, int]]:
        for step in range(self.start, self.steps):
            index = torch.from_numpy(self.indices(step)).to(self.labels.device, non_blocking=True)
            yield self.images[index], self.labels[index], step

    def indices(self, step: int) -> np.ndarray:
        """Positions in the subset of the images of one step, (each,)."""
        n, out = len(self.labels), []
        position, end = step * self.batch_size, (step + 1) * self.batch_size
        while position < end:
            epoch, offset = divmod(position, n)
            take = min(end - position, n - offset)
            out.append(self._permutation(epoch)[offset : offset + take])
            position += take
        return np.concatenate(out)[self.share]

    def _permutation(self, epoch: int) -> np.ndarray:
        if self._epoch[0] != epoch:
            rng = np.random.default_rng(role_seed(self.seed, "order", epoch))
            self._epoch = epoch, rng.permutation(len(self.labels))
        return self._epoch[1]


STAGED = 2**28  # largest buffer of images read or generated ahead, in bytes


class Feed:
    """Batches at fixed addresses on a device. Once `load(first, last)` was called, row k of `rows` (capacity, B) holds
    the places in `pool` (N, C, H, W) of the images of step `first` + k, row k of `labels` (capacity, B) their labels.

    `pool` holds all images if they fit in memory, else the batches of the next steps, filled by `load`.
    """

    def __init__(self, stream: TrainStream, device: torch.device, capacity: int):
        self.stream, self.device, B = stream, device, stream.each
        self.shape = stream.images[:1].shape[1:]
        self.staged = resident(stream.images, torch.zeros(1, dtype=torch.int64)) is None
        if self.staged:
            capacity = max(1, min(capacity, STAGED // (B * self.shape.numel())))
            self.pool = torch.empty(capacity * B, *self.shape, dtype=torch.uint8, device=device)
            self._batches = self._read_ahead()
        else:
            self.pool = resident(stream.images, on_device(stream.indices(stream.start), device))[0]
        self.capacity = capacity
        rows = torch.arange(capacity * B) if self.staged else torch.zeros(capacity * B, dtype=torch.int64)
        self.rows = rows.view(capacity, B).to(device)
        self.labels = torch.zeros(capacity, B, dtype=torch.int64, device=device)

    def load(self, first: int, last: int) -> None:
        """The batches of steps `first` … `last` − 1, at most `capacity`; of staged ones, each step once, in order."""
        count, B = last - first, self.stream.each
        if not self.staged:
            index = on_device(np.stack([self.stream.indices(step) for step in range(first, last)]), self.device)
            self.rows[:count] = resident(self.stream.images, index.flatten())[1].view(count, B)
            self.labels[:count] = self.stream.labels[index]
            return
        for place in range(count):
            images, labels, step = next(self._batches)
            if step != first + place:
                raise RuntimeError(f"the data is at step {step}, training at {first + place}")
            self.pool[place * B : (place + 1) * B].copy_(images, non_blocking=True)
            self.labels[place].copy_(labels, non_blocking=True)

    def _read_ahead(self) -> Iterator[tuple[Tensor, Tensor, int]]:
        if not isinstance(self.stream.images, OnDisk):
            return iter(self.stream)
        pinned = self.device.type == "cuda"
        return iter(DataLoader(self.stream, batch_size=None, num_workers=1, pin_memory=pinned))  # a process reads ahead


def on_device(values: np.ndarray, device: torch.device) -> Tensor:
    """Copies to the device without waiting for it."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)

"""Tensor-like access to images that are generated on demand."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vitcnn.data.sources.cache import Arrays, Info, duplicates
from vitcnn.data.synthetic import fractals
from vitcnn.data.synthetic.spec import TEST, Synthetic

CHUNK = 1000  # images generated at once
ORIGIN = "made from seeds"
SAMPLE = 10_000  # training and test images used for the leak check and pixel statistics


class Generator(NamedTuple):
    """`images(stream, numbers (B,) int64)` -> (B, C, H, W) uint8, on the numbers' device."""

    info: Info
    images: Callable[[int, Tensor], Tensor]

    def labels(self, numbers: Tensor) -> Tensor:
        """(B,) int64, on the numbers' device."""
        return numbers % self.info.classes


def generator(spec: Synthetic, device: torch.device) -> Generator:
    how = spec.options
    systems = fractals.Systems(*(part.to(device) for part in fractals.categories(how.classes, how.seed)))
    return Generator(spec.info, partial(fractals.make, how, systems))


class LazyImages:
    """Like a tensor (N, C, H, W) uint8 on a device: images 0 … N − 1 of a stream, generated when indexed and, with
    `remember`, kept."""

    def __init__(self, source: Generator, stream: int, count: int, device: torch.device, remember: bool):
        self.source, self.stream, self.count, self.device, self.remember = source, stream, count, device, remember
        self.image_shape = (source.info.channels, source.info.size, source.info.size)
        self._generated = 0
        self._known: Tensor | None = None  # (N,) bool: which of `_images` are there
        self._images: Tensor | None = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        if isinstance(index, slice):
            index = torch.arange(*index.indices(self.count), device=self.device)
        return self.kept(index)[index] if self.remember else self._make(index)

    def kept(self, index: Tensor) -> Tensor:
        """(N, C, H, W), in which images `index` (M,) are filled in; the same tensor at every call."""
        if self._images is None:
            # on a CPU takes no memory until written to
            self._images = torch.empty(self.count, *self.image_shape, dtype=torch.uint8, device=self.device)
            self._known = torch.zeros(self.count, dtype=torch.bool, device=self.device)
        if self._generated < self.count:  # afterwards no synchronisation with a GPU is needed
            index = index.to(self.device)
            new = index[~self._known[index]].unique()
            for part in new.split(CHUNK):
                self._images[part] = self._make(part)
                self._known[part] = True
            self._generated += len(new)
        return self._images

    def _make(self, index: Tensor) -> Tensor:
        if len(index):
            return torch.cat([self.source.images(self.stream, part) for part in index.split(CHUNK)])
        return torch.empty(0, *self.image_shape, dtype=torch.uint8, device=self.device)

    def labels(self) -> Tensor:
        """(N,) int64."""
        return self.source.labels(torch.arange(self.count, device=self.device))


def subset_name(stream: int, n: int) -> str:
    """16 hexadecimal digits that identify images 0 … n − 1 of a stream."""
    return hashlib.sha256(f"{stream}:{n}".encode()).hexdigest()[:16]


def facts_of(train: Any, labels: Tensor, test: LazyImages) -> dict[str, Any]:
    """A record's facts on synthetic images: checksums and duplicates of the first 10,000 training and test images.
    `train`: like a tensor."""
    parts = []
    for images, of in ((train, labels), (test, test.labels())):
        parts += [images[:SAMPLE].cpu().permute(0, 2, 3, 1).contiguous().numpy(), of[:SAMPLE].cpu().numpy()]
    found = duplicates(Arrays(*parts))
    found.pop("which")
    sums = [hashlib.sha256(parts[place]).hexdigest() for place in (0, 2)]
    return {"origin": ORIGIN, "sha256": sums, **found, "looked_at": [len(parts[place]) for place in (1, 3)]}


def test_images(source: Generator, device: torch.device, remember: bool) -> LazyImages:
    return LazyImages(source, TEST, source.info.test, device, remember)

"""From stored pixels to a network's input."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitcnn.data.cell_data import Images


class Preprocess(nn.Module):
    """uint8 (B, C, H, H) -> float32 (B, C, S, S).

    Scaled to zero mean and unit deviation per channel, by the statistics of the training subset, then resized to the
    network's own size S (bilinear; antialiased where it shrinks). With `order`, pixels are permuted before that, and
    images are enlarged by nearest neighbour, so that permuted pixels are not mixed.
    """

    def __init__(self, side: int, size: int, mean: Tensor, std: Tensor, order: Tensor | None = None):
        super().__init__()
        self.size = size
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("mean", mean[..., None, None], persistent=False)
        self.register_buffer("std", std[..., None, None], persistent=False)
        matrix = None if side == size else resizing(side, size, nearest=order is not None)
        self.register_buffer("matrix", matrix, persistent=False)

    @classmethod
    def of(cls, images: Images, size: int, order: Tensor | None = None) -> "Preprocess":
        """With the statistics of `images` (N, C, H, H) uint8."""
        counts = []
        for start in range(0, len(images), 1000):  # bounds the memory that counting takes
            chunk = images[start : start + 1000].transpose(0, 1).flatten(1)
            counts.append(torch.stack([torch.bincount(channel, minlength=256) for channel in chunk]))
        total = torch.stack(counts).sum(0).cpu().double()  # some devices have no float64
        values, weight = torch.arange(256, dtype=torch.float64) / 255, total.sum(1)
        mean = total @ values / weight
        variance = total @ values**2 / weight - mean**2
        return cls(_side(images), size, mean.float(), variance.clamp_min(1e-6).sqrt().float(), order)

    def forward(self, images: Tensor) -> Tensor:
        if self.order is not None:
            images = images.flatten(2)[..., self.order].view(images.shape)
        x = (images.float() / 255 - self.mean) / self.std
        if self.matrix is None:
            return x
        with torch.autocast(x.device.type, enabled=False):
            return self.matrix @ (x @ self.matrix.T)


def _side(images: Images) -> int:
    """Pixels along a side."""
    return images[:1].shape[-1]


def resizing(before: int, after: int, nearest: bool) -> Tensor:
    """(after, before): the matrix that resizes one side of an image. torch's `interpolate` as a product, which enlarges
    two to five times as fast on a CPU. `nearest`: nearest neighbours enlarge."""
    one = torch.eye(before)[None, None]
    if nearest and after >= before:
        return F.interpolate(one, (after, before), mode="nearest-exact")[0, 0]
    return F.interpolate(one, (after, before), mode="bilinear", antialias=after < before)[0, 0]

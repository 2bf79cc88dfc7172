"""`deformed:NAME`: a small data set under random deformation, without end, as infinite MNIST (Loosli, Canu & Bottou
2007) makes 8 million digits of 60,000.

Every image draws an affine map (rotation, stretch, shear, shift) and an elastic field, random displacements on a grid
between which cubic B-splines go (in place of noise smoothed by a Gaussian: alike, and two products of matrices). Images
of a stream take the pool's images class by class in the stream's own random order, and again when all of a class were
taken; those of the test set, each of its images at most once.

Arithmetic is of integers (displacements in 1/256 pixel, bilinear weights in 1/256), so that a CPU and a GPU make the
same image. The products of matrices are in float64, where integers of this size, and their sums in any order, are
exact.
"""

from collections.abc import Callable
from functools import cache, cached_property

import numpy as np
import torch
from torch import Tensor

from vitcnn.data.rng import noisy, portions, random_bytes, random_uint16, states
from vitcnn.data.sources.cache import Arrays, Info
from vitcnn.data.subsets import split
from vitcnn.data.synthetic.spec import TEST, VALIDATION, Deformed
from vitcnn.errors import ConfigError

CELLS = 4  # of the elastic field, along a side
KNOTS = CELLS + 3
# At strength 1: up to so much either way, uniform (radians, about; shares of the side) …
ROTATION, STRETCH, SHEAR, SHIFT = 0.35, 0.2, 0.2, 0.1
ELASTIC = 0.1  # … and the deviation of a knot's displacement, of the side; the field's is half of that
CHUNK = 32  # images made at once on a CPU


class Deformer:
    """Makes the images of one data set under deformation. `info`: of the data set itself."""

    def __init__(self, how: Deformed, info: Info, arrays: Arrays):
        self.how, self.info, self.arrays = how, info, arrays
        self._bases: dict[int, Callable[[np.ndarray], np.ndarray]] = {}

    def images(self, stream: int, numbers: Tensor) -> Tensor:
        """Images `numbers` (B,) int64 of a stream -> (B, C, H, W) uint8 on their device."""
        pixels, out = self._pool(stream)[0], []
        for part in portions(numbers, CHUNK):
            base = torch.from_numpy(pixels[self.bases(stream, part.cpu().numpy())]).to(part.device)
            state = states(stream, part)
            images = warped(base.permute(0, 3, 1, 2), state, self.how.strength)
            out.append(noisy(images, self.how.noise, state, 64) if self.how.noise else images)
        return torch.cat(out)

    def labels(self, stream: int, numbers: Tensor) -> Tensor:
        """(B,) int64, of those images."""
        labels = self._pool(stream)[1][self.bases(stream, numbers.cpu().numpy())]
        return torch.from_numpy(labels.astype(np.int64)).to(numbers.device)

    def bases(self, stream: int, numbers: np.ndarray) -> np.ndarray:
        """Which image of the data set (of its test set, for the stream `TEST`) stands behind each number."""
        if stream not in self._bases:
            self._bases[stream] = self._order(stream)
        return self._bases[stream](numbers)

    def _order(self, stream: int) -> Callable[[np.ndarray], np.ndarray]:
        """Each class in random order. Of training and validation, number i is of class i mod classes, and a class
        begins again when all of it were taken; of the test, one of each class, then the next of each, all of them once.
        """
        _, labels, rows = self._pool(stream)
        rows = np.random.default_rng(stream).permutation(np.sort(rows))
        rows = rows[np.argsort(labels[rows], kind="stable")]
        count = np.bincount(labels[rows], minlength=self.info.classes)
        if not count.all():
            raise ConfigError(
                f"deformed:{self.info.name}: class {count.argmin()} has no image left for one of its pools"
            )
        first = np.cumsum(count) - count
        if stream == TEST:
            rows = rows[np.argsort(np.arange(len(rows)) - np.repeat(first, count), kind="stable")]
            return lambda numbers: rows[numbers]

        def again(numbers: np.ndarray) -> np.ndarray:
            round_, label = np.divmod(numbers, self.info.classes)
            return rows[first[label] + round_ % count[label]]

        return again

    def _pool(self, stream: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(images, labels, which of them may be drawn): of test, of what is kept for validation, of the rest."""
        if stream == TEST:
            labels = np.asarray(self.arrays.test_labels)
            return self.arrays.test_images, labels, np.arange(len(labels))
        train, held_out = self._pools
        rows = held_out if stream == VALIDATION else train
        return self.arrays.train_images, np.asarray(self.arrays.train_labels), rows

    @cached_property
    def _pools(self) -> tuple[np.ndarray, np.ndarray]:
        """Training images, and those that the data set itself keeps for validation."""
        labels = np.asarray(self.arrays.train_labels)
        held_out = split(labels, self.info.validation, 0, 0)[1]
        return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def warped(images: Tensor, state: Tensor, strength: float) -> Tensor:
    """(B, C, H, W) uint8, deformed by what each image's generator draws, from its bytes before 512. What comes in from
    outside is 0 in grey images, whose things lie on black, and the nearest pixel in others."""
    (B, _, H, W), device = images.shape, images.device
    moves = torch.zeros(B, 2, KNOTS + 2, KNOTS + 2, dtype=torch.int64, device=device)  # displacements, across and down
    knots = random_bytes(state, 0, KNOTS**2).view(B, 2, KNOTS, KNOTS, 4).int().sum(-1) - 510
    # as of a normal of deviation 148
    moves[..., :KNOTS, :KNOTS] = knots * round(strength * ELASTIC * H * 256 / 147.8 * 512) // 512
    affine = 2 * random_uint16(state, 50, 2)[:, :6] - 0xFFFF
    most = [ROTATION, SHEAR, STRETCH, STRETCH, 2 * SHIFT * W, 2 * SHIFT * H]
    most = torch.tensor([round(strength * share * 2**27) for share in most], device=device)
    turn, shear, wide, high, right, down = (affine * most // 0xFFFF).unbind(1)
    moves[:, 0, -1, -2], moves[:, 0, -2, -1], moves[:, 0, -1, -1] = wide, shear - turn, right
    moves[:, 1, -1, -2], moves[:, 1, -2, -1], moves[:, 1, -1, -1] = shear + turn, high, down
    rows, columns = (lines(side).to(device) for side in (H, W))
    field = (rows.T @ (moves.double() @ columns)).mul_(2**-20).floor_().int()
    x, y = field.unbind(1)
    x = x.add_(256 * torch.arange(W, dtype=torch.int32, device=device)).clamp_(-256, 256 * W)
    y = y.add_(256 * torch.arange(H, dtype=torch.int32, device=device)[:, None]).clamp_(-256, 256 * H)
    return _sampled(images, x, y)


def _sampled(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """(B, C, H, W) uint8 at the places x, y (B, H, W) in 1/256 pixel, at most one outside; bilinear, rounded."""
    if images.shape[1] == 1:
        framed = torch.nn.functional.pad(images, (1, 2, 1, 2))
    else:
        inside = [torch.arange(-1, side + 2, device=images.device).clamp_(0, side - 1) for side in images.shape[2:]]
        framed = images.index_select(2, inside[0]).index_select(3, inside[1])
    B, C, H, W = (*images.shape[:2], framed.shape[2] - 1, framed.shape[3] - 1)
    x, y = (place.flatten(1) + 256 for place in (x, y))
    four = torch.empty(B, C, H, W, 4, dtype=torch.uint8, device=images.device)
    for k in range(4):  # the pixel, its right, lower and lower right neighbour
        down, across = divmod(k, 2)
        four[..., k] = framed[..., down : H + down, across : W + across]
    plane = H * W * torch.arange(B * C, dtype=torch.int32, device=images.device).view(B, C, 1)
    where = ((y >> 8) * W + (x >> 8))[:, None] + plane
    picked = four.view(-1, 4).view(torch.int32)[:, 0].index_select(0, where.view(-1))
    corners = (corner.contiguous().int().view(B, C, -1) for corner in picked.view(torch.uint8).view(-1, 4).unbind(1))
    (a, b, c, d), fx, fy = corners, (x & 255)[:, None], (y & 255)[:, None]
    upper, lower = b.sub_(a).mul_(fx).add_(a, alpha=256), d.sub_(c).mul_(fx).add_(c, alpha=256)
    mixed = lower.sub_(upper).mul_(fy).add_(upper, alpha=256).add_(2**15)
    return (mixed >> 16).to(torch.uint8).view(images.shape)


@cache
def lines(side: int) -> Tensor:
    """(KNOTS + 2, side) float64 of integers: cubic B-splines about each knot in 1/1024, 1,024 together or nearly, the
    place from the middle in half pixels, and 1."""
    pixel = np.arange(side)
    distance = np.abs((pixel + 0.5) * CELLS / side - (np.arange(KNOTS) - 1)[:, None])
    near, far = 2 / 3 - distance**2 + distance**3 / 2, np.clip(2 - distance, 0, None) ** 3 / 6
    splines = np.rint(1024 * np.where(distance < 1, near, far))
    return torch.from_numpy(np.stack([*splines, 2.0 * pixel - side + 1, np.ones(side)]))

"""TrivialAugment (Wide): one of 14 operations per image, at one of 31 levels, both drawn uniformly; nothing to tune.

Müller & Hutter, TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation, 2021. Operations and levels are
those of `torchvision.transforms.TrivialAugmentWide`, which does one operation to a whole tensor. Here every image has
its own, in integer arithmetic: at most one grey level from torchvision's, and the same on every device.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitcnn.data.rng import below, histogram

BINS = 31
OPERATIONS = (
    *("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast"),
    *("Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize"),
)
COLOR, CONTRAST, SHARPNESS, AUTOCONTRAST, EQUALIZE = (
    OPERATIONS.index(name) for name in ("Color", "Contrast", "Sharpness", "AutoContrast", "Equalize")
)
PLACE = 11  # bits behind the point of where a pixel comes from; weights of its four neighbours fit into 32 bits
GREY = 19589, 38470, 7471  # 0.2989, 0.587, 0.114 in 1/2¹⁶, torchvision's weights of red, green and blue


class TrivialAugment(nn.Module):
    """For images of H×W pixels. Tables (operations, signed levels, …) hold what each operation does at each level; in
    every table all other operations do nothing."""

    def __init__(self, H: int, W: int):
        super().__init__()
        level = signed_levels(H, W)
        strength, mask, threshold = torch.zeros_like(level), torch.full_like(level, 255), torch.full_like(level, 256)
        strength[6:10] = (level[6:10] * 2**16).round()
        mask[10] = 256 - 2 ** (8 - level[10])
        threshold[11] = level[11].ceil()
        self.register_buffer("maps", affine_maps(level, H, W), persistent=False)
        for name, table in (("strength", strength), ("mask", mask), ("threshold", threshold)):
            self.register_buffer(name, table.int(), persistent=False)

    def sample_params(self, op: Tensor, level: Tensor, sign: Tensor) -> tuple[Tensor, Tensor]:
        """32 random bits for each of three choices -> (index into OPERATIONS, index into its signed levels), (B,)."""
        op = below(op, len(OPERATIONS))
        negative = (sign < 2**31) & (op >= 1) & (op <= SHARPNESS)
        return op, below(level, BINS) + BINS * negative

    def grouped(self, images: Tensor, op: Tensor, level: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> same. Images are sorted by operation; each is done to those it is for, at once."""
        order, counts = op.argsort(stable=True), op.bincount(minlength=len(OPERATIONS)).tolist()
        steps = (None, self._warp, *[self._enhance] * 4, self._posterize, self._solarize, _autocontrast, _equalize)
        sizes, done = [counts[0], sum(counts[1:6]), *counts[6:]], []
        for step, *part in zip(steps, *(x[order].split(sizes) for x in (images, op, level)), strict=True):
            done.append(step(*part) if step and len(part[0]) else part[0])
        return torch.cat(done).index_select(0, order.argsort())

    def dense(self, images: Tensor, op: Tensor, level: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> same: every operation is done to all images, and does nothing to most."""
        for step in (self._warp, self._enhance, self._posterize, self._solarize):
            images = step(images, op, level)
        for index, step in ((AUTOCONTRAST, _autocontrast), (EQUALIZE, _equalize)):
            images = torch.where((op == index)[:, None, None, None], step(images, op, level), images)
        return images

    def _warp(self, x: Tensor, op: Tensor, level: Tensor) -> Tensor:
        """Shears about the upper left corner, translations, and rotations about the middle; bilinear."""
        (H, W), device = x.shape[-2:], x.device
        x_x, x_y, x_0, y_x, y_y, y_0 = self.maps[op, level][:, :, None, None].unbind(1)
        X = 2 * torch.arange(W, dtype=torch.int32, device=device) - (W - 1)  # from the middle, in half pixels
        Y = 2 * torch.arange(H, dtype=torch.int32, device=device)[:, None] - (H - 1)
        x_from, y_from = x_x * X + x_y * Y + x_0, y_x * X + y_y * Y + y_0  # (B, H, W), in 1/2¹⁷ pixel
        half = 2 ** (16 - PLACE)
        x_from, y_from = (
            ((place + half) >> (17 - PLACE)).clamp(-(2**PLACE), side << PLACE)
            for place, side in ((x_from, W), (y_from, H))
        )
        framed = F.pad(x, (1, 2, 1, 2)).flatten(2)
        corner = ((y_from >> PLACE) + 1) * (W + 3) + (x_from >> PLACE) + 1
        corner = corner.long().flatten(1)[:, None]
        one = 2**PLACE
        right, down = (part.flatten(1)[:, None] & (one - 1) for part in (x_from, y_from))
        a, b, c, d = (framed.gather(2, (corner + step).expand(-1, x.shape[1], -1)) for step in (0, 1, W + 3, W + 4))
        upper, lower = a * (one - right) + b * right, c * (one - right) + d * right
        mixed = (upper * (one - down) + lower * down + 2 ** (2 * PLACE - 1)) >> (2 * PLACE)
        return mixed.to(torch.uint8).view(x.shape)

    def _enhance(self, x: Tensor, op: Tensor, level: Tensor) -> Tensor:
        """(1 + strength) · x − strength · toward: away from black (brightness), from grey (colour), from the mean grey
        (contrast), or from the smoothed image (sharpness)."""
        wide, op = x.int(), op[:, None, None, None]
        grey = _grey(wide)
        mean = (64 * grey.sum((1, 2, 3), keepdim=True) // grey.shape[2:].numel()).int()
        toward = torch.where(op == COLOR, 64 * grey, torch.zeros_like(wide))  # in 1/64
        toward = torch.where(op == CONTRAST, mean, toward)
        toward = torch.where(op == SHARPNESS, 64 * _smooth(wide), toward)
        strength = self.strength[op.flatten(), level][:, None, None, None]
        return (((wide << 22) + strength * (64 * wide - toward)) >> 22).clamp(0, 255).to(torch.uint8)

    def _posterize(self, x: Tensor, op: Tensor, level: Tensor) -> Tensor:
        return x & self.mask[op, level].to(torch.uint8)[:, None, None, None]

    def _solarize(self, x: Tensor, op: Tensor, level: Tensor) -> Tensor:
        return torch.where(x >= self.threshold[op, level][:, None, None, None], ~x, x)


def levels(H: int, W: int) -> Tensor:
    """(operations, bins) -> the levels without their sign, as torchvision has them.

    But a translation goes up to 0.45 of the side, 14 of 32 pixels, as in AutoAugment, RandAugment and timm. The paper's
    32 pixels for images of any size, torchvision's too, move a CIFAR image out of the picture. Whole pixels.
    """
    up, none = torch.linspace(0, 1, BINS), torch.zeros(BINS)
    translations = [(0.45 * side * up).floor() for side in (W, H)]
    enhancements, posterized, solarized = [0.99 * up] * 4, 8 - (6 * up).round(), 255 * (1 - up)
    return torch.stack(
        [none, 0.99 * up, 0.99 * up, *translations, 135 * up, *enhancements, posterized, solarized, none, none]
    )


def signed_levels(H: int, W: int) -> Tensor:
    """(operations, 2 · bins): the levels, then those of the other sign where an operation has both."""
    positive = levels(H, W)
    negative = positive.clone()
    negative[1 : SHARPNESS + 1] *= -1
    return torch.cat([positive, negative], 1)


def affine_maps(level: Tensor, H: int, W: int) -> Tensor:
    """`signed_levels` -> (operations, signed levels, 6) int32: where the pixel at (X, Y) half pixels from the middle
    comes from, x = aX + bY + c and y = dX + eY + f in 1/2¹⁷ pixel from the first one."""
    shear_x, shear_y, right, down, turn = torch.zeros(5, *level.shape, dtype=torch.float64)
    for k, part in enumerate((shear_x, shear_y, right, down, turn), 1):
        part[k] = level[k]
    cos, sin = turn.deg2rad().cos(), turn.deg2rad().sin()
    x = torch.stack([cos, shear_x - sin, shear_x * H - 2 * right + W - 1], -1)
    y = torch.stack([sin + shear_y, cos, shear_y * W - 2 * down + H - 1], -1)
    return (torch.cat([x, y], -1) * 2**16).round().int()


def _grey(x: Tensor) -> Tensor:
    """(B, C, H, W) int32 -> (B, 1, H, W), rounded down as torchvision does."""
    if x.shape[1] == 1:
        return x
    red, green, blue = x.unbind(1)
    return ((red * GREY[0] + green * GREY[1] + blue * GREY[2]) >> 16)[:, None]


def _smooth(x: Tensor) -> Tensor:
    """By PIL's 3×3 kernel, ones about a 5, rounded; the border stays. (B, C, H, W) int32 -> same."""
    rows = x[..., :-2, :] + x[..., 1:-1, :] + x[..., 2:, :]
    around = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    out = x.clone()
    out[..., 1:-1, 1:-1] = (around + 4 * x[..., 1:-1, 1:-1] + 6) // 13
    return out


def _autocontrast(x: Tensor, _op: Tensor, _level: Tensor) -> Tensor:
    """Each channel's darkest value becomes 0 and its brightest 255; one of a single value stays."""
    low, high = x.amin((2, 3), keepdim=True).int(), x.amax((2, 3), keepdim=True).int()
    return torch.where(high > low, (x.int() - low) * 255 // (high - low).clamp_min(1), x.int()).to(torch.uint8)


def _equalize(x: Tensor, _op: Tensor, _level: Tensor) -> Tensor:
    """Each channel's values are spread so that all are about as frequent, as PIL does."""
    B, C, H, W = x.shape
    values = x.reshape(B * C, H * W).long()
    counts = histogram(values, 256)
    step = (H * W - counts.gather(1, values.amax(1, keepdim=True))) // 255  # without the brightest value's
    table = (counts.cumsum(1) - counts + step // 2) // step.clamp_min(1)
    spread = table.clamp(0, 255).gather(1, values)
    return torch.where(step > 0, spread, values).to(torch.uint8).view(x.shape)

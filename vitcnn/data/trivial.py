"""TrivialAugment (Wide): one operation an image, of 14, at one level, of 31, both drawn uniformly; nothing to tune.

Müller & Hutter, TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation, 2021. Operations and levels are
those of `torchvision.transforms.TrivialAugmentWide`, which does one operation to a whole tensor.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

BINS = 31
OPERATIONS = (
    *("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast"),
    *("Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize"),
)


def draw_operations(count: int, H: int, W: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """For images of H×W pixels: (index into OPERATIONS (count,), level (count,) in the operation's own units)."""
    op = torch.randint(len(OPERATIONS), (count,), generator=generator)
    level = levels(H, W)[op, torch.randint(BINS, (count,), generator=generator)]
    sign = 1 - 2 * torch.randint(2, (count,), generator=generator)
    both_ways = (op >= OPERATIONS.index("ShearX")) & (op <= OPERATIONS.index("Sharpness"))
    return op, torch.where(both_ways, sign * level, level)


@cache
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


def operate(images: Tensor, op: Tensor, level: Tensor) -> Tensor:
    """(B, C, H, W) uint8, C = 1 or 3; op and level (B,) on the CPU -> the same shape, each image after its own.

    They are sorted by operation, so that each operation is done at once, the geometric ones together.
    """
    order, counts = op.argsort(stable=True), op.bincount(minlength=len(OPERATIONS)).tolist()
    steps = (_identity, _warp, _brightness, _color, _contrast, _sharpness, _posterize, _solarize, _stretch, _equalize)
    sizes = [counts[0], sum(counts[1:6]), *counts[6:]]
    sorted_op, sorted_level = (
        part[order].to(images.device, non_blocking=True)[:, None, None, None] for part in (op, level)
    )
    parts = (
        part.split(sizes)
        for part in (images.index_select(0, order.to(images.device, non_blocking=True)), sorted_level, sorted_op)
    )
    done = [step(*part) if len(part[0]) else part[0] for step, *part in zip(steps, *parts, strict=True)]
    return torch.cat(done).index_select(0, order.argsort().to(images.device, non_blocking=True))


def _identity(x: Tensor, _level: Tensor, _op: Tensor) -> Tensor:
    return x


def _warp(x: Tensor, level: Tensor, op: Tensor) -> Tensor:
    """Shears about the upper left corner, translations, and rotations about the middle.

    Bilinear: the paper's nearest neighbour turns on the last bit of a coordinate, which differs between CPU and GPU.
    """
    (H, W), names = x.shape[-2:], OPERATIONS[1:6]
    shear_x, shear_y, right, down, turn = (level * (op == OPERATIONS.index(name)) for name in names)
    cos, sin = turn.deg2rad().cos(), turn.deg2rad().sin()
    X = torch.arange(W, device=x.device) + (0.5 - W / 2)  # from the middle, in pixels
    Y = torch.arange(H, device=x.device)[:, None] + (0.5 - H / 2)
    # where each pixel comes from, x + iy, is the sum of what its column and its row contribute; a matrix product would
    # be rounded to bfloat16 under autocast, and to TF32 on some GPUs
    by_column = torch.complex(cos * X / (W / 2), (sin + shear_y) * X / (H / 2))  # (n, 1, 1, W)
    from_x, from_y = (shear_x - sin) * Y + shear_x * (H / 2) - right, cos * Y + shear_y * (W / 2) - down
    grid = torch.view_as_real(by_column + torch.complex(from_x / (W / 2), from_y / (H / 2)))[:, 0]
    return F.grid_sample(x.float(), grid, align_corners=False).round().to(torch.uint8)


def _blend(x: Tensor, toward: Tensor | float, level: Tensor) -> Tensor:
    """(1 + level) · x − level · toward: away from it where the level is above 0."""
    return x.mul(1 + level).sub_(toward * level).clamp_(0, 255).to(torch.uint8)


def _brightness(x: Tensor, level: Tensor, _op: Tensor) -> Tensor:
    return _blend(x, 0.0, level)


def _color(x: Tensor, level: Tensor, _op: Tensor) -> Tensor:
    return x if x.shape[1] == 1 else _blend(x, TF.rgb_to_grayscale(x), level)


def _contrast(x: Tensor, level: Tensor, _op: Tensor) -> Tensor:
    return _blend(x, TF.rgb_to_grayscale(x).float().mean((1, 2, 3), keepdim=True), level)


def _sharpness(x: Tensor, level: Tensor, _op: Tensor) -> Tensor:
    """Away from the image smoothed by PIL's 3×3 kernel (ones about a 5); the border stays."""
    out = x.float()
    inner, rows = out[..., 1:-1, 1:-1], out[..., :-2, :] + out[..., 1:-1, :] + out[..., 2:, :]
    around = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = around.add_(inner, alpha=4).div_(13).round_()
    inner.add_(smooth.sub_(inner).mul_(-level))
    return out.clamp_(0, 255).to(torch.uint8)


def _posterize(x: Tensor, level: Tensor, _op: Tensor) -> Tensor:
    return x & (255 << (8 - level.int())).to(torch.uint8)  # the level: bits that are kept


def _solarize(x: Tensor, level: Tensor, _op: Tensor) -> Tensor:
    return torch.where(x >= level, ~x, x)


def _stretch(x: Tensor, _level: Tensor, _op: Tensor) -> Tensor:
    return TF.autocontrast(x)


def _equalize(x: Tensor, _level: Tensor, _op: Tensor) -> Tensor:
    return TF.equalize(x)

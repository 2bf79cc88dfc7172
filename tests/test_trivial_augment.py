"""TrivialAugment: each operation is torchvision's, at levels drawn as often as each other."""

import math
from collections.abc import Callable

import pytest
import scipy.stats
import torch
from augmenting import apply, drawn, pictures, smooth
from torch import Tensor
from torchvision.transforms import InterpolationMode, TrivialAugmentWide
from torchvision.transforms.v2 import functional as TF

from vitcnn.data.augment.trivial_augment import BINS, OPERATIONS, TrivialAugment, levels, signed_levels

# ---- TrivialAugment ----


def operate(images: Tensor, op: Tensor, level: Tensor) -> Tensor:
    """Both forms, which must agree on every pixel."""
    trivial = TrivialAugment(*images.shape[-2:])
    out = trivial.grouped(images, op, level)
    assert torch.equal(trivial.dense(images, op, level), out)
    return out


def bilinear(image: Tensor, *, shear: tuple[float, float] = (0, 0), **how) -> Tensor:
    plain = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [math.degrees(math.atan(s)) for s in shear]}
    return TF.affine(image, **plain | how, interpolation=InterpolationMode.BILINEAR)


THEIRS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "Identity": lambda image, _: image,
    "ShearX": lambda image, level: bilinear(image, shear=(level, 0), center=[0, 0]),
    "ShearY": lambda image, level: bilinear(image, shear=(0, level), center=[0, 0]),
    "TranslateX": lambda image, level: bilinear(image, translate=[int(level), 0]),
    "TranslateY": lambda image, level: bilinear(image, translate=[0, int(level)]),
    "Rotate": lambda image, level: TF.rotate(image, level, interpolation=InterpolationMode.BILINEAR),
    "Brightness": lambda image, level: TF.adjust_brightness(image, 1 + level),
    "Color": lambda image, level: TF.adjust_saturation(image, 1 + level),
    "Contrast": lambda image, level: TF.adjust_contrast(image, 1 + level),
    "Sharpness": lambda image, level: TF.adjust_sharpness(image, 1 + level),
    "Posterize": lambda image, level: TF.posterize(image, int(level)),
    "Solarize": TF.solarize,
    "AutoContrast": lambda image, _: TF.autocontrast(image),
    "Equalize": lambda image, _: TF.equalize(image),
}
EXACT = {"Identity", "TranslateX", "TranslateY", "Posterize", "Solarize", "Equalize"}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_at_each_of_its_levels_is_torchvisions(name, channels):
    op = OPERATIONS.index(name)
    level = torch.arange(2 * BINS if 1 <= op <= 9 else BINS).repeat(2)
    count = len(level) // 2
    images = torch.cat([smooth(count, channels), pictures(count, channels, 32)])
    ours = operate(images, torch.full((2 * count,), op), level)
    theirs = signed_levels(32, 32)[op][level].tolist()
    theirs = torch.stack([THEIRS[name](image, at) for image, at in zip(images, theirs, strict=True)])
    apart = (ours.int() - theirs.int()).abs()
    assert apart.max() <= (0 if name in EXACT else 1)
    # the weights of neighbours are in 1/2048; torchvision's float32 can fall just below a whole number, and is cut off
    most = {"ShearX": 0.03, "ShearY": 0.03, "Rotate": 0.03, "AutoContrast": 0.1}.get(name, 0.01)
    assert (apart > 0).float().mean() < most


def test_levels_are_torchvisions_but_translations_go_to_045_of_the_side():
    ours = dict(zip(OPERATIONS, levels(32, 32), strict=True))
    theirs = TrivialAugmentWide()._augmentation_space(31)
    assert list(theirs) == list(OPERATIONS)
    for name, (level, _) in theirs.items():
        if not name.startswith("Translate"):
            assert torch.allclose(ours[name], level.float().expand(31), atol=1e-4), name
    for size, most in ((8, 3), (28, 12), (32, 14), (224, 100)):
        for name in ("TranslateX", "TranslateY"):
            assert levels(size, size)[OPERATIONS.index(name)].unique().tolist() == sorted(
                {int(0.45 * size * k / 30 + 1e-4) for k in range(31)}
            )
            assert levels(size, size)[OPERATIONS.index(name)].max() == most


def test_every_operation_and_level_is_drawn_as_often_and_both_ways():
    draws = drawn("trivial", torch.empty(60_000, 1, 32, 32, dtype=torch.uint8))
    counts = draws.op.bincount(minlength=14)
    assert scipy.stats.chisquare(counts.numpy()).pvalue > 1e-4
    for op, (_, signed) in enumerate(TrivialAugmentWide()._augmentation_space(31).values()):
        level = signed_levels(32, 32)[op][draws.level[draws.op == op]]
        assert bool((level < 0).any()) == signed
        if signed:
            assert abs((level > 0).float().mean() - (level < 0).float().mean()) < 0.06
        assert {round(v, 4) for v in level.abs().unique().tolist()} == {
            round(v, 4) for v in levels(32, 32)[op].unique().tolist()
        }


def test_each_image_gets_its_own_operation_at_its_own_level():
    images = smooth(100)
    draws = drawn("trivial", images)
    assert draws.op.unique().numel() == 14
    together = apply("trivial", images, draws)
    for k in range(100):
        assert torch.equal(operate(images[k : k + 1], draws.op[k : k + 1], draws.level[k : k + 1])[0], together[k])


def test_color_leaves_grey_images_alone():
    images, op = pictures(31, channels=1), torch.full((31,), OPERATIONS.index("Color"))
    assert torch.equal(operate(images, op, torch.arange(BINS)), images)

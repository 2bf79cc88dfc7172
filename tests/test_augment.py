"""Augmentation: what is drawn is what is done, alike on every device; each operation is torchvision's."""

import hashlib
import math
from collections.abc import Callable

import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import InterpolationMode, TrivialAugmentWide
from torchvision.transforms.v2 import functional as TF

from vitcnn.data.augment.augmentation import Augmentation, AugmentParams, mixed_loss
from vitcnn.data.augment.spec import Augment, parse_augment, write_out
from vitcnn.data.augment.trivial_augment import BINS, OPERATIONS, TrivialAugment, levels, signed_levels
from vitcnn.data.rng import states
from vitcnn.data.sources.registry import BUILT_IN
from vitcnn.study.matrix import cells

STRONG = write_out("strong", 32, True)


def pictures(count: int, channels: int = 3, size: int = 6, seed: int = 0) -> Tensor:
    """Random uint8 images without a 0, so that what was filled in is known."""
    return torch.randint(1, 256, (count, channels, size, size), generator=generator(seed), dtype=torch.uint8)


def smooth(count: int, channels: int = 3, size: int = 32) -> Tensor:
    """Images with neighbours alike and their own range of grey, as photographs have."""
    small = torch.rand(count, channels, 4, 4, generator=generator(5))
    low, high = torch.rand(2, count, channels, 1, 1, generator=generator(6)).sort(0).values * 255
    return (low + (high - low) * F.interpolate(small, (size, size), mode="bilinear")).round().to(torch.uint8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(text: str, images: Tensor, seed: int = 0) -> AugmentParams:
    return Augmentation(parse_augment(text), images.shape[1:]).sample_params(states(seed, torch.arange(len(images))))


def apply(text: str, images: Tensor, params: AugmentParams) -> Tensor:
    """Both forms, which must agree on every pixel."""
    augmentation = Augmentation(parse_augment(text), images.shape[1:])
    out = augmentation(images, params)
    assert torch.equal(augmentation.dense(images, params), out)
    return out


def augmented(text: str, images: Tensor, seed: int = 0) -> Tensor:
    return apply(text, images, drawn(text, images, seed))


def same(first: AugmentParams, second: AugmentParams, names: tuple[str, ...] = AugmentParams._fields) -> bool:
    pairs = [(getattr(first, name), getattr(second, name)) for name in names]
    return all(b is None if a is None else torch.equal(a, b) for a, b in pairs)


# ---- flips and shifts ----


@pytest.mark.parametrize(
    ("how", "channels", "size", "digest"),
    [
        ("none", 3, 32, "fb0a0e2d5147118c"),
        ("flip", 1, 28, "b9789f8c83b6e405"),
        ("flip", 3, 32, "fd50fb9665ab07c0"),
        ("shift:1", 1, 8, "31883fc35141bfcb"),
        ("shift:4", 3, 32, "2d2307421ab2bb10"),
        ("shift:12", 3, 8, "92fde92d0b70d9f3"),
        ("flip+shift:2", 1, 28, "8868f3bcdfd56911"),
        ("flip+shift:4", 3, 32, "b6057652a0eab815"),
        ("shift:4+flip", 3, 32, "b6057652a0eab815"),
        ("trivial", 3, 32, "08c80f44f4909c7c"),
        (STRONG, 3, 32, "2eed1a8c8d6aab30"),
        (STRONG, 1, 28, "8c4e981a8c603bde"),
    ],
)
def test_the_images_of_a_seed_are_the_same_in_every_version(how, channels, size, digest):
    images = torch.arange(64 * channels * size**2).mul(37).remainder(251).to(torch.uint8)
    out = augmented(how, images.view(64, channels, size, size), 20)
    assert hashlib.sha256(out.contiguous().numpy().tobytes()).hexdigest()[:16] == digest


def test_none_leaves_the_images_alone():
    assert drawn("none", pictures(5)) == AugmentParams()
    assert torch.equal(augmented("none", pictures(5)), pictures(5))


@pytest.mark.parametrize("shift", [1, 2, 7])
def test_a_shift_moves_each_image_by_whole_pixels_and_fills_with_zero(shift):
    """Every result is one of the (2·shift + 1)² crops of the zero-padded image, made one by one."""
    images = pictures(40)
    out = augmented(f"shift:{shift}", images)
    assert (out.shape, out.dtype) == (images.shape, images.dtype)
    size, draws = images.shape[-1], range(2 * shift + 1)
    found = set()
    for image, moved in zip(images, out, strict=True):
        padded = F.pad(image, (shift,) * 4)
        fits = [(y, x) for y in draws for x in draws if torch.equal(padded[:, y : y + size, x : x + size], moved)]
        assert fits
        found.update(fits[:1])
    assert len(found) > 5  # of 9 or more: each image has a draw of its own


def test_shifts_reach_every_place_up_to_the_largest():
    """A single bright pixel in the middle shows where each image went."""
    images = torch.zeros(400, 1, 7, 7, dtype=torch.uint8)
    images[:, :, 3, 3] = 1
    where = augmented("shift:2", images)[:, 0].nonzero()[:, 1:] - 3
    assert len(where) == 400
    assert {tuple(w) for w in where.tolist()} == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}


def test_a_flip_mirrors_some_images_left_to_right_and_leaves_the_others():
    images = pictures(200)
    out = augmented("flip", images)
    mirrored = (out == images.flip(-1)).all((1, 2, 3))
    assert (mirrored | (out == images).all((1, 2, 3))).all()
    assert 70 < mirrored.sum() < 130


def test_flip_and_shift_are_both_done():
    images = pictures(200)
    out = augmented("flip+shift:1", images)
    alone = F.pad(images, (1,) * 4)
    crops = [alone[:, :, y : y + 6, x : x + 6] for y in range(3) for x in range(3)]
    straight = torch.stack([(out == c).all((1, 2, 3)) for c in crops]).any(0)
    flipped = torch.stack([(out == c.flip(-1)).all((1, 2, 3)) for c in crops]).any(0)
    assert (straight | flipped).all()
    assert straight.any()
    assert flipped.any()


# ---- draws ----


@pytest.mark.parametrize("how", ["flip", "shift:1", "trivial", "erase:0.5", "mixup:0.2", "cutmix:1", STRONG])
def test_the_same_seed_gives_the_same_images_and_another_does_not(how):
    images = pictures(30, size=12)
    first = augmented(how, images, 1)
    assert torch.equal(first, augmented(how, images, 1))
    assert not torch.equal(first, augmented(how, images, 2))


def test_another_part_later_in_the_order_leaves_the_draws_of_the_earlier_ones_as_they_were():
    parts = ["flip", "shift:2", "trivial", "erase:0.5", "cutmix:1"]
    images = pictures(20)
    whole = drawn("+".join(parts), images)
    used = ("mirrored", "offset", "op", "level", "erase", "state")
    for count in range(1, len(parts)):
        some = drawn("+".join(parts[:count]), images)
        assert same(some, whole, tuple(name for name in used if getattr(some, name) is not None))


def test_parts_are_done_in_the_same_order_however_they_are_written():
    images = pictures(20)
    written = STRONG.split("+")
    assert torch.equal(augmented(STRONG, images), augmented("+".join(written[::-1]), images))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 28, 32])
def test_everything_at_once_works_and_the_given_images_stay_as_they_are(channels, size):
    images = pictures(64, channels, size)
    before = images.clone()
    out = augmented(f"{STRONG}+shift:2", images)
    assert (out.shape, out.dtype) == (images.shape, torch.uint8)
    assert torch.equal(images, before)
    assert (out != images).flatten(1).any(1).all()


def test_images_that_lie_otherwise_in_memory_are_augmented_alike():
    images = pictures(40, size=16)
    out = augmented(f"{STRONG}+shift:2", images)
    for other in (images.to(memory_format=torch.channels_last), images.repeat(1, 1, 2, 2)[..., :16, 16:]):
        assert torch.equal(augmented(f"{STRONG}+shift:2", other), out)


def test_half_precision_of_training_changes_no_pixel():
    images = smooth(60)
    with torch.autocast("cpu", torch.bfloat16):
        low = augmented(STRONG, images)
    assert torch.equal(low, augmented(STRONG, images))


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


# ---- erasing ----


def test_a_rectangle_of_some_images_becomes_noise_and_nothing_else_changes():
    images = torch.zeros(1000, 3, 32, 32, dtype=torch.uint8)
    draws = drawn("erase:0.25", images)
    out = apply("erase:0.25", images, draws)
    erased = draws.erase[:, 2] > 0
    assert 200 < erased.sum() < 300
    assert not out[~erased].any()
    for image, (top, left, height, width) in zip(out[erased], draws.erase[erased].tolist(), strict=True):
        inside = image[:, top : top + height, left : left + width]
        assert inside.shape == (3, height, width)
        assert image.count_nonzero() == inside.count_nonzero() > 0.95 * inside.numel() - 3
    noise = out[out > 0].float()
    assert abs(noise.mean() - 128) < 1
    assert abs(noise.std() - 73.6) < 1


def test_erased_rectangles_have_the_published_shapes_and_lie_anywhere():
    box = drawn("erase:1", torch.empty(20_000, 1, 100, 100, dtype=torch.uint8)).erase.double()
    top, left, height, width = box.unbind(1)
    area, aspect = height * width / 1e4, height / width
    assert (area > 0.018).all()
    assert (area < 0.345).all()
    assert abs(area.mean() - (0.02 + 1 / 3) / 2) < 0.005
    assert (aspect > 0.27).all()
    assert (aspect < 1 / 0.27).all()
    assert abs(aspect.log().mean()) < 0.02
    assert scipy.stats.kstest((top / (100 - height + 1)).numpy(), "uniform").statistic < 0.05
    assert scipy.stats.kstest((left / (100 - width + 1)).numpy(), "uniform").statistic < 0.05


# ---- mixing ----


def test_mixup_blends_each_image_with_another_by_its_share():
    images = pictures(50)
    draws = drawn("mixup:0.8", images)
    share = draws.share.double()[:, None, None, None]
    mixed = share * images + (1 - share) * images.roll(1, 0)
    assert (apply("mixup:0.8", images, draws) - mixed).abs().max() < 0.502
    assert not draws.box.any()


@pytest.mark.parametrize("a", ["0.2", "0.8", "1", "3"])
def test_shares_follow_the_beta_distribution(a):
    share = drawn(f"mixup:{a}", torch.empty(4000, 1, 4, 4, dtype=torch.uint8)).share.double()
    assert scipy.stats.kstest(share.numpy(), "beta", (float(a), float(a))).pvalue > 1e-4


def test_cutmix_pastes_a_box_of_the_partner_and_the_share_is_the_area_that_is_left():
    images = pictures(300, size=12)
    draws = drawn("cutmix:1", images)
    out = apply("cutmix:1", images, draws)
    for k, (top, left, height, width) in enumerate(draws.box.tolist()):
        expected = images[k].clone()
        there = (slice(None), slice(top, top + height), slice(left, left + width))
        expected[there] = images[k - 1][there]
        assert torch.equal(out[k], expected)
        assert draws.share[k].item() == pytest.approx(1 - height * width / 144, abs=1e-6)
    assert draws.share.unique().numel() > 30


def test_boxes_have_the_side_that_the_share_asks_for_where_the_border_does_not_cut_them():
    box = drawn("cutmix:1", torch.empty(4000, 1, 32, 32, dtype=torch.uint8)).box
    top, left, height, width = box.unbind(1)
    whole = (top > 0) & (left > 0) & (top + height < 32) & (left + width < 32)
    assert (height[whole] == width[whole]).all()
    assert (box[:, :2] >= 0).all()
    assert (top + height <= 32).all()
    assert (left + width <= 32).all()
    assert height.max() == width.max() == 31


def test_beside_each_other_mixup_and_cutmix_have_half_of_the_images():
    draws = drawn("mixup:0.2+cutmix:1", torch.empty(4000, 1, 32, 32, dtype=torch.uint8))
    cut = draws.box[:, 2:].prod(1) > 0
    assert 0.47 < cut.float().mean() < 0.53
    left = 1 - draws.box[:, 2:].prod(1) / 1024
    assert torch.allclose(draws.share[cut], left[cut])
    low = (draws.share[~cut] < 0.1).float().mean()
    assert low > 0.2  # mixup's: half of Beta(0.2, 0.2) is near 0 or 1


# ---- the loss ----


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("how", ["none", "flip+shift:2", "trivial+erase:0.5"])
def test_without_mixing_the_loss_is_cross_entropy_to_the_last_bit(how, smoothing):
    logits, labels, draws = torch.randn(64, 10), torch.arange(64) % 10, drawn(how, pictures(64))
    loss = mixed_loss(logits, labels, draws, smoothing)
    assert torch.equal(loss, F.cross_entropy(logits, labels, label_smoothing=smoothing))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_with_mixing_it_is_cross_entropy_with_the_mixed_labels(smoothing):
    logits, labels, draws = torch.randn(64, 10), torch.arange(64) % 10, drawn("mixup:0.8+cutmix:1", pictures(64))
    hot, share = F.one_hot(labels, 10).float(), draws.share[:, None]
    soft = share * hot + (1 - share) * hot.roll(1, 0)
    loss = F.cross_entropy(logits, soft, label_smoothing=smoothing)
    assert torch.allclose(mixed_loss(logits, labels, draws, smoothing), loss, atol=1e-6)


# ---- named sets ----


@pytest.mark.parametrize(
    ("name", "data", "written"),
    [
        ("basic", "cifar10", "flip+shift:4"),
        ("basic", "fashion-mnist", "flip+shift:3"),
        ("basic", "digits", "shift:1"),
        ("strong", "cifar10", "flip+trivial+erase:0.25+mixup:0.8+cutmix:1"),
        ("strong", "digits", "trivial+erase:0.25+mixup:0.8+cutmix:1"),
        ("none", "digits", "none"),
    ],
)
def test_a_cell_holds_what_a_named_set_is_for_its_data_set(study, name, data, written):
    info = BUILT_IN[data].info
    made = cells(study(f"dataset={data}", f"recipe.augment={name}"), info)
    assert {cell.recipe.augment for cell in made if cell.recipe} == {written}
    spelled = cells(study(f"dataset={data}", f"recipe.augment={written}"), info)
    assert [cell.id for cell in made] == [cell.id for cell in spelled]


def test_parts_can_be_added_to_a_set():
    assert parse_augment(write_out("basic+cutmix:1", 32, False)) == Augment(shift=4, cutmix=1.0)
    with pytest.raises(ValueError, match="has 'shift' more than once"):
        write_out("basic+shift:2", 32, True)


def test_a_set_that_is_not_written_out_is_not_guessed_at():
    with pytest.raises(ValueError, match="'basic' depends on the data set"):
        parse_augment("basic")

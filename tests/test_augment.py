"""Augmentation: what is drawn is what is done, old recipes make the old images, each operation is torchvision's."""

import hashlib
import math
from collections.abc import Callable

import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from building import Spy
from torch import Tensor
from torchvision.transforms import InterpolationMode, TrivialAugmentWide
from torchvision.transforms.v2 import functional as TF

from vitcnn.data.augment import Draws, apply, draw, join, mixed_loss
from vitcnn.data.batches import Eyes
from vitcnn.data.sources import BUILT_IN
from vitcnn.data.trivial import OPERATIONS, levels, operate
from vitcnn.matrix import cells
from vitcnn.recipe import Augment, Recipe, parse_augment, write_out
from vitcnn.seeds import role_seed
from vitcnn.training.module import CellModule

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


def drawn(text: str, images: Tensor, seed: int = 0) -> Draws:
    return draw(parse_augment(text), len(images), images.shape[1:], generator(seed))


def augmented(text: str, images: Tensor, seed: int = 0) -> Tensor:
    return apply(images, drawn(text, images, seed))


def same(first: Draws, second: Draws, names: tuple[str, ...] = Draws._fields[1:]) -> bool:
    pairs = [(getattr(first, name), getattr(second, name)) for name in names]
    return all(b is None if a is None else torch.equal(a, b) for a, b in pairs)


# ---- flips and shifts ----


@pytest.mark.parametrize(
    ("how", "channels", "size", "digest"),
    [
        ("none", 3, 32, "fb0a0e2d5147118c"),
        ("flip", 1, 28, "2ee47a7b29450a38"),
        ("flip", 3, 32, "d7b2634e091731b1"),
        ("shift:1", 1, 8, "b8ffcfbe846d3c0e"),
        ("shift:4", 3, 32, "750dbe2f4b64a2ec"),
        ("shift:12", 3, 8, "adfd2e1e24a10669"),
        ("flip+shift:2", 1, 28, "69aaa40727c58518"),
        ("flip+shift:4", 3, 32, "900e00724247db7c"),
        ("shift:4+flip", 3, 32, "900e00724247db7c"),
    ],
)
def test_flips_and_shifts_make_the_images_they_made_when_the_first_records_were_committed(how, channels, size, digest):
    images = torch.arange(64 * channels * size**2).mul(37).remainder(251).to(torch.uint8)
    out = augmented(how, images.view(64, channels, size, size), 20)
    assert hashlib.sha256(out.contiguous().numpy().tobytes()).hexdigest()[:16] == digest


def test_none_leaves_the_images_alone():
    assert drawn("none", pictures(5)) == Draws(5)
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
    used = ("mirrored", "offset", "op", "level", "erase", "noise")
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


# ---- replicas ----


@pytest.mark.parametrize(
    "hows",
    [
        ["none", "none"],
        ["flip", "flip", "flip"],
        ["shift:1", "none", "flip+shift:3"],
        [STRONG, STRONG],
        ["none", STRONG, "flip", "mixup:0.2", "cutmix:1", "trivial", "erase:1"],
    ],
)
def test_replicas_that_are_augmented_at_once_see_what_each_sees_alone(hows):
    batches = [pictures(10 + k, size=9, seed=k) for k in range(len(hows))]
    draws = [drawn(how, images, k) for k, (how, images) in enumerate(zip(hows, batches, strict=True))]
    alone = [apply(images, one) for images, one in zip(batches, draws, strict=True)]
    assert torch.equal(apply(torch.cat(batches), join(draws)), torch.cat(alone))
    logits, labels = torch.randn(sum(map(len, batches)), 4), torch.arange(sum(map(len, batches))) % 4
    sizes = [len(images) for images in batches]
    losses = [mixed_loss(*part, 0.1) for part in zip(logits.split(sizes), labels.split(sizes), draws, strict=True)]
    assert torch.equal(mixed_loss(logits, labels, join(draws), 0.1), torch.cat(losses))


def test_what_no_replica_does_is_not_done_at_all():
    images = pictures(6)
    assert join([drawn("none", images), drawn("none", images)]) == Draws(12)
    assert join([drawn("flip", images), drawn("none", images)]).offset is None


# ---- TrivialAugment ----


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
EXACT = {"Identity", "TranslateX", "TranslateY", "Posterize", "Solarize", "AutoContrast", "Equalize"}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_at_each_of_its_levels_is_torchvisions(name, channels):
    op = OPERATIONS.index(name)
    level = levels(32, 32)[op]
    level = torch.cat([level, -level]) if 1 <= op <= 9 else level
    images = torch.cat([smooth(len(level), channels), pictures(len(level), channels, 32)])
    level = level.repeat(2)
    ours = operate(images, torch.full((len(level),), op), level)
    theirs = torch.stack([THEIRS[name](image, at) for image, at in zip(images, level.tolist(), strict=True)])
    apart = (ours.int() - theirs.int()).abs()
    assert apart.max() <= (0 if name in EXACT else 1)
    assert (apart > 0).float().mean() < 1e-3


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
        level = draws.level[draws.op == op]
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
    together = apply(images, draws)
    for k in range(100):
        assert torch.equal(operate(images[k : k + 1], draws.op[k : k + 1], draws.level[k : k + 1])[0], together[k])


def test_color_leaves_grey_images_alone():
    images, op = pictures(31, channels=1), torch.full((31,), OPERATIONS.index("Color"))
    assert torch.equal(operate(images, op, levels(6, 6)[op[0]]), images)


# ---- erasing ----


def test_a_rectangle_of_some_images_becomes_noise_and_nothing_else_changes():
    images = torch.zeros(1000, 3, 32, 32, dtype=torch.uint8)
    draws = drawn("erase:0.25", images)
    out = apply(images, draws)
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
    mixed = share * images + (1 - share) * images[draws.partner]
    assert (apply(images, draws) - mixed).abs().max() < 0.5001
    assert sorted(draws.partner.tolist()) == list(range(50))
    assert not draws.box.any()


@pytest.mark.parametrize("a", ["0.2", "0.8", "1", "3"])
def test_shares_follow_the_beta_distribution(a):
    share = drawn(f"mixup:{a}", torch.empty(4000, 1, 4, 4, dtype=torch.uint8)).share.double()
    assert scipy.stats.kstest(share.numpy(), "beta", (float(a), float(a))).pvalue > 1e-4


def test_cutmix_pastes_a_box_of_the_partner_and_the_share_is_the_area_that_is_left():
    images = pictures(300, size=12)
    draws = drawn("cutmix:1", images)
    out = apply(images, draws)
    for k, (top, left, height, width) in enumerate(draws.box.tolist()):
        expected = images[k].clone()
        there = (slice(None), slice(top, top + height), slice(left, left + width))
        expected[there] = images[draws.partner[k]][there]
        assert torch.equal(out[k], expected)
        assert draws.share[k] == torch.tensor(1 - height * width / 144)
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
    assert torch.equal(draws.share[cut], left[cut])
    low = (draws.share[~cut] < 0.1).float().mean()
    assert low > 0.2  # mixup's: half of Beta(0.2, 0.2) is near 0 or 1


# ---- the loss ----


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("how", ["none", "flip+shift:2", "trivial+erase:0.5"])
def test_without_mixing_the_loss_is_cross_entropy_to_the_last_bit(how, smoothing):
    logits, labels, draws = torch.randn(64, 10), torch.arange(64) % 10, drawn(how, pictures(64))
    each = mixed_loss(logits, labels, draws, smoothing)
    assert torch.equal(each, F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none"))
    mean = mixed_loss(logits, labels, draws, smoothing, "mean")
    assert torch.equal(mean, F.cross_entropy(logits, labels, label_smoothing=smoothing))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_with_mixing_it_is_cross_entropy_with_the_mixed_labels(smoothing):
    logits, labels, draws = torch.randn(64, 10), torch.arange(64) % 10, drawn("mixup:0.8+cutmix:1", pictures(64))
    hot, share = F.one_hot(labels, 10).float(), draws.share[:, None]
    soft = share * hot + (1 - share) * hot[draws.partner]
    losses = F.cross_entropy(logits, soft, label_smoothing=smoothing, reduction="none")
    assert torch.allclose(mixed_loss(logits, labels, draws, smoothing), losses, atol=1e-5)
    assert torch.allclose(mixed_loss(logits, labels, draws, smoothing, "mean"), losses.mean(), atol=1e-6)


@pytest.mark.parametrize("how", ["none", "flip+shift:3", STRONG])
def test_a_step_of_training_draws_by_its_number_and_learns_the_mixed_labels(how):
    images, labels, spy = pictures(16, size=32), torch.arange(16) % 10, Spy()
    eyes = Eyes.of(images, 32)
    module = CellModule(spy, eyes, Recipe(augment=how), steps=5, seed=7)
    loss = module.training_step((images, labels, 0), 0)
    draws = draw(parse_augment(how), 16, (3, 32, 32), generator(role_seed(7, "order", 0, 1)))
    changed = apply(images, draws)
    assert torch.equal(spy.shown[0], eyes(changed))
    assert torch.equal(loss, mixed_loss(module(changed), labels, draws, 0.1, "mean"))
    assert not same(module.draws(1, labels, images.shape[1:]), draws) or how == "none"


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
    module = CellModule(Spy(), Eyes.of(pictures(4), 6), Recipe(augment="basic"), steps=1, seed=0)
    with pytest.raises(ValueError, match="'basic' depends on the data set"):
        module.training_step((pictures(4), torch.arange(4), 0), 0)

"""Augmentation: what is drawn is what is done, alike on every device; each operation is torchvision's."""

import hashlib

import pytest
import torch
import torch.nn.functional as F
from augmenting import apply, drawn, pictures, smooth
from torch import Tensor

from vitcnn.data.augment.augmentation import AugmentParams
from vitcnn.data.augment.spec import Augment, parse_augment, write_out
from vitcnn.data.sources.registry import BUILT_IN
from vitcnn.study.matrix import cells

STRONG = write_out("strong", 32, True)


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
    with pytest.raises(ValueError, match="contains 'shift' more than once"):
        write_out("basic+shift:2", 32, True)


def test_a_set_that_is_not_written_out_is_not_guessed_at():
    with pytest.raises(ValueError, match="'basic' depends on the data set"):
        parse_augment("basic")


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("none", Augment()),
        ("flip", Augment(flip=True)),
        ("shift:12", Augment(shift=12)),
        ("flip+shift:2", Augment(flip=True, shift=2)),
        ("trivial+erase:0.25", Augment(trivial=True, erase=0.25)),
        ("erase:1", Augment(erase=1.0)),
        ("cutmix:1+mixup:0.2", Augment(mixup=0.2, cutmix=1.0)),
    ],
)
def test_augment_strings_are_read(text, parsed):
    assert parse_augment(text) == parsed
    assert write_out(text, 32, True) == text  # cell ids hash it


@pytest.mark.parametrize(
    "text",
    [
        *("", "shift", "shift:-1", "shift:1.5", "shift:01", "flip shift:1", "Flip", "flip:1", "trivial:3"),
        *("erase", "erase:0", "erase:0.0", "erase:1.5", "erase:2", "mixup", "mixup:0", "mixup:-1", "cutmix:inf"),
        "mixup:1e-3",
    ],
)
def test_other_augment_strings_raise_with_the_known_ones(text):
    known = "basic, cutmix:A, erase:P, flip, mixup:A, none, shift:K, strong, trivial"
    with pytest.raises(
        ValueError, match=rf"is not a valid augmentation;.* known: {known} \(K ≥ 1 pixels, 0 < P ≤ 1, A > 0\)"
    ):
        parse_augment(text)


def test_a_part_that_stands_there_twice_is_refused():
    with pytest.raises(ValueError, match="'shift:1\\+shift:2' contains 'shift' more than once"):
        parse_augment("shift:1+shift:2")

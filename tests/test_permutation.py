"""Tokens and pixels change places by a stated share, for every image alike, and a ViT cannot care."""

import copy
import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from augmenting import pictures
from building import RGB, made, shaken
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vitcnn.data.permutation import Permutation, order, patch_side
from vitcnn.data.preprocess import Preprocess
from vitcnn.errors import ConfigError
from vitcnn.models.build import preprocess
from vitcnn.models.config import CNN, ViT, ViTWindow

ALL = Permutation(patches=1, pixels=1)


def by_tokens(size: int, side: int) -> np.ndarray:
    """(patches, pixels of a patch): where they are in an image of size² pixels, both counted row by row."""
    grid = size // side
    return np.arange(size**2).reshape(grid, side, grid, side).swapaxes(1, 2).reshape(grid**2, side**2)


def taken_apart(size: int, permutation: Permutation) -> tuple[np.ndarray, np.ndarray]:
    """(the patch that comes to stand at each patch's place, the pixel at each pixel's place in it); patches stay
    whole."""
    side, moved = patch_side(size, permutation), order(size, permutation)
    assert sorted(moved) == list(range(size**2))
    paths = by_tokens(size, side)
    number = np.empty(size**2, np.int64)
    number[paths.ravel()] = np.arange(size**2)
    patch, pixel = np.divmod(number[moved][paths], side**2)
    assert (patch == patch[:, :1]).all()
    assert (pixel == pixel[:1]).all()
    return patch[:, 0], pixel[0]


def displaced(permutation: np.ndarray) -> set[int]:
    return set(np.flatnonzero(permutation != np.arange(len(permutation))))


def moving(size: int, permutation: Permutation) -> Tensor:
    return torch.from_numpy(order(size, permutation))


# ---- the permutation ----


def movable(share: float, count: int) -> bool:
    return not share or round(share * count) > 1


shares = st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 0.9, 1.0]) | st.floats(0, 1)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), shares, shares, st.integers(0, 2**40))
def test_the_stated_share_of_tokens_moves_whole_and_of_pixels_the_same_in_every_token(
    grid, side, patches, pixels, seed
):
    permutation = Permutation(patches=patches, pixels=pixels, patch=side, seed=seed)
    assume(movable(patches, grid**2) and movable(pixels, side**2))
    for moved, share in zip(taken_apart(grid * side, permutation), (patches, pixels), strict=True):
        assert len(displaced(moved)) == round(share * len(moved))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([8, 28, 32, 96]), st.tuples(shares, shares), st.tuples(shares, shares), st.integers(0, 2**40))
def test_a_larger_share_moves_what_a_smaller_one_moves_and_more(size, patches, pixels, seed):
    side = size // max(4, -(-size // 16))
    assume(all(movable(w, (size // side) ** 2) and movable(p, side**2) for w, p in zip(patches, pixels, strict=True)))
    small, large = (
        taken_apart(size, Permutation(patches=pick(patches), pixels=pick(pixels), seed=seed)) for pick in (min, max)
    )
    for few, many in zip(small, large, strict=True):
        assert displaced(few) <= displaced(many)


def test_tokens_and_pixels_move_independently():
    patches, pixels = taken_apart(32, ALL)
    assert np.array_equal(taken_apart(32, Permutation(patches=1))[0], patches)
    assert np.array_equal(taken_apart(32, Permutation(pixels=1))[1], pixels)
    assert not displaced(taken_apart(32, Permutation(patches=1))[1])
    assert not displaced(taken_apart(32, Permutation(pixels=1))[0])
    same = Permutation(patches=1, pixels=1, patch=6)  # 36 patches of 36 pixels: two permutations all the same
    assert not np.array_equal(*taken_apart(36, same))


def test_everything_moved_is_one_circle_and_nothing_moved_the_image_itself():
    for permutation in taken_apart(32, ALL):
        at, steps = permutation[0], 1
        while at != 0:
            at, steps = permutation[at], steps + 1
        assert steps == len(permutation)
    assert np.array_equal(order(32, Permutation()), np.arange(32**2))


def test_the_seed_decides_the_order():
    first, again, other = (order(32, Permutation(patches=1, seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_orders_are_what_they_were_when_the_first_records_were_committed():
    digest = hashlib.sha256(order(32, Permutation(patches=0.5, pixels=1)).astype("<i8").tobytes()).hexdigest()
    assert digest[:16] == "ad3b248663c2915a"


@pytest.mark.parametrize(
    ("size", "side", "patches"), [(8, 2, 16), (28, 7, 16), (32, 8, 16), (64, 16, 16), (96, 16, 36), (224, 16, 196)]
)
def test_tokens_are_those_that_a_vit_of_16_pixel_patches_is_shown(size, side, patches):
    assert patch_side(size, Permutation()) == side
    assert len(taken_apart(size, ALL)[0]) == patches


@pytest.mark.parametrize(
    ("size", "patch", "said"),
    [
        (
            100,
            None,
            "an image of 100 pixels cannot be cut into 7×7 whole patches; set `patch` to the native pixels",
        ),
        (30, None, "an image of 30 pixels cannot be cut into 4×4 whole patches"),
        (15, None, "an image of 15 pixels cannot be cut into 4×4 whole patches"),
        (3, None, "an image of 3 pixels cannot be cut into 4×4 whole patches"),
        (32, 5, "an image of 32 pixels cannot be cut into patches of 5×5"),
        (32, 64, "an image of 32 pixels cannot be cut into patches of 64×64"),
    ],
)
def test_tokens_that_are_not_whole_are_refused(size, patch, said):
    with pytest.raises(ConfigError) as caught:
        order(size, Permutation(patches=1, patch=patch))
    assert said in str(caught.value)


# ---- what the network sees ----


@pytest.mark.parametrize(
    "permutation", [ALL, Permutation(patches=0.5), Permutation(pixels=0.3, seed=4), Permutation(patches=1, patch=4)]
)
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pixels_change_places_and_then_each_becomes_a_square(factor, permutation):
    images, moved = pictures(4, size=32), order(32, permutation)
    seen_by = Preprocess.of(images, 32 * factor, torch.from_numpy(moved))
    plain = Preprocess.of(images, 32)(images)
    seen = seen_by(images)
    assert seen.shape == (4, 3, 32 * factor, 32 * factor)
    for place, source in enumerate(moved):
        (y, x), (from_y, from_x) = divmod(place, 32), divmod(int(source), 32)
        square = seen[..., y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
        assert torch.equal(square, plain[..., from_y, from_x, None, None].expand_as(square))


def test_without_a_permutation_images_are_resized_bilinearly_and_with_an_empty_one_by_nearest_neighbour():
    images = pictures(4, size=32)
    plain, empty = (preprocess(ViT(), RGB, images, 64, permutation) for permutation in (None, Permutation()))
    scaled = (images.float() / 255 - plain.mean) / plain.std
    torch.testing.assert_close(plain(images), F.interpolate(scaled, (64, 64), mode="bilinear"), rtol=0, atol=1e-6)
    assert torch.equal(empty(images), scaled.repeat_interleave(2, -1).repeat_interleave(2, -2))
    assert torch.equal(plain.mean, empty.mean)
    assert torch.equal(plain.std, empty.std)


@pytest.mark.parametrize(("size", "shown"), [(28, 64), (28, 32), (8, 64), (8, 32), (96, 128), (32, 32), (28, 30)])
def test_tokens_stay_whole_at_whatever_size_they_are_shown(size, shown):
    """Enlarging and then moving the patches is moving them and then enlarging; where they end between two of the
    enlarged image's pixels (28 at 30), at least no colour is mixed."""
    images, permutation = pictures(2, size=size), Permutation(patches=1)
    patches, grid = taken_apart(size, permutation)[0], size // patch_side(size, permutation)
    straight, moved = (Preprocess.of(images, shown, moving(size, s))(images) for s in (Permutation(), permutation))
    if shown % grid == 0:
        side = shown // grid
        patches = F.unfold(straight, side, stride=side)[..., patches]
        assert torch.equal(F.fold(patches, (shown, shown), side, stride=side), moved)
    for channel in range(3):
        assert set(moved[:, channel].unique().tolist()) <= set(straight[:, channel].unique().tolist())


def test_images_that_lie_otherwise_in_memory_are_moved_alike():
    images = pictures(4, size=32)
    seeing = Preprocess.of(images, 64, moving(32, ALL))
    assert not images.mT.is_contiguous()
    for other in (images.mT, images.to(memory_format=torch.channels_last), images[..., ::2, ::2].repeat(1, 1, 2, 2)):
        assert torch.equal(seeing(other), seeing(other.contiguous()))


# ---- a ViT with learned positions cannot care, a CNN must ----

SETTINGS = [Permutation(patches=1), Permutation(pixels=1), ALL, Permutation(patches=0.5, pixels=0.3, seed=3)]


def ready(arch) -> nn.Module:
    return shaken(made(arch)).eval().requires_grad_(False)


def seen(size: int, permutation: Permutation) -> Tensor:
    images = pictures(4, size=32)
    return Preprocess.of(images, size, moving(32, permutation))(images)


@pytest.mark.parametrize("permutation", SETTINGS, ids=str)
def test_a_vit_whose_weights_moved_along_sees_what_it_saw_before(permutation):
    vit = ready(ViT())
    other, (patches, pixels) = copy.deepcopy(vit), taken_apart(32, permutation)
    other.positions.copy_(vit.positions[patches])
    native = vit.embed.weight.unflatten(2, (8, 2)).unflatten(4, (8, 2)).permute(0, 1, 2, 4, 3, 5)  # (D, C, 8, 8, 2, 2)
    moved = native.flatten(2, 3)[:, :, pixels].unflatten(2, (8, 8)).permute(0, 1, 2, 4, 3, 5)
    other.embed.weight.copy_(moved.flatten(4, 5).flatten(2, 3))
    before = vit(seen(64, Permutation()))
    assert torch.allclose(other(seen(64, permutation)), before, atol=1e-5)
    assert (vit(seen(64, permutation)) - before).abs().max() > 1e-3  # its old weights do not do


@pytest.mark.parametrize("permutation", SETTINGS, ids=str)
def test_the_cnn_and_the_windowed_vit_see_another_image(permutation):
    cnn = ready(CNN())
    assert (cnn(seen(32, permutation)) - cnn(seen(32, Permutation()))).abs().max() > 1e-3
    if permutation.patches:
        window, patches = (
            ready(ViTWindow()),
            taken_apart(32, Permutation(patches=permutation.patches, seed=permutation.seed))[0],
        )
        before = window(seen(64, Permutation()))
        window.positions.copy_(window.positions[patches])
        after = window(seen(64, Permutation(patches=permutation.patches, seed=permutation.seed)))
        assert (after - before).abs().max() > 1e-4  # positions that move along are not enough: its neighbours changed

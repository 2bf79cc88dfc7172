"""What the network is shown: which images at which step, how they are augmented, scaled and resized."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vitcnn.data.batches import Eyes, TrainStream, augment


def stream(n: int, **how) -> TrainStream:
    """n images, the i-th filled with i and labelled i."""
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 1, 2, 2).contiguous()
    return TrainStream(images, torch.arange(n), **{"batch_size": 8, "steps": 10, "seed": 3} | how)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, channels: int = 3, size: int = 6, seed: int = 0) -> torch.Tensor:
    """Random uint8 images without a 0, so that what was filled in is known."""
    return torch.randint(1, 256, (count, channels, size, size), generator=generator(seed), dtype=torch.uint8)


# ---- the stream ----


@pytest.mark.parametrize("n", [3, 8, 20, 200])
def test_every_n_sees_the_same_number_of_images(n):
    batches = list(stream(n))
    assert [len(labels) for _, labels, _ in batches] == [8] * 10
    assert [step for *_, step in batches] == list(range(10))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 2**62))
def test_every_epoch_uses_every_image_exactly_once(n, batch_size, seed):
    epochs = 3
    row = np.concatenate(
        [stream(n, batch_size=batch_size, seed=seed).indices(t) for t in range(-(-epochs * n // batch_size))]
    )
    for epoch in range(epochs):
        assert sorted(row[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_every_epoch_has_an_order_of_its_own():
    row = np.concatenate([stream(40).indices(t) for t in range(10)])
    assert not np.array_equal(row[:40], row[40:80])
    assert not np.array_equal(row[:40], np.arange(40))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 20), st.integers(0, 11))
def test_a_stream_that_starts_later_gives_what_the_undisturbed_one_gives(n, batch_size, start):
    whole = list(stream(n, batch_size=batch_size, steps=12))
    late = list(stream(n, batch_size=batch_size, steps=12, start=start))
    assert len(late) == 12 - start
    for (images, labels, step), (images_, labels_, step_) in zip(whole[start:], late, strict=True):
        assert step == step_
        assert torch.equal(images, images_)
        assert torch.equal(labels, labels_)


def test_images_keep_their_labels():
    for images, labels, _ in stream(20):
        assert images.dtype == torch.uint8
        assert torch.equal(images[:, 0, 0, 0].long(), labels)


def test_another_seed_is_another_order_and_the_same_seed_the_same():
    first, again, other = ([b[1].tolist() for b in stream(100, seed=seed)] for seed in (1, 1, 2))
    assert first == again
    assert first != other


# ---- augmentation ----


def test_none_leaves_the_images_alone():
    images = pictures(5)
    assert torch.equal(augment(images, "none", generator()), images)


@pytest.mark.parametrize("shift", [1, 2, 7])
def test_a_shift_moves_each_image_by_whole_pixels_and_fills_with_zero(shift):
    """Every result is one of the (2·shift + 1)² crops of the zero-padded image, made one by one."""
    images = pictures(40)
    out = augment(images, f"shift:{shift}", generator())
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
    where = augment(images, "shift:2", generator())[:, 0].nonzero()[:, 1:] - 3
    assert len(where) == 400
    assert {tuple(w) for w in where.tolist()} == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}


def test_a_flip_mirrors_some_images_left_to_right_and_leaves_the_others():
    images = pictures(200)
    out = augment(images, "flip", generator())
    mirrored = (out == images.flip(-1)).all((1, 2, 3))
    assert (mirrored | (out == images).all((1, 2, 3))).all()
    assert 70 < mirrored.sum() < 130


@pytest.mark.parametrize("how", ["flip", "shift:1", "flip+shift:2"])
def test_the_same_generator_seed_gives_the_same_images_and_another_does_not(how):
    images = pictures(30)
    first = augment(images, how, generator(1))
    assert torch.equal(first, augment(images, how, generator(1)))
    assert not torch.equal(first, augment(images, how, generator(2)))


def test_flip_and_shift_are_both_done():
    images = pictures(200)
    out = augment(images, "flip+shift:1", generator())
    alone = F.pad(images, (1,) * 4)
    crops = [alone[:, :, y : y + 6, x : x + 6] for y in range(3) for x in range(3)]
    straight = torch.stack([(out == c).all((1, 2, 3)) for c in crops]).any(0)
    flipped = torch.stack([(out == c.flip(-1)).all((1, 2, 3)) for c in crops]).any(0)
    assert (straight | flipped).all()
    assert straight.any()
    assert flipped.any()


# ---- what the network sees ----


def test_the_given_images_become_mean_0_and_deviation_1_in_each_channel():
    images = (pictures(50) * torch.tensor([1.0, 0.5, 0.1])[:, None, None]).to(torch.uint8)
    seen = Eyes.of(images, 6)(images).double()
    assert torch.allclose(seen.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), atol=1e-5)
    assert torch.allclose(seen.std((0, 2, 3), correction=0), torch.ones(3, dtype=torch.float64), atol=1e-5)


def test_a_channel_of_one_colour_stays_finite():
    images = torch.full((4, 1, 6, 6), 77, dtype=torch.uint8)
    assert Eyes.of(images, 6)(images).abs().max() < 1e-2


@pytest.mark.parametrize("size", [3, 5, 6, 12, 64])
def test_images_are_resized_to_the_networks_size(size):
    seen = Eyes.of(pictures(4), size)(pictures(4))
    assert seen.shape == (4, 3, size, size)
    assert seen.dtype == torch.float32


def test_images_of_the_right_size_are_scaled_only():
    images = pictures(4)
    eyes = Eyes.of(images, 6)
    assert torch.equal(eyes(images), (images.float() / 255 - eyes.mean) / eyes.std)


def test_shrinking_averages_over_all_pixels_and_skips_none():
    """Antialiasing: of stripes that fall between the sampled places, their mean is left and not their absence."""
    stripes = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    stripes[..., ::4] = 255
    assert Eyes.of(stripes, 4)(stripes)[..., 1:-1].abs().max() < 0.05

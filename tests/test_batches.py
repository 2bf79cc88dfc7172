"""What the network is shown: which images at which step, scaled and resized."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitcnn.data.batches import TrainStream
from vitcnn.data.preprocess import Preprocess


def stream(n: int, **how) -> TrainStream:
    """n images, the i-th filled with i and labelled i."""
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 1, 2, 2).contiguous()
    return TrainStream(images, torch.arange(n), **{"batch_size": 8, "steps": 10, "seed": 3} | how)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, channels: int = 3, size: int = 6, seed: int = 0) -> torch.Tensor:
    """Random uint8 images."""
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


# ---- what the network sees ----


def test_the_given_images_become_mean_0_and_deviation_1_in_each_channel():
    images = (pictures(50) * torch.tensor([1.0, 0.5, 0.1])[:, None, None]).to(torch.uint8)
    seen = Preprocess.of(images, 6)(images).double()
    assert torch.allclose(seen.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), atol=1e-5)
    assert torch.allclose(seen.std((0, 2, 3), correction=0), torch.ones(3, dtype=torch.float64), atol=1e-5)


def test_a_channel_of_one_colour_stays_finite():
    images = torch.full((4, 1, 6, 6), 77, dtype=torch.uint8)
    assert Preprocess.of(images, 6)(images).abs().max() < 1e-2


@pytest.mark.parametrize("size", [3, 5, 6, 12, 64])
def test_images_are_resized_to_the_networks_size(size):
    seen = Preprocess.of(pictures(4), size)(pictures(4))
    assert seen.shape == (4, 3, size, size)
    assert seen.dtype == torch.float32


def test_images_of_the_right_size_are_scaled_only():
    images = pictures(4)
    seen = Preprocess.of(images, 6)
    assert torch.equal(seen(images), (images.float() / 255 - seen.mean) / seen.std)


def test_shrinking_averages_over_all_pixels_and_skips_none():
    """Antialiasing: of stripes that fall between the sampled places, their mean is left and not their absence."""
    stripes = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    stripes[..., ::4] = 255
    assert Preprocess.of(stripes, 4)(stripes)[..., 1:-1].abs().max() < 0.05

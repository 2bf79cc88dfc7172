"""Erasing, mixup and CutMix, and the loss of mixed labels."""

import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from augmenting import apply, drawn, pictures

from vitcnn.data.augment.augmentation import mixed_loss

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

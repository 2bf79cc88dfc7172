"""SASA: attention over each pixel's neighbourhood."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ladder import ready
from torch import Tensor, nn

from vitcnn.models.config import CNN, SASA
from vitcnn.models.sasa import NeighbourhoodAttention


def pixel_by_pixel(attention: NeighbourhoodAttention, x: Tensor, window: int) -> Tensor:
    """Over the pixels of the window that lie inside the image: softmax of q · (k + r) / √d, times v."""
    B, _, H, W = x.shape
    d, reach = attention.head_width, window // 2
    q, k, v = (x.permute(0, 2, 3, 1) @ W_.T for W_ in attention.qkv.weight.chunk(3))
    rows = []
    for y, x_ in product(range(H), range(W)):
        there = [
            (y + dy, x_ + dx, (dy + reach) * window + dx + reach)
            for dy, dx in product(range(-reach, reach + 1), repeat=2)
            if 0 <= y + dy < H and 0 <= x_ + dx < W
        ]
        keys, values = (torch.stack([t[:, j, i] for j, i, _ in there], 1).unflatten(-1, (-1, d)) for t in (k, v))
        r = torch.stack([attention.r[offset] for *_, offset in there])
        scores = torch.einsum("bhd,bnhd->bnh", q[:, y, x_].unflatten(-1, (-1, d)), keys + r[:, None]) / math.sqrt(d)
        rows.append(torch.einsum("bnh,bnhd->bhd", scores.softmax(1), values).flatten(1))
    return torch.stack(rows, -1).view(B, -1, H, W)


@pytest.mark.parametrize("window", [1, 3, 5, 7])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (4, 4), (5, 5), (8, 8), (2, 9), (7, 6)], ids=str)
def test_neighbourhood_attention_is_that_of_every_pixel_by_itself(shape, window):
    torch.manual_seed(0)
    attention = NeighbourhoodAttention(5, 6, window, 3).double()
    x = torch.randn(2, 5, *shape, dtype=torch.float64, requires_grad=True)
    towards, parts = torch.randn(2, 6, *shape, dtype=torch.float64), [x, *attention.parameters()]
    got, wanted = attention(x), pixel_by_pixel(attention, x, window)
    assert torch.allclose(got, wanted, atol=1e-12)
    gradients = [torch.autograd.grad((out * towards).sum(), parts) for out in (got, wanted)]
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 13), st.integers(1, 13), st.sampled_from([1, 3, 5, 7, 9]), st.integers(0, 168))
def test_a_pixel_sees_its_window_inside_the_image_and_nothing_else(H, W, window, at):
    torch.manual_seed(0)
    attention, x = NeighbourhoodAttention(2, 4, window, 2), torch.randn(1, 2, H, W, requires_grad=True)
    y, x_ = divmod(at % (H * W), W)
    out = attention(x)
    assert out.shape == (1, 4, H, W)
    (gradient,) = torch.autograd.grad((out[0, :, y, x_] * torch.randn(4)).sum(), x)
    near = [max(abs(y - j), abs(x_ - i)) <= window // 2 for j, i in product(range(H), range(W))]
    assert (gradient[0].abs().amax(0).flatten() > 0).tolist() == near


def test_neighbourhood_attention_holds_in_half_precision():
    torch.manual_seed(0)
    attention, x = NeighbourhoodAttention(8, 8, 5, 4), torch.randn(2, 8, 6, 6)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = attention(x).float()
    assert 0 < (half - attention(x)).abs().max() < 0.05


def test_pixel_local_is_the_cnn_with_attention_where_its_blocks_have_3x3_convolutions():
    network, cnn = (ready(kind(channels=(16, 48), blocks=(1, 1))) for kind in (SASA, CNN))
    kernels = [name for name, m in cnn.named_modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    attends = [name for name, m in network.named_modules() if isinstance(m, NeighbourhoodAttention)]
    assert [f"{name}.1" for name in kernels if name != "stem.0"] == attends
    assert len(attends) == 4

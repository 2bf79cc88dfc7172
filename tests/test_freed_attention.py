"""Convolutions that were rewritten as attention and set free: what leaks, what learns, what is refused."""

import math

import pytest
import torch
import torch.nn.functional as F
from building import convolution
from torch import nn

from vitcnn.models.conv_attention import EXACT, FREED, ConvAttention, agreement, rewrite


def written_out(layer: ConvAttention, images: torch.Tensor) -> torch.Tensor:
    """The layer's definition, one head and one query at a time, over all tokens of the padded grid."""
    B, _, H, W = images.shape
    top, left = layer.padding
    tokens = F.pad(images, (left, left, top, top)).permute(2, 3, 0, 1).flatten(0, 1)  # (padded grid, B, C)
    places = torch.cartesian_prod(torch.arange(H + 2 * top), torch.arange(W + 2 * left))
    inside = ((places >= torch.tensor([top, left])) & (places < torch.tensor([top + H, left + W]))).all(1)
    middle = torch.tensor([d * (k // 2) for k, d in zip(layer.kernel_size, layer.dilation, strict=True)])
    rows, columns = (layer.positional(H, W)[axis].shape[1] for axis in (0, 1))
    out = torch.empty(B, len(layer.out.weight), rows, columns, dtype=images.dtype)
    for i in range(rows):
        for j in range(columns):
            p, b = torch.tensor([i * layer.stride[0], j * layer.stride[1]]) + middle, []
            query = tokens[(places == p).all(1)][0]
            for head in range(layer.heads):
                distance = ((places - p - layer.positions[head]) ** 2).sum(1)
                b_h = torch.einsum("s,sbc->bc", (-layer.log_sharpness[head].exp() * distance).softmax(0), tokens)
                if layer.gates is not None:
                    q, k = query @ layer.qk[0, head].T, tokens[inside] @ layer.qk[1, head].T
                    scores = torch.einsum("bd,sbd->sb", q, k) / math.sqrt(q.shape[1])
                    content = torch.einsum("sb,sbc->bc", scores.softmax(0), tokens[inside])
                    gate = layer.gates[head].sigmoid()
                    b_h = (1 - gate) * content + gate * b_h
                b.append(b_h)
            out[:, :, i, j] = layer.out(torch.cat(b, 1))
    return out


# ---- set free ----


@pytest.mark.parametrize("gate", [None, 0.3])
@torch.no_grad()
def test_separable_attention_is_the_softmax_over_the_whole_padded_grid(gate):
    conv = convolution(kernel_size=(3, 1), stride=(2, 1), padding=(1, 2), dilation=(1, 2))
    layer, images = ConvAttention.of(conv, gate, sharpness=0.7, head_width=4), torch.randn(2, 2, 5, 4).double()
    for p in (layer.positions, layer.log_sharpness, *layer.parameters()):
        p += 0.5 * torch.randn_like(p)
    assert (layer(images) - written_out(layer, images)).abs().max() < 1e-12


def test_positions_have_no_gradient_where_they_are_exact_and_one_when_freed():
    conv, images = convolution(), torch.randn(2, 2, 6, 6, dtype=torch.float64)

    def gradient(layer: ConvAttention) -> float:
        loss = (layer(images) ** 2).sum()
        return torch.autograd.grad(loss, layer.positions)[0].abs().max().item()

    dead = {}
    for sharpness in (20.0, 40.0, EXACT):
        layer = ConvAttention.of(conv, sharpness=sharpness)
        layer.positions.requires_grad_()
        dead[sharpness] = gradient(layer)
        assert math.log(dead[sharpness]) == pytest.approx(math.log(sharpness) - sharpness, abs=10)  # ~ α·e^-α
    assert math.log(dead[20] / dead[40]) == pytest.approx(20 - math.log(2), abs=1e-3)
    assert 0 < dead[EXACT] < 1e-40
    assert gradient(ConvAttention.of(conv, gate=1.0)) > 0.1


@torch.no_grad()
def test_the_freed_start_costs_four_pixels_of_leak_and_its_content_attention_is_nearly_uniform():
    conv, images = convolution(), torch.randn(4, 2, 9, 9, dtype=torch.float64)
    rows, columns = ConvAttention.of(conv, gate=1.0).positional(9, 9)
    kept = rows[4, 4].max() * columns[4, 4].max()
    assert kept.item() == pytest.approx(1 - 4 * math.exp(-FREED), abs=0.01)
    layer = ConvAttention.of(conv, gate=-50.0)
    uniform = layer.out(images.mean((2, 3)).repeat(1, layer.heads))  # every head sees the mean image
    assert (layer(images) - uniform[..., None, None]).std() < 0.2 * conv(images).std()
    assert not torch.allclose(layer(images), uniform[..., None, None], atol=1e-3)


def test_a_head_learns_where_to_look():
    """The target is the image moved by (1, −2); of a 1×1 convolution that copies, only the positions are learned."""
    torch.manual_seed(0)
    images = F.avg_pool2d(torch.randn(16, 1, 20, 20), 5, stride=1)
    copying = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(copying.weight)
    layer = ConvAttention.of(copying, gate=50.0, sharpness=1.0)
    optimizer = torch.optim.Adam([layer.positions], lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        seen = layer(images)
        F.mse_loss(seen[..., 3:-3, 3:-3], images[..., 4:-2, 1:-5]).backward()
        optimizer.step()
    assert layer.positions[0].tolist() == pytest.approx([1, -2], abs=0.1)


def test_a_freed_network_trains_and_every_parameter_learns():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.Flatten()
    )
    network = rewrite(nn.Sequential(*network, nn.Linear(8 * 16, 4)), gate=0.0).train()
    images, labels = torch.randn(32, 1, 16, 16), torch.randint(4, (32,))
    start = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer, losses = torch.optim.AdamW(network.parameters(), lr=3e-3), []
    for _ in range(30):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    for name, p in network.named_parameters():
        assert p.isfinite().all(), name
        moved = (p - start[name]).abs().max()
        assert moved > 1e-3 or (name == "0.out.bias" and moved > 0), name  # a batch norm takes that bias out again


# ---- errors ----


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"groups": 2, "out_channels": 4},
            "convolutions with groups (2) are not supported: an attention head sees every channel",
        ),
        ({"padding_mode": "reflect"}, "padding (1, 1) of 'reflect' is not supported; only a fixed number of"),
        ({"padding": "same"}, "padding 'same' of 'zeros' is not supported; only a fixed number of zeros"),
    ],
)
def test_a_convolution_that_is_no_such_attention_is_refused_by_its_name(changed, said):
    with pytest.raises(ValueError, match=r"^0\.1: ") as caught:
        rewrite(nn.Sequential(nn.Sequential(nn.ReLU(), convolution(**changed))))
    assert said in str(caught.value)


def test_other_mistakes_are_refused():
    class Standardised(nn.Conv2d):
        pass

    conv = convolution(kernel_size=5, padding=0)
    with pytest.raises(ValueError, match=r"^Linear has no Conv2d to rewrite$"):
        rewrite(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"^the network: Standardised is not a plain Conv2d"):
        rewrite(Standardised(1, 1, 1))
    with pytest.raises(ValueError, match=r"sharpness -1\.0 and head_width 8 must be positive"):
        ConvAttention.of(conv, sharpness=-1.0)
    with pytest.raises(ValueError, match="4 pixels, 4 with the padding, are fewer than the kernel's 5"):
        ConvAttention.of(conv)(torch.zeros(1, 2, 6, 4, dtype=torch.float64))
    with pytest.raises(ValueError, match="no images to compare"):
        agreement(conv, conv, [])


def test_an_agreement_counts_predictions_and_does_not_lose_a_nan():
    one, two = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    one.weight.data, two.weight.data = torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    images = torch.tensor([[3.0, 1.0], [1.0, 2.0]])  # the first is seen as 0 by one, as 1 by two
    found = agreement(one, two, [images, images[1:]])
    assert (found.images, found.largest, found.same) == (3, 6.0, 2)
    assert math.isnan(agreement(one, two, [images, images * math.nan, images]).largest)

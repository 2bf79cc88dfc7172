"""A convolution is self-attention with positions that are exact: the same function, rewritten."""

import math

import pytest
import torch
import torch.nn.functional as F
from building import RGB, convolution
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vitcnn.models.build import build
from vitcnn.models.config import CNN
from vitcnn.models.conv_attention import EXACT, ConvAttention, agreement, rewrite

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}


@pytest.fixture(scope="module")
def cnn() -> nn.Module:
    """The study's CNN after four steps, so that no batch norm and no residual branch is as it starts."""
    torch.manual_seed(0)
    network = build(CNN(), RGB)[0].train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(4):
        optimizer.zero_grad()
        F.cross_entropy(network(torch.randn(16, 3, 32, 32)), torch.randint(10, (16,))).backward()
        optimizer.step()
    return network.eval()


def layers(network: nn.Module, kind: type[nn.Module] = ConvAttention) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, kind)]


# ---- the special case: the same function as the convolution ----


@st.composite
def cases(draw) -> tuple[nn.Conv2d, torch.Tensor]:
    def pair(values):
        return draw(st.tuples(st.sampled_from(values), st.sampled_from(values)))

    fields = {"kernel_size": pair([1, 3, 5]), "stride": pair([1, 2, 3]), "padding": pair([0, 1, 2])}
    fields |= {
        "dilation": pair([1, 2]),
        "in_channels": draw(st.integers(1, 4)),
        "out_channels": draw(st.integers(1, 4)),
    }
    conv = convolution(draw(st.integers(0, 99)), bias=draw(st.booleans()), **fields)
    least = [d * (k - 1) + 1 - 2 * p for k, d, p in zip(conv.kernel_size, conv.dilation, conv.padding, strict=True)]
    size = [max(1, n) + draw(st.integers(0, 5)) for n in least]
    return conv, torch.randn(draw(st.integers(1, 3)), conv.in_channels, *size, dtype=torch.float64)


@settings(max_examples=100, deadline=None)
@given(cases())
@torch.no_grad()
def test_a_convolution_is_self_attention(case):
    conv, images = case
    for dtype, tolerance in TOLERANCE.items():
        conv, images = conv.to(dtype), images.to(dtype)
        expected, layer = conv(images), ConvAttention.of(conv)
        for made in (layer(images), layer(images)):  # the second time with the attention that it knows
            assert made.shape == expected.shape
            assert (made - expected).abs().max() < tolerance


def test_even_kernels_and_the_gradients_of_tokens_and_kernel_are_the_convolutions_too():
    conv = convolution(kernel_size=(2, 4), stride=2)
    layer, images = ConvAttention.of(conv), torch.randn(2, 2, 7, 6, dtype=torch.float64, requires_grad=True)
    both = []
    for module, weight in ((conv, conv.weight), (layer, layer.out.weight)):
        out = module(images)
        both.append((out, *torch.autograd.grad((out**3).sum(), (images, weight))))
    (out, tokens, kernel), (made, made_tokens, made_kernel) = both
    assert (made - out).abs().max() < 1e-10
    assert (made_tokens - tokens).abs().max() < 1e-10
    assert (made_kernel.view(3, 2, 4, 2).permute(0, 3, 1, 2) - kernel).abs().max() < 1e-10


def test_heads_are_the_offsets_of_the_kernel_and_each_looks_at_one_pixel():
    layer = ConvAttention.of(convolution(kernel_size=(3, 5), dilation=(2, 1), padding=(2, 2)))
    assert layer.heads == 15
    assert {tuple(p) for p in layer.positions.int().tolist()} == {(y, x) for y in (-2, 0, 2) for x in range(-2, 3)}
    for part in layer.float().positional(6, 7):
        assert set(part.unique().tolist()) == {0.0, 1.0}
        assert (part.sum(-1) == 1).all()
    for part in layer.double().positional(6, 7):
        assert 0 < part[part < 0.5].max() < 1e-40


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_the_whole_cnn_rewritten_says_the_same(cnn, dtype):
    torch.manual_seed(1)
    network, batches = cnn.to(dtype), torch.randn(2, 32, 3, 32, 32, dtype=dtype).unbind()
    rewritten = rewrite(network)
    assert not layers(rewritten, nn.Conv2d)
    assert [layer.heads for layer in layers(rewritten)] == [
        math.prod(c.kernel_size) for c in layers(network, nn.Conv2d)
    ]
    found = agreement(network.train(), rewritten.train(), batches)
    assert (network.training, rewritten.training) == (False, False)
    assert found.largest < TOLERANCE[dtype]
    assert (found.images, found.same) == (64, 64)
    with torch.no_grad():
        assert network(batches[0]).std(0).min() > 1e-3  # not the same logits for every image
        other = rewrite(network)
        layers(other)[3].positions[0, 0] += 1  # one head that looks one pixel further down
    assert agreement(network, other, batches).largest > 1e-3


def test_rewriting_leaves_the_network_the_other_weights_and_torchs_generator_alone(cnn):
    before, generator = {name: p.clone() for name, p in cnn.state_dict().items()}, torch.get_rng_state()
    rewritten = rewrite(cnn)
    assert torch.equal(generator, torch.get_rng_state())
    with torch.no_grad():
        for p in rewrite(cnn, gate=1.0).parameters():
            p.zero_()
    assert all(torch.equal(p, before[name]) for name, p in cnn.state_dict().items())
    kept = [name for name in before if name in rewritten.state_dict()]
    assert len(before) - len(kept) == len(layers(cnn, nn.Conv2d))
    assert all(torch.equal(rewritten.state_dict()[name], before[name]) for name in kept)
    assert {name.removesuffix(".out.weight") for name in rewritten.state_dict().keys() - before.keys()} == {
        name.removesuffix(".weight") for name in before.keys() - rewritten.state_dict().keys()
    }


def test_a_convolution_alone_shared_or_frozen_is_rewritten_as_such():
    conv = convolution(in_channels=3).eval()
    conv.weight.requires_grad_(False)
    made = rewrite(conv)
    assert isinstance(made, ConvAttention)
    assert not made.training
    assert (made.out.weight.requires_grad, made.out.bias.requires_grad) == (False, True)
    one, _, two = rewrite(nn.Sequential(conv, nn.ReLU(), conv))
    assert one is two


def test_attention_that_is_known_serves_training_other_sizes_and_other_precisions():
    conv = convolution()
    layer, images = ConvAttention.of(conv), torch.randn(2, 2, 6, 6, dtype=torch.float64)
    with torch.inference_mode():
        layer(images)
    known = layer.positional(6, 6)
    assert layer.positional(6, 6) is known
    layer(images.requires_grad_()).sum().backward()
    assert images.grad.abs().max() > 0
    assert (layer(images[..., :5]) - conv(images[..., :5])).abs().max() < 1e-10
    assert (layer.float()(images.float()) - conv.float()(images.float())).abs().max() < 1e-4


def test_a_large_gate_and_sharp_positions_give_the_convolution_again(cnn):
    torch.manual_seed(2)
    batches = [torch.randn(8, 3, 32, 32, dtype=torch.float64)]
    network = cnn.double()
    assert agreement(network, rewrite(network, gate=50.0, sharpness=EXACT), batches).largest < 1e-10
    blurred = agreement(network, rewrite(network, gate=50.0, sharpness=12.0), batches).largest
    assert 1e-8 < blurred < 1e-2

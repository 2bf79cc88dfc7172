"""A convolution is self-attention with positions that are given; set free, it learns where to look."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vitcnn.data.sources.registry import parse_dataset
from vitcnn.models.build import build
from vitcnn.models.config import CNN
from vitcnn.models.conv_attention import EXACT, FREED, ConvAttention, agreement, rewrite

RGB = parse_dataset("fashion-mnist").info.model_copy(update={"name": "rgb", "size": 32, "channels": 3})
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


def convolution(seed: int = 0, **changed) -> nn.Conv2d:
    torch.manual_seed(seed)
    fields = {"in_channels": 2, "out_channels": 3, "kernel_size": 3, "padding": 1} | changed
    return nn.Conv2d(**fields, dtype=torch.float64)


def layers(network: nn.Module, kind: type[nn.Module] = ConvAttention) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, kind)]


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


def test_a_large_gate_and_sharp_positions_give_the_convolution_again(cnn):
    torch.manual_seed(2)
    batches = [torch.randn(8, 3, 32, 32, dtype=torch.float64)]
    network = cnn.double()
    assert agreement(network, rewrite(network, gate=50.0, sharpness=EXACT), batches).largest < 1e-10
    blurred = agreement(network, rewrite(network, gate=50.0, sharpness=12.0), batches).largest
    assert 1e-8 < blurred < 1e-2


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
        ({"groups": 2, "out_channels": 4}, "a convolution of 2 groups: a head of self-attention sees every channel"),
        ({"padding_mode": "reflect"}, "padding (1, 1) of 'reflect': the tokens around the image are a given number of"),
        ({"padding": "same"}, "padding 'same' of 'zeros': the tokens around the image are a given number of zeros"),
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
    with pytest.raises(ValueError, match="4 pixels, 4 with the padding, are fewer than the 5 of the kernel"):
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

"""Every rung of the ladder keeps one contract, costs what a formula says, and limits what it says it limits."""

import math
from itertools import product
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from building import DIGITS, RGB, made, shaken
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vitcnn.errors import ConfigError
from vitcnn.models.attention import window_mask
from vitcnn.models.build import build, decay_groups
from vitcnn.models.config import CNN, RNN, SASA, CNNAttention, Hybrid, Mixer, Swin, ViT, ViTWindow
from vitcnn.models.profile import profile
from vitcnn.models.registry import Timm
from vitcnn.models.sasa import NeighbourhoodAttention
from vitcnn.models.vit import Recurrence
from vitcnn.store.paths import StudyPaths
from vitcnn.study.cell import Cell
from vitcnn.study.load import load_study
from vitcnn.study.matrix import cells
from vitcnn.training.callback import InterruptedCell
from vitcnn.training.train import train_cell

CONVNEXT = Timm(name="timm/convnext_atto", image_size=64, options={"dims": [24, 48, 96, 176], "depths": [1, 1, 2, 1]})
LADDER = [Mixer(), RNN(), ViT(), ViTWindow(), Hybrid(), Swin(), SASA(), CONVNEXT, CNN()]
RUNGS = [*LADDER, CNNAttention()]  # the last at 14 times the MACs: no rung of the matched ladder, but of its contract
every_rung = pytest.mark.parametrize("arch", RUNGS, ids=lambda m: m.name)
every_data = pytest.mark.parametrize("data", [DIGITS, RGB], ids=lambda d: d.name)


def ready(arch, data=RGB, seed: int = 0) -> nn.Module:
    return shaken(made(arch, data, seed)).eval()


def pictures(arch, data=RGB, count: int = 3) -> Tensor:
    size = profile(arch, data).input.image_size
    return torch.randn(count, data.channels, size, size, generator=torch.Generator().manual_seed(9))


def test_these_are_the_rungs_of_the_ladder_study():
    study = load_study(Path(__file__).parents[1] / "configs/cifar10/ladder.yaml")
    assert [e.arch for e in study.models if e.arch.name != "linear"] == LADDER


# ---- the contract ----


@every_data
@every_rung
def test_an_image_has_finite_logits_whatever_is_in_the_batch_with_it_and_however_it_lies_in_memory(arch, data):
    network, images = ready(arch, data), pictures(arch, data).requires_grad_()
    logits = network(images)
    assert (logits.shape, logits.dtype) == ((3, data.classes), torch.float32)
    assert logits.isfinite().all()
    (influence,) = torch.autograd.grad(logits[1].square().sum(), images)
    assert influence[1].any()
    assert not influence[[0, 2]].any()
    with torch.no_grad():
        again = network(images)
        assert torch.equal(network(images), again)
        assert torch.allclose(again, logits, atol=1e-6)  # torch's LSTM rounds otherwise where gradients are kept
        assert torch.allclose(network(images[1:2]), logits[1:2], atol=1e-5)
        assert torch.allclose(network(images.to(memory_format=torch.channels_last)), logits, atol=1e-5)
    assert (logits[0] - logits[1]).abs().max() > 1e-3


@every_data
@pytest.mark.parametrize(
    "arch",
    [*RUNGS, ViT(score="additive", positions="sinusoidal-1d"), ViT(score="dot", weights="relu/n", positions="none")],
    ids=lambda m: f"{m.name}-{getattr(m, 'score', '')}",
)
def test_the_gradient_reaches_every_parameter(arch, data):
    network = ready(arch, data).train()
    F.cross_entropy(network(pictures(arch, data)), torch.tensor([0, 1, 2])).backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().max() > 0, name


@every_rung
def test_half_precision_is_near_full_precision_and_learns(arch, request):
    if arch.name == "rnn" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        why = "torch's LSTM under autocast asks oneDNN for what a CPU without AVX-512 does not have"
        request.applymarker(pytest.mark.xfail(raises=RuntimeError, reason=why))
    network, images = ready(arch), pictures(arch)
    full = network(images).detach()
    with torch.autocast("cpu", torch.bfloat16):
        half = network(images)
    assert half.dtype == torch.bfloat16
    assert 0 < (half - full).abs().max() < 0.1 * full.abs().max()
    half.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@every_rung
def test_training_may_follow_on_what_inference_has_computed(arch):
    network, images = ready(arch), pictures(arch)
    with torch.inference_mode():
        network(images)
    network(images).sum().backward()


@every_rung
def test_weights_are_the_seeds_and_travel_as_a_state_dict(arch):
    torch.manual_seed(1)
    first = build(arch, RGB)[0].state_dict()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    profile(arch, RGB)
    assert torch.equal(before, torch.get_rng_state())  # counting draws nothing
    again, other, images = build(arch, RGB)[0], ready(arch, seed=2), pictures(arch)
    assert all(torch.equal(tensor, first[name]) for name, tensor in again.state_dict().items())
    assert any(not torch.equal(tensor, first[name]) for name, tensor in other.state_dict().items())
    with torch.no_grad():
        wanted = again.eval()(images)
        assert not torch.equal(other(images), wanted)
        other.load_state_dict(first)
        assert torch.equal(other(images), wanted)


@every_rung
def test_every_parameter_is_in_one_group_and_those_of_one_dimension_do_not_decay(arch):
    network = ready(arch)
    decayed, spared = (group["params"] for group in decay_groups(network, 0.3))
    assert sorted(map(id, decayed + spared)) == sorted(map(id, network.parameters()))
    assert all(p.ndim > 1 for p in decayed)
    matrices = {id(p) for name, p in network.named_parameters() if p.ndim > 1 and ".weight" in name}
    assert matrices <= set(map(id, decayed))


@pytest.mark.parametrize("kind", [Mixer, RNN, ViT, ViTWindow, Hybrid, Swin], ids=lambda k: k.__name__)
def test_drop_path_draws_in_training_only(kind):
    network, images = ready(kind(drop_path=0.9)), pictures(kind(), count=8)
    with torch.no_grad():
        assert torch.equal(network(images), network(images))
        assert torch.equal(network(images), ready(kind())(images))
        assert not torch.equal(network.train()(images), network(images))


# ---- what it costs: parameters and multiply-accumulates, by hand ----


def linear(inputs: int, outputs: int, times: int = 1, bias: bool = True) -> tuple[int, int]:
    return inputs * outputs + bias * outputs, times * inputs * outputs


def conv(kernel: int, inputs: int, outputs: int, side: int, before: int = 0) -> tuple[int, int]:
    """To a grid of `side`, with the two numbers a channel of the batch norm behind it."""
    return kernel**2 * inputs * outputs + 2 * outputs, side**2 * kernel**2 * inputs * outputs


def mlp(width: int, inside: int, times: int) -> list[tuple[int, int]]:
    return [linear(width, inside, times), linear(inside, width, times)]


def of_tokens(m, data, size: int) -> list[tuple[int, int]]:
    """Mixer, RNN, ViT, windowed ViT and hybrid."""
    w, N, channels = m.width, (size // m.patch_size) ** 2, data.channels
    if isinstance(m, Hybrid):
        halvings = round(math.log2(m.patch_size))
        widths = [channels, *(w * 2**k // 2 ** (halvings - 1) for k in range(halvings))]
        parts = [conv(3, widths[k], widths[k + 1], size // 2 ** (k + 1)) for k in range(halvings)]
        parts.append(linear(w, w, N))
    else:
        parts = [linear(m.patch_size**2 * channels, w, N)]
    if getattr(m, "positions", "none") == "learned":
        parts.append((N * w, 0))
    for _ in range(m.depth):
        parts += [(4 * w, 0), *mlp(w, int(m.mlp_ratio * w), N)]  # two layer norms
        if isinstance(m, Mixer):
            parts += mlp(N, int(m.token_ratio * w), w)
        elif isinstance(m, RNN):  # two directions of four gates of w/2 numbers, from the token and from the state
            parts.append((2 * 4 * (w // 2) * (w + w // 2 + 2), N * 2 * 4 * (w // 2) * (w + w // 2)))
        else:  # q, k and v; every pair's score; the weighted sum; W^O. A window hides pairs and saves nothing
            parts += [linear(w, 3 * w, N), ((m.score == "additive") * w, N**2 * w), (0, N**2 * w), linear(w, w, N)]
    return [*parts, (2 * w, 0), linear(w, data.classes)]


def of_swin(m, data, size: int) -> list[tuple[int, int]]:
    w, grid = m.width, size // m.patch_size
    parts = [linear(m.patch_size**2 * data.channels, w, grid**2), (2 * w, 0)]
    for stage, (depth, heads) in enumerate(zip(m.depths, m.heads, strict=True)):
        if stage:  # 2×2 tokens become one of twice the width
            grid //= 2
            parts += [(8 * w, 0), linear(4 * w, 2 * w, grid**2, bias=False)]
            w *= 2
        N, window = grid**2, min(grid, m.window)
        for _ in range(depth):
            parts += [linear(w, 3 * w, N), (0, 2 * N * window**2 * w), linear(w, w, N), *mlp(w, 4 * w, N)]
            parts.append((4 * w + (2 * window - 1) ** 2 * heads, 0))
    return [*parts, (2 * w, 0), linear(w, data.classes)]


def of_convnext(m, data, size: int) -> list[tuple[int, int]]:
    """4×4 patches; between stages layer norm and 2×2 patches; blocks of a depthwise 7×7, a layer norm, an MLP of 1×1
    convolutions, a scale for each channel."""
    side, inside, parts = size // 4, data.channels, []
    for stage, (w, depth) in enumerate(zip(m.options["dims"], m.options["depths"], strict=True)):
        side //= 2 if stage else 1
        parts += [linear((2 if stage else 4) ** 2 * inside, w, side**2), (2 * (inside if stage else w), 0)]
        parts += depth * [linear(49, w, side**2), (2 * w + w, 0), *mlp(w, 4 * w, side**2)]
        inside = w
    return [*parts, (2 * inside, 0), linear(inside, data.classes)]


def freed(head_width: int):
    """A convolution as attention, from a grid of `before` to one of `side`: a head for each offset, which is learned
    with its sharpness and its gate; it looks by place (rows, then columns) and by content (tokens of whole lanes)."""

    def conv(kernel: int, inputs: int, outputs: int, side: int, before: int) -> tuple[int, int]:
        h, asks, lanes = kernel**2, side**2, 16 * math.ceil(inputs / 16)
        place = h * inputs * (before**2 * side + before * asks)
        content = h * asks * (2 * inputs * head_width + 2 * before**2 * lanes)  # W^q and W^k; the scores and the sum
        parameters = h * (inputs * outputs + 4 + 2 * inputs * head_width) + 2 * outputs
        return parameters, place + content + asks * h * inputs * outputs

    return conv


def of_cnns(m, data, size: int) -> list[tuple[int, int]]:
    """The CNN, the CNN whose 3×3 convolutions are attention, and the CNN rewritten as attention."""
    convolve = freed(m.head_width) if isinstance(m, CNNAttention) else conv
    side, inside = math.ceil(size / m.stem_stride), m.channels[0]
    parts = [convolve(3, data.channels, inside, side, size)]

    def mix(inputs: int, outputs: int, before: int) -> list[tuple[int, int]]:
        if not isinstance(m, SASA):
            return [convolve(3, inputs, outputs, side, before)]
        tiles = math.ceil(side / 4) ** 2
        keys = 4**2 if side <= 4 else (4 + m.window - 1) ** 2  # of each tile's 16 pixels
        pairs = tiles * 16 * keys * outputs  # the score, that of the offset, the sum
        qkv, r = linear(inputs, 3 * outputs, side**2, bias=False), m.window**2 * m.head_width
        return [qkv, (r, 3 * pairs), (2 * outputs, 0)]

    for stage, (outputs, count) in enumerate(zip(m.channels, m.blocks, strict=True)):
        for block in range(count):
            before, halves = side, stage > 0 and not block
            side = math.ceil(side / 2) if halves else side
            parts += mix(inside, outputs, before) + mix(outputs, outputs, side)
            if halves or inside != outputs:
                parts.append(convolve(1, inside, outputs, side, before))
            inside = outputs
    return [*parts, linear(inside, data.classes)]


OTHERWISE = [
    Mixer(width=40, depth=2, patch_size=8, image_size=48, token_ratio=1.5, mlp_ratio=2.5),
    RNN(width=40, depth=3, patch_size=8, image_size=48, mlp_ratio=1.5),
    ViT(width=40, depth=3, heads=5, patch_size=8, image_size=48, mlp_ratio=2.5, positions="sinusoidal"),
    ViT(score="additive", width=48, depth=1, image_size=96),
    ViT(score="dot", weights="relu", positions="none", depth=1),
    ViTWindow(window=5, width=48, depth=2, patch_size=4, image_size=24),
    Hybrid(width=48, depth=1, patch_size=8, image_size=48),
    Hybrid(width=48, depth=1, patch_size=2, image_size=8, positions="sinusoidal-1d"),
    Swin(width=24, depths=(2, 1, 1), heads=(1, 2, 3), window=2, patch_size=4, image_size=64),
    Swin(width=24, depths=(2,), heads=(3,), window=4, image_size=96),
    CNN(channels=(8, 20), blocks=(2, 3), stem_stride=1, image_size=24),
    CNN(channels=(8, 20, 30), image_size=37),
    SASA(channels=(8, 24), blocks=(2, 1), stem_stride=1, image_size=24, window=3, head_width=4),
    SASA(channels=(16, 16, 32, 32), blocks=(1, 1, 1, 1), image_size=37, window=7, head_width=8),
    CONVNEXT.model_copy(update={"image_size": 96, "options": {"dims": [8, 24, 40, 16], "depths": [2, 1, 3, 1]}}),
    CNNAttention(channels=(8, 20), blocks=(2, 1), stem_stride=1, image_size=11, head_width=3),
]


@every_data
@pytest.mark.parametrize("arch", RUNGS + OTHERWISE, ids=lambda m: m.name)
def test_parameters_and_macs_are_those_of_the_formula(arch, data):
    counted = profile(arch, data)
    formulas = {Swin: of_swin, Timm: of_convnext, CNN: of_cnns, SASA: of_cnns, CNNAttention: of_cnns}
    formula = formulas.get(type(arch), of_tokens)
    parameters, macs = map(sum, zip(*formula(arch, data, counted.input.image_size), strict=True))
    assert counted.parameters == parameters
    # over one channel some of cnn-attention's contractions are mere products, which torch's counter does not see
    assert counted.macs == pytest.approx(macs, rel=1e-3 if isinstance(arch, CNNAttention) else 1e-6)


@pytest.mark.parametrize("arch", LADDER, ids=lambda m: m.name)
def test_the_ladder_is_matched_on_colour_images_of_32_pixels(arch):
    counted = profile(arch, RGB)
    assert 0.42e6 < counted.parameters < 0.56e6
    assert 7e6 < counted.macs < 12e6


@pytest.mark.parametrize(
    "arch",
    [kind(width=192) for kind in (Mixer, RNN, ViT, ViTWindow, Hybrid)]
    + [Swin(width=120, heads=(4, 8)), SASA(channels=(32, 96, 704)), CNN(channels=(32, 96, 384))],
    ids=lambda m: m.name,
)
def test_twice_the_width_is_about_2_million_parameters_on_every_rung(arch):
    counted = profile(arch, RGB)
    assert 1.65e6 < counted.parameters < 2.15e6
    assert 27e6 < counted.macs < 42e6


# ---- vit: where tokens are, only their positions say ----


def permuted(images: Tensor, order: Tensor, patch: int = 16) -> Tensor:
    """Whole patches change paths: patch order[i] comes to stand at i."""
    tokens = F.unfold(images, patch, stride=patch)
    return F.fold(tokens[..., order], images.shape[-2:], patch, stride=patch)


@pytest.mark.parametrize("options", [{}, {"score": "additive"}, {"weights": "relu/n"}], ids=str)
def test_a_vit_without_positions_cannot_tell_the_order_of_its_tokens(options):
    arch = ViT(positions="none", depth=2, **options)
    network, images, order = ready(arch), pictures(arch), torch.randperm(16)
    with torch.no_grad():
        moved = permuted(images, order)
        assert not torch.equal(moved, images)
        assert torch.allclose(network(moved), network(images), atol=1e-5)
        flipped = network(images.flip(-1)) - network(images)  # the pixels in a token, however, are not free
        assert flipped.abs().max() > 1e-3


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "sinusoidal-1d"])
def test_tokens_and_positions_permuted_together_change_nothing_and_either_alone_does(positions):
    arch = ViT(positions=positions, depth=2)
    network, images = ready(arch), pictures(arch)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before, tokens_alone = network(images), network(permuted(images, order))
        network.positions.copy_(network.positions[order].clone())
        both, positions_alone = network(permuted(images, order)), network(images)
    assert torch.allclose(both, before, atol=1e-5)
    assert (tokens_alone - before).abs().max() > 1e-3
    assert (positions_alone - before).abs().max() > 1e-3


def influence(function, tokens: Tensor, i: int) -> Tensor:
    """(N,): how much each of the tokens (1, N, D) can move the i-th of the outputs (1, N, D')."""
    tokens = tokens.detach().requires_grad_()
    out = function(tokens)[0, i]
    (gradient,) = torch.autograd.grad((out * torch.randn_like(out)).sum(), tokens)
    return gradient[0].abs().amax(-1)


# ---- vit-window ----


@settings(max_examples=15, deadline=None)
@given(st.integers(4, 7), st.integers(1, 3), st.sampled_from([1, 3, 5]), st.integers(0, 48))
def test_a_window_lets_a_token_see_as_far_as_depth_times_reach(grid, depth, window, at):
    arch = ViTWindow(width=12, depth=depth, window=window, patch_size=2, image_size=2 * grid)
    i = at % grid**2
    sees = influence(ready(arch).blocks, torch.randn(1, grid**2, 12), i) > 0
    assert torch.equal(sees, window_mask(grid, 2 * depth * (window // 2) + 1)[i])


def test_a_window_over_the_whole_grid_is_the_vit():
    network, vit, images = ready(ViTWindow(window=7)), ready(ViT(), seed=1), pictures(ViT())
    vit.load_state_dict(network.state_dict())
    narrow = ready(ViTWindow(window=5), seed=1)
    narrow.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.allclose(network(images), vit(images), atol=1e-5)
        assert not torch.allclose(narrow(images), vit(images), atol=1e-4)


# ---- mixer ----


def test_a_mixers_weights_between_tokens_are_the_same_whatever_the_tokens_say_and_attentions_are_not():
    """Without its nonlinearity the mixing of tokens is one matrix (N, N) for every image and every channel."""
    mixing = ready(Mixer()).blocks[0].mlp_tokens.double()  # (B, D, N) -> same
    mixing.act = nn.Identity()
    attention = ready(ViT(positions="none")).blocks[0].attention.double()
    (a, b), nothing = torch.randn(2, 1, 16, 96).double(), torch.zeros(1, 16, 96).double()

    def mixed(tokens: Tensor) -> Tensor:
        return mixing(tokens.transpose(1, 2)).transpose(1, 2)

    with torch.no_grad():
        for mix, adds_up in ((mixed, True), (attention, False)):
            assert torch.allclose(mix(a + b), mix(a) + mix(b) - mix(nothing), atol=1e-10) == adds_up
        constant = mixed(nothing)
        matrix = mixed(torch.eye(16).double()[None]) - constant[..., :16]
        assert torch.allclose(mixed(a), constant + matrix @ a, atol=1e-10)


def test_a_mixer_mixes_each_channel_of_the_tokens_alone_and_reaches_every_token():
    mixing, tokens = ready(Mixer()).blocks[0].mlp_tokens, torch.randn(1, 96, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(mixing(tokens)[0, 5].square().sum(), tokens)
    assert gradient[0, 5].all()
    gradient[0, 5] = 0
    assert not gradient.any()


# ---- rnn ----


def test_each_direction_of_the_rnn_sees_what_came_before_it():
    """Half of token i's numbers depend on exactly the tokens up to i, row by row; the other half on those from i on."""
    torch.manual_seed(0)
    recurrence, tokens = Recurrence(12), torch.randn(1, 9, 12)
    for i in range(9):
        assert (influence(lambda x: recurrence(x)[..., :6], tokens, i) > 0).tolist() == [j <= i for j in range(9)]
        assert (influence(lambda x: recurrence(x)[..., 6:], tokens, i) > 0).tolist() == [j >= i for j in range(9)]


def test_the_rnn_reads_tokens_row_by_row_and_so_knows_their_order():
    network, images = ready(RNN()), pictures(RNN())
    rows, columns = torch.arange(16), torch.arange(16).view(4, 4).T.flatten()
    with torch.no_grad():
        assert torch.equal(permuted(images, rows), images)
        assert (network(permuted(images, columns)) - network(images)).abs().max() > 1e-3
    seen = []
    network.blocks[0].attention.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(images)
        tokens = (
            F.unfold(images, 16, stride=16).transpose(1, 2) @ network.embed.weight.flatten(1).T + network.embed.bias
        )
        assert torch.allclose(seen[0], network.blocks[0].norm1(tokens), atol=1e-4)


# ---- hybrid ----


@pytest.mark.parametrize(("kind", "before"), [(ViT, 0), (Hybrid, 15)])
def test_a_vits_tokens_end_at_their_borders_and_a_hybrids_reach_into_the_tokens_before_them(kind, before):
    """Four 3×3 convolutions of stride 2 look at 31 pixels a side: 15 of the token before, and all of its own."""
    network = ready(kind())
    for row, column in product(range(4), repeat=2):
        images = torch.randn(8, 3, 64, 64, requires_grad=True)  # several: a ReLU may be off
        (gradient,) = torch.autograd.grad(network.embed(images)[:, :, row, column].square().sum(), images)
        ys, xs = gradient.abs().amax((0, 1)).nonzero().T
        for place, pixels in ((row, ys), (column, xs)):
            assert (pixels.min(), pixels.max()) == (max(0, 16 * place - before), 16 * place + 15)


# ---- sasa: attention over each pixel's neighbourhood ----


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


# ---- what does not come out whole ----


@pytest.mark.parametrize(
    ("arch", "said"),
    [
        (Mixer(image_size=72), "mixer: an image of 72 pixels cannot be cut into whole 16×16 tokens"),
        (RNN(image_size=72), "rnn: an image of 72 pixels cannot be cut into whole 16×16 tokens"),
        (RNN(image_size=32), "rnn: image_size 32 has fewer than 4×4 tokens of 16×16 pixels; set it to 64"),
        (RNN(width=97), "rnn: a width of 97 cannot be split into two directions"),
        (ViTWindow(heads=7), "vit-window: 7 heads do not divide a width of 96"),
        (Hybrid(patch_size=12), "hybrid: a convolutional stem halves the image until a token is one pixel: patch_size"),
        (Hybrid(patch_size=1), "patch_size 1 must be a power of two, and the width 96 divisible by half of it"),
        (Hybrid(width=90), "the width 90 divisible by half of it"),
        (Hybrid(heads=5), "hybrid: 5 heads do not divide a width of 96"),
        (SASA(head_width=32), "sasa: heads of 32 numbers do not divide 16 channels"),
        (SASA(blocks=(1, 1)), "sasa: 3 channels and 2 blocks: one of each per stage"),
    ],
    ids=lambda value: "" if isinstance(value, str) else value.name,
)
def test_what_does_not_come_out_whole_is_refused_with_a_sentence(arch, said):
    with pytest.raises(ConfigError) as caught:
        build(arch, RGB)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ("{vit: {score: scald}}", "models.vit.score: Input should be 'scaled', 'dot' or 'additive' (got 'scald')"),
        ("{vit: {weights: max}}", "models.vit.weights: Input should be 'softmax', 'relu' or 'relu/n' (got 'max')"),
        ("{hybrid: {positions: 2d}}", "'learned', 'sinusoidal', 'sinusoidal-1d' or 'none' (got '2d')"),
        ("{vit-window: {window: 4}}", "vit-window.window: a window needs a token in the middle, so an odd size, not 4"),
        ("{mine: {arch: vit-window, window: 0}}", "models.mine.window: Input should be greater than 0 (got 0)"),
        ("{sasa: {window: 2}}", "sasa.window: a window needs a token in the middle, so an odd size, not 2"),
        ("{rnn: {heads: 3}}", "unknown key 'heads' in models.rnn; known: depth, "),
        ("{vit: {window: 3}}", "unknown key 'window' in models.vit"),
        ("[mixr]", "unknown architecture 'mixr'; did you mean 'mixer'?"),
        ("{sassa: {}}", "unknown architecture 'sassa'; did you mean 'sasa'?"),
    ],
)
def test_a_wrong_option_in_a_study_is_refused_with_what_is_known(study, models, said):
    with pytest.raises(ConfigError) as caught:
        study(f"models={models}")
    assert said in str(caught.value)
    assert "small.yaml" in str(caught.value)


# ---- trained ----

TINY = """
dataset: digits
sizes: [50]
seeds: 1
models:
  mixer: {width: 16, depth: 2, patch_size: 4, drop_path: 0.5}
  rnn: {width: 16, depth: 2, patch_size: 4, drop_path: 0.5}
  vit-window: {width: 16, depth: 2, heads: 2, patch_size: 4}
  hybrid: {width: 16, depth: 1, heads: 2, patch_size: 4, score: additive, weights: relu/n, positions: sinusoidal-1d}
  sasa: {channels: [8, 8], blocks: [1, 1], head_width: 4, image_size: 16}
budget: {images_seen: 192}
recipe: {batch_size: 32, augment: "shift:1", lr: 0.003}
"""


def cell_of(study, model: str) -> Cell:
    return next(cell for cell in cells(study(text=TINY)) if cell.model == model)


@pytest.mark.parametrize("model", ["mixer", "rnn", "vit-window", "hybrid", "sasa"])
def test_a_rung_is_trained_and_ends_the_same_when_it_is_interrupted(model, study, tmp_path):
    cell = cell_of(study, model)
    undisturbed = train_cell(cell, paths=StudyPaths("whole", tmp_path, tmp_path))
    assert (undisturbed.cost.steps, undisturbed.cost.resumed) == (6, 0)
    assert math.isfinite(undisturbed.test.nll)
    assert undisturbed.curve[-1].train_loss != undisturbed.curve[0].train_loss
    paths, answers = StudyPaths("parts", tmp_path, tmp_path), iter([False, True, False])
    with pytest.raises(InterruptedCell):
        train_cell(cell, paths=paths, stop=lambda: next(answers))
    resumed = train_cell(cell, paths=paths, stop=lambda: next(answers))
    assert resumed.cost.resumed == 1
    assert (resumed.weights, resumed.curve, resumed.test) == (undisturbed.weights, undisturbed.curve, undisturbed.test)

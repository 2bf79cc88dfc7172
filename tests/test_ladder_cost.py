"""What every rung of the ladder costs: parameters and multiply-accumulates, by hand."""

import math

import pytest
from building import RGB
from ladder import CONVNEXT, LADDER, RUNGS, every_data

from vitcnn.models.config import CNN, RNN, SASA, CNNAttention, Hybrid, Mixer, Swin, ViT, ViTWindow
from vitcnn.models.profile import profile
from vitcnn.models.registry import Timm


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

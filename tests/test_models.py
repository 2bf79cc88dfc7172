"""Every network keeps one contract, and its size is the design's."""

import math

import pytest
import torch
import torch.nn.functional as F
from building import DIGITS, FASHION, RGB, lane_on, made, shaken
from torch import nn

from vitcnn.data.preprocess import Preprocess
from vitcnn.errors import ConfigError
from vitcnn.models.build import build, decay_groups, image_size
from vitcnn.models.config import CNN, CNNAttention, Linear, Swin, ViT, ViTWindow
from vitcnn.models.profile import profile
from vitcnn.models.registry import Timm
from vitcnn.study.recipe import Recipe

NETWORKS = [ViT(), Swin(), CNN()]


# ---- the contract ----


@pytest.mark.parametrize("data", [DIGITS, FASHION, RGB], ids=lambda d: d.name)
@pytest.mark.parametrize("arch", [*NETWORKS, ViT(positions="sinusoidal", depth=2)], ids=lambda m: m.name)
def test_images_become_finite_logits_and_every_parameter_learns(arch, data):
    torch.manual_seed(0)
    network, size = build(arch, data)
    shaken(network).train()
    logits = network(torch.randn(3, data.channels, size, size))
    assert logits.shape == (3, data.classes)
    assert logits.isfinite().all()
    F.cross_entropy(logits, torch.tensor([0, 1, 2])).backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().max() > 0, name


@pytest.mark.parametrize("arch", [ViT(drop_path=0.5), Swin(drop_path=0.5)], ids=lambda m: m.name)
def test_drop_path_draws_in_training_only(arch):
    network, size = build(arch, DIGITS)
    images = torch.randn(8, 1, size, size)
    with torch.no_grad():
        assert not torch.equal(network.train()(images), network(images))
        assert torch.equal(network.eval()(images), network(images))


@pytest.mark.parametrize("arch", NETWORKS, ids=lambda m: m.name)
def test_the_same_torch_seed_builds_the_same_network_and_another_seed_another(arch):
    first, again, other = (made(arch, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


# ---- parameters and multiply-accumulates: the table of the design ----

WORDS_16 = [(ViT(), 0.524, 8.46), (CNN(), 0.461, 9.89), (Swin(), 0.436, 9.74)]
WORDS_64 = [
    (ViT(image_size=128), 0.528, 36.2),
    (CNN(stem_stride=1), 0.461, 39.6),
    (Swin(image_size=128), 0.436, 39.0),
]


@pytest.mark.parametrize(("arch", "parameters", "macs"), WORDS_16 + WORDS_64)
def test_parameters_and_macs_are_those_of_the_design(arch, parameters, macs):
    counted = profile(arch, RGB)
    assert counted.parameters / 1e6 == pytest.approx(parameters, rel=0.005)
    assert counted.macs / 1e6 == pytest.approx(macs, rel=0.005)


def test_the_counted_macs_of_the_vit_are_those_of_the_formula():
    m, N, P, C = ViT(), 16, 16, 3
    block = N * m.width**2 * (4 + 2 * m.mlp_ratio) + 2 * N**2 * m.width  # q k v and W^O, MLP; scores and sum
    formula = N * P**2 * C * m.width + m.depth * block + m.width * RGB.classes
    assert profile(m, RGB).macs == pytest.approx(formula, rel=1e-6)


def test_facts_say_what_the_tokens_are_made_of():
    vit, cnn, baseline = profile(ViT(), FASHION), profile(CNN(), FASHION), profile(Linear(), FASHION)
    assert (vit.input.image_size, vit.input.tokens, vit.input.native_pixels_per_token) == (64, 16, 7)
    assert profile(Swin(), FASHION).input.tokens == 64
    assert (cnn.input.image_size, cnn.input.tokens, cnn.input.native_pixels_per_token) == (32, None, None)
    assert (baseline.parameters, baseline.macs, baseline.input.image_size) == (7850, 7840, 28)


def test_counting_does_not_move_torchs_generator():
    torch.manual_seed(4)
    before = torch.get_rng_state()
    profile(ViT(), RGB)
    assert torch.equal(before, torch.get_rng_state())


# ---- image sizes ----


@pytest.mark.parametrize(("native", "vit"), [(8, 64), (28, 64), (32, 64), (96, 96), (100, 112)])
def test_images_are_shown_at_the_smallest_size_that_fits(native, vit):
    data = DIGITS.model_copy(update={"size": native})
    assert [image_size(arch, data) for arch in NETWORKS] == [vit, vit, vit // 2]
    with torch.no_grad():
        for arch in NETWORKS:
            network, size = build(arch, data)
            assert network.eval()(torch.zeros(1, 1, size, size)).shape == (1, 10)


def test_a_size_that_the_study_gives_is_taken():
    assert [image_size(kind(image_size=128), RGB) for kind in (ViT, Swin, CNN)] == [128, 128, 128]
    assert image_size(ViT(patch_size=8), RGB) == 32


@pytest.mark.parametrize(
    ("arch", "said"),
    [
        (ViT(image_size=48), "image_size 48 has fewer than 4×4 tokens of 16×16 pixels; set it to 64"),
        (ViT(image_size=72), "vit: an image of 72 pixels cannot be cut into whole 16×16 tokens"),
        (ViT(heads=5), "vit: 5 heads do not divide a width of 96"),
        (ViT(width=90, positions="sinusoidal"), "vit: sinusoidal positions need a width divisible by 4, not 90"),
        (Swin(image_size=72), "swin: an image of 72 pixels cannot be cut into 8×8 tokens and halved 1 times"),
        (Swin(heads=(2, 7)), "swin: 7 heads do not divide the width 120 of stage 2"),
        (Swin(depths=(1, 1, 1)), "swin: 3 depths and 2 heads: one of each per stage"),
        (CNN(blocks=(1, 1)), "cnn: 3 channels and 2 blocks: one of each per stage"),
    ],
)
def test_dimensions_that_do_not_come_out_whole_are_refused(arch, said):
    with pytest.raises(ConfigError) as caught:
        build(arch, RGB)
    assert said in str(caught.value)


# ---- positions ----


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_a_vit_knows_the_order_of_its_tokens_from_their_positions_alone(positions):
    """Patches and positions permuted together: the same logits. Patches permuted alone: others."""
    network = shaken(made(ViT(positions=positions, depth=2))).eval()
    patches, order = torch.randn(2, 3, 4, 4, 16, 16), torch.randperm(16)  # (B, C, rows, columns, P, P)

    def logits(patches):
        return network(patches.transpose(3, 4).reshape(2, 3, 64, 64))

    with torch.no_grad():
        before, mixed = logits(patches), patches.flatten(2, 3)[:, :, order].view_as(patches)
        alone = logits(mixed)
        network.positions.copy_(network.positions[order])
        together = logits(mixed)
    assert (together - before).abs().max() < 1e-5
    assert (alone - before).abs().max() > 1e-3


# ---- initialisation and weight decay ----


@pytest.mark.parametrize("arch", [ViT(), Swin()], ids=lambda m: m.name)
def test_xavier_fills_its_bounds_and_normal_has_deviation_002(arch):
    for init in ("xavier", "normal"):
        for name, module in made(arch, init=init).named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                W = module.weight.detach().flatten(1)
                bound = math.sqrt(6 / sum(W.shape))
                limit, std = (bound, bound / math.sqrt(3)) if init == "xavier" else (0.1, 0.02)
                assert W.abs().max() <= limit, name
                assert W.std().item() == pytest.approx(std, rel=0.1), name
                assert module.bias is None or not module.bias.any(), name


HUGE = {
    "wide": ViT(width=10**8, heads=1),
    "large": ViT(image_size=1_600_000),
    "deep": ViT(width=12_288, heads=96, depth=200),  # no tensor of it is large
    "window": ViTWindow(image_size=160_000, positions="none"),
    "timm": Timm(name="timm/vit_tiny_patch16_224", options={"embed_dim": 12_288, "num_heads": 96, "depth": 50}),
    "rewritten": CNNAttention(head_width=10**9),
}


@pytest.mark.parametrize("arch", HUGE.values(), ids=HUGE)
def test_a_network_that_no_memory_holds_is_refused_with_its_size(arch):
    before = torch.get_rng_state()
    said = r"does not fit into memory: training its [\d,]+ parameters needs [\d,]+ GB, and \d+ GB are free$"
    with pytest.raises(ConfigError, match=f"^{arch.name}: {said}"):
        build(arch, RGB)
    assert torch.equal(before, torch.get_rng_state())


def test_a_tensor_beyond_64_bits_is_refused():
    with pytest.raises(ConfigError, match=r"^vit: does not fit into memory: a tensor has more than 2\^63 bytes$"):
        build(ViT(width=2**62, heads=1), RGB)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("{arch: vit, depth: 1000000000}", "depth: Input should be less than or equal to 1000"),
        ("{arch: mixer, depth: 20000}", "depth: Input should be less than or equal to 1000"),
        ("{arch: cnn, blocks: [1, 1, 1000000000]}", "blocks: 1,000,000,002 blocks in all; use at most 1,000"),
        ("{arch: swin, depths: [600, 600]}", "depths: 1,200 blocks in all; use at most 1,000"),
        ("{arch: timm/test_vit, options: {depth: 1000000000}}", "options: 1,000,000,000 blocks in all"),
        ("{arch: timm/resnet18, options: {layers: [1, 1, 1, 1000000000]}}", "options: 1,000,000,003 blocks in all"),
    ],
)
def test_a_depth_that_would_fill_the_memory_with_layers_is_refused_when_the_study_is_read(study, model, said):
    with pytest.raises(ConfigError, match=said):
        study(f"models={{deep: {model}, linear: {{}}}}")


def test_init_leaves_the_cnns_convolutions_to_he_and_sets_its_head():
    xavier, normal = (made(CNN(), init=init) for init in ("xavier", "normal"))
    for (name, one), two in zip(xavier.named_modules(), normal.modules(), strict=True):
        if isinstance(one, nn.Conv2d):
            assert torch.equal(one.weight, two.weight), name
            fan_out = one.out_channels * one.kernel_size[0] * one.kernel_size[1]
            assert one.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.1), name
    assert xavier.head.weight.abs().max() <= math.sqrt(6 / (192 + 10))
    assert normal.head.weight.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("arch", NETWORKS, ids=lambda m: m.name)
def test_weight_decay_is_on_matrices_and_kernels_and_every_parameter_is_in_one_group(arch):
    network = made(arch)
    names = {id(p): name for name, p in network.named_parameters()}
    decayed, spared = decay_groups(network, 0.3)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.3, 0.0)
    assert sorted(map(id, decayed["params"] + spared["params"])) == sorted(names)
    tables = ("positions", "relative_position_bias_table")
    for p in decayed["params"]:
        assert p.ndim > 1
        assert not names[id(p)].endswith(tables)
    for p in spared["params"]:
        assert p.ndim == 1 or names[id(p)].endswith(tables)


def test_a_cnn_of_very_few_channels_is_trained_without_damage_to_memory():
    """torch 2.14.1 ends such a process, in channels last."""
    network = made(CNN(channels=(4, 8), blocks=(1, 1), image_size=16), DIGITS)
    images = torch.randint(256, (16, 1, 8, 8), dtype=torch.uint8)
    lane_on(network, images, Preprocess.of(images, 16), Recipe(batch_size=16), steps=30).advance(0, 30)
    assert all(p.isfinite().all() for p in network.parameters())

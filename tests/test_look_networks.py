"""Attention, receptive fields and filters are read from networks as they are."""

import numpy as np
import pytest
import timm
import torch
from building import made, shaken
from torch import Tensor, nn

from vitcnn.data.preprocess import Preprocess
from vitcnn.inspect.attention_layers import attention_layers, places
from vitcnn.inspect.attention_numbers import mean_distance
from vitcnn.inspect.effective_field import effective_field, last_map
from vitcnn.inspect.first_layer import first_filters, positions_of
from vitcnn.models.attention import SelfAttention
from vitcnn.models.config import CNN, RNN, SASA, CNNAttention, Hybrid, Mixer, Swin, ViT, ViTWindow

# ---- attention of networks ----


class Neighbours(nn.Module):
    """Attention on which token looks at which: each token's vector is its number, W^q sends it to its neighbour's."""

    def __init__(self, partner: Tensor):
        super().__init__()
        N = len(partner)
        self.attention = SelfAttention(N, 1)
        with torch.no_grad():
            self.attention.qkv.weight.copy_(torch.cat([100 * torch.eye(N)[partner].T, torch.eye(N), torch.eye(N)]))
            self.attention.qkv.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        return self.attention(torch.eye(len(self.attention.out.weight)).expand(len(images), -1, -1)).mean(1)


def test_hand_built_attention_is_read_from_the_network():
    partner = torch.arange(16) ^ 1
    _, (layer,) = attention_layers(Neighbours(partner), torch.zeros(2, 1, 1, 1))
    np.testing.assert_allclose(layer.weights, np.eye(16)[partner][None, None].repeat(2, 0), atol=1e-6)
    assert mean_distance(layer.weights[0], layer.queries, places(layer.grid)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("arch", [ViT(), ViTWindow(), Swin(depths=(2, 2)), SASA(image_size=16), Hybrid()])
def test_reading_attention_leaves_the_logits_as_they_are_and_every_query_gives_it_all_away(arch):
    network = shaken(made(arch)).eval()
    images = torch.randn(2, 3, 64 if not isinstance(arch, SASA) else 16, 64 if not isinstance(arch, SASA) else 16)
    logits, layers = attention_layers(network, images)
    np.testing.assert_allclose(logits, network(images).detach().numpy(), atol=1e-5)
    assert layers
    for layer in layers:
        np.testing.assert_allclose(layer.weights.sum(-1), 1, atol=1e-5)
        assert layer.weights.shape[2:] == (len(layer.queries), layer.grid[0] * layer.grid[1])


def test_attention_in_windows_is_what_the_shifted_block_computes():
    network = shaken(made(Swin(depths=(2, 1)))).eval()
    _, layers = attention_layers(network, images := torch.randn(2, 3, 64, 64))
    assert [layer.windows for layer in layers] == [((4, 0),) * 2, ((4, 2),) * 2, ((4, 0),) * 2]
    block, heard = network.layers[0].blocks[1], []
    block.norm1.register_forward_hook(lambda _, __, x: heard.append(x))
    with torch.no_grad():
        network(images)
        x = heard[0]
        v = block.attn.qkv(x).view(2, 64, 3, 2, 30)[:, :, 2].transpose(1, 2)
        b = torch.from_numpy(layers[1].weights) @ v
        by_hand = block.attn.proj(b.transpose(1, 2).reshape(2, 64, 60))
        torch.testing.assert_close(by_hand, block._attn(x).reshape(2, 64, 60), atol=1e-5, rtol=1e-4)


def test_attention_of_a_neighbourhood_is_what_its_tiles_compute():
    layer = shaken(made(SASA(image_size=16))).stages[1].conv2[1]
    x = torch.randn(2, 48, 7, 6)
    v = layer.qkv(x.permute(0, 2, 3, 1)).view(2, 42, 3, 3, 16)[:, :, 2].transpose(1, 2)
    b = (layer.attention(x) @ v).permute(0, 1, 3, 2).reshape(2, 48, 7, 6)
    torch.testing.assert_close(b, layer(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "prefix"), [("test_vit", 1), ("vit_tiny_patch16_224", 1), ("beit_base_patch16_224", 1)]
)
def test_attention_of_timms_vits_is_read_with_their_class_token(name, prefix):
    kwargs = {"depth": 2, "embed_dim": 48, "num_heads": 3} if name != "test_vit" else {}
    network = shaken(timm.create_model(name, img_size=64, num_classes=10, **kwargs)).eval()
    fused = [m.fused_attn for m in network.modules() if hasattr(m, "fused_attn")]
    logits, layers = attention_layers(network, images := torch.randn(2, 3, 64, 64))
    np.testing.assert_allclose(logits, network(images).detach().numpy(), atol=1e-4)
    assert {(layer.prefix, layer.grid, layer.weights.shape[-1]) for layer in layers} == {(prefix, (4, 4), 16 + prefix)}
    assert [m.fused_attn for m in network.modules() if hasattr(m, "fused_attn")] == fused


@pytest.mark.parametrize("network", [made(CNN()), made(Mixer()), made(RNN()), timm.create_model("test_resnet")])
def test_networks_without_attention_have_no_layers_of_it(network):
    assert attention_layers(network.eval(), torch.zeros(1, 3, 64, 64))[1] == []


# ---- receptive field ----


class Stack(nn.Module):
    """3×3 convolutions of ones, then a mean."""

    def __init__(self, depth: int):
        super().__init__()
        self.convs = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(depth)))
        for conv in self.convs:
            nn.init.ones_(conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x).mean((2, 3))


def unchanged(side: int, order: Tensor | None = None) -> Preprocess:
    return Preprocess(side, side, torch.zeros(1), torch.ones(1), order)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_stack_of_convolutions_has_the_field_of_its_paths(depth):
    paths = np.ones(1)
    for _ in range(depth):
        paths = np.convolve(paths, np.ones(3))
    field = 255 * effective_field(Stack(depth), unchanged(11), torch.randint(256, (3, 1, 11, 11), dtype=torch.uint8))
    by_hand = np.zeros((11, 11))
    by_hand[5 - depth : 6 + depth, 5 - depth : 6 + depth] = 3 * np.outer(paths, paths)
    np.testing.assert_allclose(field, by_hand, rtol=1e-5)


def test_a_field_is_of_the_arrangement_that_the_network_sees():
    images = torch.randint(256, (2, 1, 8, 8), dtype=torch.uint8)
    order = torch.from_numpy(np.random.default_rng(0).permutation(64))
    plain, moved = (effective_field(Stack(2), unchanged(8, one), images) for one in (None, order))
    np.testing.assert_allclose(moved, plain)


@pytest.mark.parametrize("arch", [ViT(), Mixer(), RNN(), Swin(), CNN(), SASA(), CNNAttention(), Hybrid()])
def test_every_network_has_a_field(arch):
    network = shaken(made(arch)).eval()
    size = 64 if hasattr(arch, "patch_size") else 32
    field = effective_field(network, Preprocess(32, size, torch.zeros(3), torch.ones(3)), torch.zeros(1, 3, 32, 32))
    assert field.shape == (32, 32)
    assert field.max() > 0
    assert np.isfinite(field).all()


@pytest.mark.parametrize(
    ("name", "shape"), [("test_vit", (64, 4, 4)), ("test_resnet", (96, 2, 2)), ("test_convnext", (64, 2, 2))]
)
def test_the_last_map_of_a_network_of_timm_is_its_features(name, shape):
    kwargs = {"img_size": 64} if name == "test_vit" else {}
    network = timm.create_model(name, num_classes=10, **kwargs).eval()
    assert last_map(network, torch.zeros(1, 3, 64, 64)).shape[1:] == shape


def test_a_network_without_a_map_has_no_field():
    with pytest.raises(ValueError, match="Sequential has no feature map"):
        effective_field(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), unchanged(4), torch.zeros(1, 1, 4, 4))


# ---- filters, positions ----


@pytest.mark.parametrize(
    ("arch", "shape", "patches"),
    [
        (ViT(width=24, heads=3), (24, 3, 16, 16), True),
        (Swin(), (60, 3, 8, 8), True),
        (CNN(), (16, 3, 3, 3), False),
        (Hybrid(), (12, 3, 3, 3), False),
    ],
)
def test_the_first_filters_are_those_over_the_image(arch, shape, patches):
    filters, are_patches = first_filters(made(arch), 3)
    assert (filters.shape, are_patches) == (shape, patches)


def test_a_rewritten_convolution_has_the_filters_of_the_convolution():
    rewritten = first_filters(made(CNNAttention(), seed=3), 3)[0]
    np.testing.assert_array_equal(rewritten, first_filters(made(CNN(), seed=3), 3)[0])


def test_networks_have_position_vectors_or_none():
    assert positions_of(made(ViT())).shape == (4, 4, 96)
    assert positions_of(timm.create_model("test_vit", img_size=64)).shape == (4, 4, 64)
    for arch in (ViT(positions="none"), Swin(), CNN(), RNN()):
        assert positions_of(made(arch)) is None

"""Image sizes that fit an architecture of timm, and the stem of its ResNets."""

import math

import pytest
import torch
from building import DIGITS, RGB, made, shaken
from timm_nets import of, saved
from torch import nn

from vitcnn.errors import ConfigError
from vitcnn.models.build import build
from vitcnn.models.profile import profile
from vitcnn.models.registry import Timm

# ---- what does not fit ----


@pytest.mark.parametrize(
    ("name", "own", "fits"),
    [("crossvit_tiny_240", 240, 240), ("efficientformer_l1", 224, 224), ("inception_v3", 299, 96)],
)
def test_what_does_not_fit_names_timms_own_size_and_fits_with_an_image_size(name, own, fits):
    with pytest.raises(ConfigError, match=rf"timm/{name} at 64 pixels: .*; timm's own size is {own}: try .*: {own}$"):
        profile(of(name), DIGITS)
    counted = profile(of(name, image_size=fits), DIGITS)
    assert counted.input.image_size == fits
    assert counted.macs > 1e8


def test_an_option_that_timm_does_not_know_is_no_matter_of_the_images_size(tmp_path):
    with pytest.raises(ConfigError, match=r"unexpected keyword argument 'drop_rat'$"):
        profile(of("resnet18", image_size=32, options={"drop_rat": 0.1}), DIGITS)
    (tmp_path / "notes.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match=r"notes.yaml: not a weights file of torch.save or safetensors$"):
        profile(of("resnet18", weights=str(tmp_path / "notes.yaml")), DIGITS)


@pytest.mark.parametrize(
    ("name", "size", "token", "fits"),
    [("test_vit", 72, 16, 80), ("eva02_tiny_patch14_224", None, 14, 70)],
)
def test_a_size_at_whose_border_timm_would_cut_off_pixels_is_refused(name, size, token, fits):
    said = f"an image of {size or 64} pixels cannot be cut into whole {token}×{token} tokens; try image_size: {fits}"
    with pytest.raises(ConfigError, match=said):
        build(of(name, image_size=size), DIGITS)
    network = shaken(made(of(name, image_size=fits), DIGITS)).eval()
    image = torch.randn(1, 1, fits, fits)
    changed = image.clone()
    changed[..., -1] += 1
    with torch.no_grad():
        assert not torch.equal(network(image), network(changed))


def test_an_unknown_architecture_names_the_nearest():
    with pytest.raises(ConfigError, match=r"timm 1\.\S+ has no 'convnext_ato'; did you mean 'convnext_atto'\?$"):
        build(of("convnext_ato"), DIGITS)
    with pytest.raises(ConfigError, match=r"has no weights 'a1_in1' of resnet18; did you mean 'a1_in1k'\?"):
        build(of("resnet18.a1_in1"), DIGITS)


# ---- the stem of a ResNet ----


def first_grid(arch: Timm, data=RGB) -> tuple[nn.Module, int]:
    """The network, and the side of the grid that its first stage gets."""
    (network, size), sides = build(arch, data), []
    network.layer1.register_forward_pre_hook(lambda _, inputs: sides.append(inputs[0].shape[-1]))
    with torch.no_grad():
        network.eval()(torch.zeros(1, data.channels, size, size))
    return network, sides[0]


@pytest.mark.parametrize("name", ["resnet18", "test_resnet"])
@pytest.mark.parametrize("data", [DIGITS, RGB], ids=lambda d: d.name)
def test_on_small_images_a_resnet_begins_with_a_3x3_convolution_of_stride_1_without_pooling(name, data):
    network, grid = first_grid(of(name), data)
    assert grid == 32
    conv = network.conv1
    assert (conv.in_channels, conv.kernel_size, conv.stride) == (data.channels, (3, 3), (1, 1))
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * conv.out_channels)), rel=0.15)
    assert isinstance(network.maxpool, nn.Identity)


@pytest.mark.parametrize(
    ("options", "grid"),
    [
        ({"image_size": 40}, 40),
        ({"image_size": 41}, 11),
        ({"image_size": 64}, 16),
        ({"stem": "imagenet"}, 16),
        ({"stem": "imagenet", "image_size": 32}, 8),
        ({"stem": "cifar", "image_size": 64}, 64),
    ],
)
def test_on_larger_images_or_where_the_study_says_so_a_resnets_stem_is_another(options, grid):
    assert first_grid(of("resnet18", **options))[1] == grid


def test_with_weights_a_resnet_keeps_the_stem_that_they_were_trained_with(tmp_path):
    source, file = saved(tmp_path / "net.pth", "test_resnet")
    network, grid = first_grid(of("test_resnet", weights=file, image_size=32))
    assert grid == 8
    assert torch.equal(network.conv1[0].weight, source["conv1.0.weight"])


def test_an_option_that_timm_refuses_is_not_told_as_a_matter_of_size():
    with pytest.raises(ConfigError, match="TypeError") as caught:
        build(of("test_vit", options={"drop_rate": "x"}), RGB)
    assert "image_size" not in str(caught.value)


def test_a_resnet_of_features_alone_is_not_told_of_a_stem_that_nobody_asked_for():
    with pytest.raises(ConfigError, match=r"the output for .* is list, not logits of shape"):
        profile(of("resnet10t", options={"features_only": True}), RGB)


def test_a_cifar_stem_for_what_is_no_resnet_is_refused():
    with pytest.raises(
        ConfigError, match="timm/test_vit: stem: cifar works for timm's ResNets only, not for VisionTransformer"
    ):
        build(of("test_vit", stem="cifar"), RGB)

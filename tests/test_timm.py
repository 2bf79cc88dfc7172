"""Architectures of timm: they fit the data, all of them learn, and options reach them."""

import math

import pytest
import timm
import torch
import torch.nn.functional as F
from building import DIGITS, FASHION, RGB, made, shaken
from timm_nets import STUDY, of

from vitcnn.errors import ConfigError
from vitcnn.models.build import build, decay_groups
from vitcnn.models.profile import profile
from vitcnn.seeds import role_seed
from vitcnn.store.records import read_record, write_record
from vitcnn.training.train import train_cell
from vitcnn.training.weights import weights_hash

# One small architecture for each of timm's model files; several where one file holds unlike networks.
FITTING = """test_vit cait_xxs24_224 pit_ti_224 convit_tiny xcit_nano_12_p16_224 tiny_vit_5m_224 levit_128s
    edgenext_xx_small mobilevit_xxs test_byobnet fastvit_t8 efficientvit_b0 efficientvit_m0 gmlp_ti16_224 pvt_v2_b0
    swiftformer_xs efficientformerv2_s0 test_convnext test_mambaout test_resnet test_nfnet test_efficientnet regnetx_002
    dla46_c mobilenetv3_small_050 lcnet_035 ghostnet_050 repghostnet_050 starnet_s050 shvit_s1 ese_vovnet19b_slim
    rexnet_100 hgnetv2_b0 cs3darknet_focus_s inception_next_atto"""
FITTING = FITTING.split()
TRAINED = "test_vit levit_128s test_byobnet efficientvit_m0 test_convnext test_mambaout test_resnet test_nfnet"
TRAINED += " test_efficientnet mobilenetv3_small_050 lcnet_035 starnet_s050"
TRAINED = TRAINED.split()


# ---- the contract ----


def test_the_architectures_below_are_of_30_families():
    assert len({timm.models.model_entrypoint(name).__module__ for name in FITTING}) >= 30


@pytest.mark.parametrize(
    ("name", "data"),
    [*((name, DIGITS) for name in FITTING), *((name, RGB) for name in ("test_vit", "test_convnext", "test_resnet"))],
)
def test_images_become_finite_logits_every_parameter_learns_and_facts_are_those_of_the_network(name, data):
    torch.manual_seed(0)
    network, size = build(of(name), data)
    before = torch.get_rng_state()
    counted = profile(of(name), data)
    assert torch.equal(before, torch.get_rng_state())  # counting draws nothing
    assert counted.parameters == sum(p.numel() for p in network.parameters())
    assert counted.input.image_size == size == (32 if name == "test_resnet" else 64)
    assert counted.macs > 1e5
    shaken(network).train()
    assert all(p.requires_grad for p in network.parameters())
    logits = network(torch.randn(4, data.channels, size, size))
    assert logits.shape == (4, data.classes)
    assert logits.isfinite().all()
    F.cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()
    for parameter, p in network.named_parameters():
        assert p.grad is not None, parameter
        assert p.grad.isfinite().all(), parameter


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_resnet"])
def test_the_seed_decides_the_network_and_the_recipes_init_does_not(name):
    first, again, normal, other = (
        weights_hash(made(of(name), DIGITS, seed, init).state_dict())
        for seed, init in ((1, "xavier"), (1, "xavier"), (1, "normal"), (2, "xavier"))
    )
    assert first == again == normal != other


@pytest.mark.parametrize("name", TRAINED)
def test_a_short_cell_is_trained_and_its_record_says_what_was_trained(name, one_cell, paths):
    cell = one_cell(STUDY, f"models={{net: {{arch: timm/{name}}}}}")
    record = train_cell(cell, paths=paths)
    counted = profile(cell.arch, DIGITS)
    assert read_record(write_record(record, paths)) == record
    assert (record.cost.steps, record.cost.parameters, record.cost.macs) == (3, counted.parameters, counted.macs)
    assert (record.input.image_size, record.input.tokens) == (counted.input.image_size, counted.input.tokens)
    assert math.isfinite(record.test.nll)
    assert record.weights != weights_hash(made(cell.arch, DIGITS, role_seed(0, "init")).state_dict())


# ---- options, weight decay, tokens ----


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_options_reach_timm(name):
    images = torch.randn(8, 3, 64, 64)
    with torch.no_grad():
        still, dropping = made(of(name)).train(), made(of(name, options={"drop_path_rate": 0.9})).train()
        assert torch.equal(still(images), still(images))
        assert not torch.equal(shaken(dropping)(images), dropping(images))
        assert torch.equal(dropping.eval()(images), dropping(images))


@pytest.mark.parametrize("name", ["test_vit", "lcnet_035"])
def test_an_option_that_timm_does_not_know_is_named(name):
    with pytest.raises(ConfigError, match=rf"timm/{name} at 64 pixels: TypeError: .*'drop_paths'"):
        build(of(name, options={"drop_paths": 0.1}), DIGITS)


@pytest.mark.parametrize(
    ("name", "some"),
    [
        ("test_vit", {"pos_embed"}),
        ("cait_xxs24_224", {"pos_embed", "cls_token"}),
        ("levit_128s", {"stages.0.blocks.0.attn.attention_biases"}),
    ],
)
def test_what_timm_itself_spares_from_weight_decay_is_spared_and_other_matrices_are_not(name, some):
    network = made(of(name))
    names = {id(p): each for each, p in network.named_parameters()}
    decayed, spared = ({names[id(p)] for p in group["params"]} for group in decay_groups(network, 0.3))
    assert some <= network.no_weight_decay()
    assert some <= spared
    matrices = {each for each, p in network.named_parameters() if p.ndim > 1}
    assert decayed == matrices - network.no_weight_decay()


@pytest.mark.parametrize(
    ("name", "tokens", "native"),
    [
        ("test_vit", 16, 7),
        ("xcit_nano_12_p16_224", 16, 7),
        ("swin_tiny_patch4_window7_224", 256, 1.75),
        ("test_convnext", None, None),
        ("volo_d1_224", None, None),  # counts the tokens of an image of 224 pixels, whatever it is shown
    ],
)
def test_tokens_are_those_that_the_first_layer_cuts_the_image_into(name, tokens, native):
    counted = profile(of(name), FASHION)
    assert (counted.input.image_size, counted.input.tokens, counted.input.native_pixels_per_token) == (
        64,
        tokens,
        native,
    )

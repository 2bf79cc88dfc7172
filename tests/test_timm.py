"""Architectures of timm: they fit the data, all of them learns, and weights are those of the file or refused."""

import math
import pickle
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
import torch.nn.functional as F
from building import DIGITS, FASHION, RGB, made, shaken
from safetensors.torch import save_file
from torch import Tensor, nn

from vitcnn.errors import ConfigError
from vitcnn.models.build import build, decay_groups, image_size, preprocess
from vitcnn.models.profile import profile
from vitcnn.models.registry import Timm
from vitcnn.seeds import role_seed
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import read_record, write_record
from vitcnn.study.cell import Cell
from vitcnn.training.train import train_cell
from vitcnn.training.weights import weights_hash

# One small architecture for each of timm's model files named behind it; several where one file holds unlike networks.
FITTING = [
    "test_vit",  # vision_transformer
    "cait_xxs24_224",
    "pit_ti_224",
    "convit_tiny",
    "xcit_nano_12_p16_224",
    "tiny_vit_5m_224",
    "levit_128s",
    "edgenext_xx_small",
    "mobilevit_xxs",  # byobnet
    "test_byobnet",
    "fastvit_t8",
    "efficientvit_b0",  # efficientvit_mit
    "efficientvit_m0",  # efficientvit_msra
    "gmlp_ti16_224",  # mlp_mixer
    "pvt_v2_b0",
    "swiftformer_xs",
    "efficientformerv2_s0",
    "test_convnext",
    "test_mambaout",
    "test_resnet",
    "test_nfnet",
    "test_efficientnet",
    "regnetx_002",
    "dla46_c",
    "mobilenetv3_small_050",
    "lcnet_035",  # mobilenetv3
    "ghostnet_050",
    "repghostnet_050",
    "starnet_s050",
    "shvit_s1",
    "ese_vovnet19b_slim",
    "rexnet_100",
    "hgnetv2_b0",  # hgnet
    "cs3darknet_focus_s",  # cspnet
    "inception_next_atto",
]
TRAINED = [
    "test_vit",
    "levit_128s",
    "test_byobnet",
    "efficientvit_m0",
    "test_convnext",
    "test_mambaout",
    "test_resnet",
    "test_nfnet",
    "test_efficientnet",
    "mobilenetv3_small_050",
    "lcnet_035",
    "starnet_s050",
]
STUDY = """
dataset: digits
sizes: [50]
seeds: 1
validation: 50
models: {net: {arch: timm/test_vit}}
budget: {images_seen: 48}
recipe: {batch_size: 16}
"""


def of(name: str, **more) -> Timm:
    return Timm(name=f"timm/{name}", **more)


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    return StudyPaths("nets", tmp_path / "results", tmp_path / "runs")


# ---- the contract ----


def test_the_architectures_below_are_of_30_families():
    assert len({timm.models.model_entrypoint(name).__module__ for name in FITTING}) >= 30


@pytest.mark.parametrize("data", [DIGITS, RGB], ids=lambda d: d.name)
@pytest.mark.parametrize("name", FITTING)
def test_images_become_finite_logits_and_every_parameter_learns(name, data):
    torch.manual_seed(0)
    network, size = build(of(name), data)
    shaken(network).train()
    assert all(p.requires_grad for p in network.parameters())
    logits = network(torch.randn(4, data.channels, size, size))
    assert logits.shape == (4, data.classes)
    assert logits.isfinite().all()
    F.cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()
    for parameter, p in network.named_parameters():
        assert p.grad is not None, parameter
        assert p.grad.isfinite().all(), parameter


@pytest.mark.parametrize("name", FITTING)
def test_facts_are_those_of_the_network_and_counting_does_not_move_torchs_generator(name):
    network, size = build(of(name), DIGITS)
    before = torch.get_rng_state()
    counted = profile(of(name), DIGITS)
    assert counted.parameters == sum(p.numel() for p in network.parameters())
    assert counted.input.image_size == size == (32 if name == "test_resnet" else 64)
    assert counted.macs > 1e5
    assert torch.equal(before, torch.get_rng_state())


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
    with pytest.raises(ConfigError, match=r"notes.yaml: no file of weights, as torch.save or safetensors write them$"):
        profile(of("resnet18", weights=str(tmp_path / "notes.yaml")), DIGITS)


@pytest.mark.parametrize(
    ("name", "size", "token", "fits"),
    [("test_vit", 72, 16, 80), ("eva02_tiny_patch14_224", None, 14, 70)],
)
def test_a_size_at_whose_border_timm_would_cut_off_pixels_is_refused(name, size, token, fits):
    said = f"an image of {size or 64} pixels is not made of whole {token}×{token} tokens; try image_size: {fits}"
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
        ConfigError, match="timm/test_vit: stem: cifar is for timm's ResNets, not for VisionTransformer"
    ):
        build(of("test_vit", stem="cifar"), RGB)


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


# ---- weights ----


def saved(path: Path, name: str = "test_vit", **options) -> tuple[dict[str, Tensor], str]:
    """Weights as another training left them, in a file, for 1000 classes in colour; (the tensors, the file)."""
    torch.manual_seed(123)
    state = shaken(timm.create_model(name, **options)).state_dict()
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return state, str(path)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return saved(tmp_path / "net.safetensors")[1]


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_every_tensor_of_a_file_is_loaded_but_the_head_which_is_new(name, kind, tmp_path):
    source, path = saved(tmp_path / f"net.{kind}", name)
    network, fresh = made(of(name, weights=path)).state_dict(), made(of(name, image_size=160)).state_dict()
    heads = {key for key in source if source[key].shape[:1] == (1000,)}
    assert len(heads) == 2
    for key in source:
        if key in heads:
            assert len(network[key]) == 10
            assert torch.equal(network[key], fresh[key]), key
        else:
            assert torch.equal(network[key], source[key]), key
            assert not torch.equal(network[key], fresh[key]), key


def test_weights_are_shown_images_of_the_size_that_timm_trained_at_unless_the_study_gives_one(file):
    assert image_size(of("test_vit", weights=file), RGB) == timm.get_pretrained_cfg("test_vit").input_size[-1] == 160
    assert image_size(of("test_vit", weights=file, image_size=48), RGB) == 48


def test_weights_for_colour_see_a_grey_image_as_one_of_three_equal_channels(file):
    colour, grey = (made(of("test_vit", weights=file), data).eval() for data in (RGB, DIGITS))
    image = torch.randn(2, 1, 160, 160)
    with torch.no_grad():
        expected, got = colour.forward_features(image.expand(-1, 3, -1, -1)), grey.forward_features(image)
    assert torch.allclose(got, expected, atol=1e-3)
    assert not torch.allclose(got, grey.forward_features(2 * image), atol=1e-2)


def test_weights_are_adapted_to_another_image_size_in_their_positions_alone(tmp_path):
    source, path = saved(tmp_path / "net.safetensors")
    arch = of("test_vit", weights=path, image_size=64)
    network = made(arch).state_dict()
    changed = {key for key in source if not key.startswith("head.") and not torch.equal(source[key], network[key])}
    assert changed == {"pos_embed"}
    assert (source["pos_embed"].shape[1], network["pos_embed"].shape[1]) == (101, 17)
    assert profile(arch, RGB).input.tokens == 16


def test_pixels_are_scaled_as_timm_scaled_them_with_weights_and_by_the_subset_without(file):
    images, about = torch.full((4, 3, 32, 32), 51, dtype=torch.uint8), timm.get_pretrained_cfg("test_vit")
    theirs = preprocess(of("test_vit", weights=file), RGB, images, 160)
    assert theirs.mean.flatten().tolist() == pytest.approx(about.mean)
    assert theirs.std.flatten().tolist() == pytest.approx(about.std)
    assert theirs(images).shape == (4, 3, 160, 160)
    assert preprocess(of("test_vit"), RGB, images, 64).mean.flatten().tolist() == pytest.approx([0.2] * 3)


@pytest.mark.parametrize("data", [DIGITS, RGB], ids=lambda d: d.name)
def test_pixels_are_scaled_with_one_number_a_channel_of_the_data(data, tmp_path):
    arch = of("levit_128s", weights=saved(tmp_path / "net.safetensors", "levit_128s")[1])
    mean, std = timm.get_pretrained_cfg("levit_128s").mean, timm.get_pretrained_cfg("levit_128s").std
    assert len({*mean}) == len({*std}) == 3
    theirs = preprocess(arch, data, torch.zeros(1, data.channels, 8, 8, dtype=torch.uint8), 64)
    grey = data.channels == 1
    assert theirs.mean.flatten().tolist() == pytest.approx([sum(mean) / 3] if grey else mean)
    assert theirs.std.flatten().tolist() == pytest.approx([sum(std) / 3] if grey else std)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("test_vit4", {}, "no weights from .*size mismatch"),
        ("test_vit2", {}, "holds other weights: 26 of 36 tensors fit"),  # what is there fits: 6 blocks of 8
        ("test_vit", {"depth": 7}, "holds other weights: 27 of 32 tensors fit"),
        ("test_convnext", {}, "no weights from .*KeyError"),
        ("test_efficientnet", {}, "holds other weights: 0 of"),
    ],
)
def test_the_weights_of_another_architecture_are_refused(name, options, said, file):
    with pytest.raises(ConfigError, match=f"(?s)timm/{name}: .*{said}"):
        build(of(name, weights=file, options=options, image_size=64), DIGITS)


@pytest.mark.parametrize("name", ["junk.pth", "junk.safetensors", "junk"])
def test_a_file_that_holds_no_weights_is_refused(name, tmp_path):
    (tmp_path / name).write_bytes(b"junk " * 100)
    with pytest.raises(ConfigError, match=f"timm/test_vit: no weights from .*{name}: "):
        build(of("test_vit", weights=str(tmp_path / name)), DIGITS)


class Bomb:
    """Runs code where it is unpickled: makes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("how", ["torch.save", "pickle"])
@pytest.mark.parametrize("name", ["net.pth", "net.bin", "net.safetensors"])
def test_a_file_that_would_run_code_is_refused_and_runs_none(name, how, tmp_path):
    path, mark = tmp_path / name, tmp_path / "ran"
    state = {"state_dict": {"pos_embed": Bomb(mark)}}
    torch.save(state, path) if how == "torch.save" else path.write_bytes(pickle.dumps(state, 2))
    with pytest.raises(ConfigError, match="timm/test_vit: no weights from"):
        build(of("test_vit", weights=str(path)), DIGITS)
    assert not mark.exists()
    shutil.copy(path, tmp_path / "any")
    torch.load(tmp_path / "any", weights_only=False) if how == "torch.save" else pickle.loads(path.read_bytes())
    assert mark.exists()  # it would have


def test_weights_that_timms_hub_does_not_give_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="timm/test_vit: no weights from timm's hub: "):
        build(of("test_vit", pretrained=True), DIGITS)


# ---- weights in a study ----


def with_weights(file: str | Path, *more: str) -> str:
    return "models={net: {" + ", ".join(["arch: timm/test_vit", f"weights: {file}", *more]) + "}}"


def test_the_id_of_a_cell_depends_on_what_is_in_the_weights_file_and_not_on_where_it_lies(one_cell, file, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(file, elsewhere / "renamed.safetensors")
    here, there = (one_cell(STUDY, with_weights(path)).id for path in (file, elsewhere / "renamed.safetensors"))
    assert here == there != one_cell(STUDY).id
    shutil.copy(saved(tmp_path / "other.pth")[1], file)
    assert one_cell(STUDY, with_weights(file)).id != here


def test_pretrained_is_another_cell_than_a_fresh_start(one_cell):
    assert one_cell(STUDY, "models.net.pretrained=true").id != one_cell(STUDY).id


def test_a_cell_is_read_back_where_its_weights_are_gone(one_cell, file):
    cell = one_cell(STUDY, with_weights(file))
    Path(file).unlink()
    assert Cell.model_validate_json(cell.model_dump_json()) == cell
    assert Cell.model_validate_json(cell.model_dump_json()).id == cell.id


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (with_weights("nowhere.pth"), "models.net: weights: nowhere.pth: No such file or directory"),
        (with_weights("."), "models.net: weights: .: Is a directory"),
        (with_weights("x.pth", "pretrained: true"), "models.net: give `pretrained` or `weights`, one of the two"),
    ],
)
def test_weights_that_cannot_be_meant_are_refused_in_one_sentence_when_the_study_is_read(one_cell, override, said):
    with pytest.raises(ConfigError) as caught:
        one_cell(STUDY, override)
    assert str(caught.value).endswith(f"small.yaml: {said}")


def test_fine_tuning_starts_from_the_weights_and_goes_on_from_there(one_cell, paths, file):
    override = with_weights(file, "image_size: 64")
    still, moving = one_cell(STUDY, override, "recipe.lr=1e-60"), one_cell(STUDY, override)  # 1e-60: 0 in float32
    loaded = made(still.arch, DIGITS, role_seed(0, "init"))
    record = train_cell(still, paths=paths)
    assert record.cost.steps == 3
    assert record.weights == weights_hash(loaded.state_dict())
    assert train_cell(moving, paths=paths).weights != record.weights

"""Weights for timm's networks are those of the file, or refused."""

import pickle
import shutil
import time
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from building import DIGITS, RGB, made
from timm_nets import STUDY, of, saved

from vitcnn.errors import ConfigError
from vitcnn.models.build import build, image_size, preprocess
from vitcnn.models.profile import profile
from vitcnn.seeds import role_seed
from vitcnn.study.cell import Cell
from vitcnn.training.train import train_cell
from vitcnn.training.weights import weights_hash


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
        ("test_vit2", {}, "has weights of another network: 26 of 36 tensors fit"),  # what is there fits: 6 blocks of 8
        ("test_vit", {"depth": 7}, "has weights of another network: 27 of 32 tensors fit"),
        ("test_convnext", {}, "no weights from .*KeyError"),
        ("test_efficientnet", {}, "has weights of another network: 0 of"),
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


def test_without_a_network_that_is_said_at_once_with_the_cache_and_what_else_there_is(offline, monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    began = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        build(of("test_vit", pretrained=True), DIGITS)
    assert time.monotonic() - began < 5
    assert "timm/test_vit: no weights from timm's hub: ConnectError: " in str(caught.value)
    assert str(caught.value).endswith(
        f"none in its cache ({tmp_path}); on a machine without network, give a file as `weights`"
    )


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
        (with_weights("x.pth", "pretrained: true"), "models.net: give either `pretrained` or `weights`"),
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

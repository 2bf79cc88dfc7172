"""`vitcnn look`: pictures of what kept networks look at, with an index, and a sentence for what cannot be shown."""

import json
import re

import matplotlib.image
import numpy as np
import pytest
import torch
from looking import PERMUTED, Kept
from PIL import Image

from vitcnn.data.permutation import order
from vitcnn.inspect.attention_numbers import by_offset
from vitcnn.inspect.look import IMAGES, Look, look_at, mean_attention
from vitcnn.inspect.trained import kept_cells, trained
from vitcnn.report.look_pictures import pictures
from vitcnn.report.style import drawing


@pytest.fixture(scope="module")
def nets(tmp_path_factory) -> Kept:
    return Kept(tmp_path_factory.mktemp("nets"))


@pytest.fixture(scope="module")
def permuted(tmp_path_factory) -> Kept:
    return Kept(tmp_path_factory.mktemp("permuted"), *PERMUTED)


# ---- the command ----


def test_without_a_choice_every_kept_model_is_drawn_and_listed_in_order(nets, vitcnn, tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "one.png")
    code, out, err = vitcnn("look", *nets.where, "one.png")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == f"written to {nets.folder}"
    index = nets.index()
    assert all(list(picture) == ["file", "title", "caption"] for picture in index)
    assert sorted(path.name for path in nets.folder.glob("*.png")) == sorted(picture["file"] for picture in index)
    assert max((nets.folder / picture["file"]).stat().st_size for picture in index) < 150_000
    kinds = [re.match("[a-z]+(-n-)?", picture["file"]).group() for picture in index]
    assert kinds[:5] == ["fields", "distance", "distance-n-", "attention", "offsets"]
    names = {picture["file"] for picture in index}
    assert {"attention-vit-n50-s0-1.png", "attention-vit-n100-s0-1.png"} < names
    assert {"offsets-swin-n50-s0.png", "positions-timm-vit-n50-s0.png", "filters-cnn-n50-s0.png"} < names
    assert not any("-s1" in name for name in names)  # other seeds are in the distances alone
    numbers = json.loads((nets.folder / "look.json").read_text(encoding="utf-8"))
    rows = [row for row in numbers["attention_distance"] if row["model"] == "vit"]
    assert {(row["n"], row["seed"]) for row in rows} == {(50, 0), (50, 1), (100, 0)}
    assert len(rows) == 3 * 2 * 2  # cells, layers, heads
    assert all(0 < row["distance"] < 8 for row in rows)


def test_one_call_is_one_set_of_pictures(nets, vitcnn):
    (nets.folder).mkdir(parents=True, exist_ok=True)
    (nets.folder / "attention-of-an-earlier-call.png").write_bytes(b"")
    code, out, _ = vitcnn("look", *nets.where, "--cell", "cnn-n50-s0")
    assert code == 0
    assert "cnn-n50-s0: no attention maps: cnn has no attention over a grid of tokens that can be read" in out
    assert [picture["file"] for picture in nets.index()] == ["fields-1.png", "filters-cnn-n50-s0.png"]
    assert {path.name for path in nets.folder.glob("*.png")} == {"fields-1.png", "filters-cnn-n50-s0.png"}


def test_a_model_is_its_kept_cells(nets, vitcnn, tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "one.png")
    code, _, _ = vitcnn("look", *nets.where, "one.png", "--model", "swin", "--cell", "vit-n50-s1")
    assert code == 0
    names = [picture["file"] for picture in nets.index()]
    assert {name.rsplit("-s", 1)[0] for name in names if name.startswith("offsets")} == {
        "offsets-vit-n50", "offsets-swin-n50", "offsets-swin-n100"
    }  # fmt: skip
    assert "distance-n-1.png" in names


def test_images_of_any_size_and_mode_are_drawn_instead_of_test_images(nets, vitcnn, tmp_path):
    noise = np.random.default_rng(0).integers(256, size=(40, 60, 3), dtype=np.uint8)
    for name, mode in {"grey.png": "L", "glass.png": "RGBA", "print.jpg": "CMYK"}.items():
        Image.fromarray(noise).convert(mode).save(tmp_path / name)
    code, _, _ = vitcnn("look", *nets.where, "grey.png", "glass.png", "print.jpg", "--cell", "vit-n50-s0")
    titles = [p["title"] for p in nets.index() if p["file"].startswith("attention")]
    assert code == 0
    assert titles == [f"vit-n50-s0: attention on {name}" for name in ("grey.png", "glass.png", "print.jpg")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cell", "vit-n50-s9"], "--cell vit-n50-s9: no such cell"),
        (["--cell", "linear-n50-s0"], "linear-n50-s0: logistic regression is not a network"),
        (["--model", "linear"], "--model linear: logistic regression is not a network"),
        (["--model", "vitt"], "--model vitt: no such model; did you mean 'vit'?"),
        (["--cell", "vit-n100-s1"], "the trained weights of cell "),
        (["--cell", "vit-n50-s0", "nowhere.png"], "nowhere.png: no such file"),
        (["--cell", "vit-n50-s0", "broken.png"], "broken.png: UnidentifiedImageError: cannot identify image file"),
        (["--cell", "vit-n50-s0", "many"], "13 images given; name at most 12"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_the_pictures(words, message, nets, vitcnn, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    for k in range(13):
        (tmp_path / "many").mkdir(exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / "many" / f"{k}.png")
    vitcnn("look", *nets.where, "--cell", "cnn-n50-s0")
    before = nets.index()
    code, _, err = vitcnn("look", *nets.where, *words)
    assert (code, err.startswith(f"vitcnn: {message}"), err.count("\n")) == (2, True, 1)
    assert nets.index() == before


def test_where_nothing_was_kept_it_is_said_how_to(nets, vitcnn, tmp_path):
    for words, of in (([], ""), (["--model", "vit"], " of vit")):
        code, _, err = vitcnn("look", *nets.where[:-1], tmp_path / "elsewhere", *words)
        assert code == 2
        assert f"no weights{of} found; `vitcnn run --keep-weights` keeps them" in err


# ---- what is found ----


def test_a_model_begins_with_its_smallest_and_ends_with_its_largest_n(nets):
    groups = kept_cells(nets.all, nets.paths, ["swin", "vit"])
    assert [[cell.title for cell in group] for group in groups] == [
        [f"{model}-n50-s0", f"{model}-n50-s1", f"{model}-n100-s0"] for model in ("vit", "swin")
    ]


@pytest.mark.parametrize("title", ["vit-n50-s0", "swin-n50-s0", "timm-vit-n50-s0"])
def test_a_look_has_what_its_network_has(title, nets):
    look, (_, _, data) = look_at(nets.cells[title], nets.paths), trained(nets.cells[title], nets.paths)
    first = [data.test[1].tolist().index(k) for k in range(3)]
    assert look.from_class == (title == "timm-vit-n50-s0")
    assert (look.positions is None) == (title == "swin-n50-s0")
    assert len(look.distances) == len(look.initial) == len(look.layers)
    assert [view.name for view in look.views] == [f"test image {row} ({k})" for k, row in enumerate(first)]
    for view in look.views:
        assert view.rollout.sum() == pytest.approx(1)
        for maps in view.maps:
            np.testing.assert_allclose(maps.sum((1, 2)), 1, atol=1e-5)
    for heads in look.offsets:  # without what falls on the class token
        assert (heads.sum((1, 2)) < 0.99).all() if look.from_class else heads.sum((1, 2)) == pytest.approx(1)
    before, after = look.fields
    assert not np.allclose(before.values, after.values)


def test_a_permuted_network_is_shown_the_arrangement_that_it_sees(permuted):
    _, cell = permuted.all
    look = look_at(cell, permuted.paths)
    _, seen, data = trained(cell, permuted.paths)
    moved = order(8, cell.permutation)
    for view in look.views:
        assert np.array_equal(view.seen.reshape(64), view.given.reshape(64)[moved])
        row = next(k for k, image in enumerate(data.test[0]) if np.array_equal(image[0], view.given[..., 0]))
        x = seen(data.test[0][row : row + 1])[0, 0, ::8, ::8].numpy()  # enlarged by nearest neighbour, and scaled
        assert np.corrcoef(x.flatten(), view.seen.flatten())[0, 1] > 0.999
    assert all("as the network sees images: permuted" in caption for caption in captions(look))


def test_a_permutation_of_nothing_is_none(permuted):
    cell, _ = permuted.all
    look = look_at(cell, permuted.paths)
    assert [view.given for view in look.views] == [None] * 3
    assert not any("permuted" in caption for caption in captions(look))


def captions(look: Look) -> list[str]:
    with drawing():
        return [caption for _, _, caption, _ in pictures([look], [look], {look.cell.id: look.cell.title})]


def test_a_look_is_of_the_initialised_network_before_its_first_step(nets):
    cnn, freed = (look_at(nets.cells[f"{name}-n50-s0"], nets.paths) for name in ("cnn", "sharp"))
    assert not np.allclose(cnn.fields[0].values, cnn.fields[1].values)
    np.testing.assert_allclose(freed.fields[0].values, cnn.fields[1].values, rtol=0.02, atol=1e-5)  # starts from it


def test_the_heads_of_a_sharp_convolution_look_at_their_offsets_as_often_as_these_lie_in_the_image(nets):
    network, look, data = trained(nets.cells["sharp-n50-s0"], nets.paths)
    layers = {one.name: one for one in mean_attention(network, look, data)}
    assert {name: one.weights.shape[1] for name, one in layers.items()} == {
        "stem.0": 9,
        **{f"stages.{stage}.conv{k}": 9 for stage in (0, 1) for k in (1, 2)},
        "stages.1.downsample.0": 1,
    }
    for name, layer in layers.items():
        heads = by_offset(layer.weights[0], layer.queries, layer.grid)
        middle = heads.shape[1] // 2
        size, stride = middle + 1, 2 if name in ("stem.0", "stages.1.conv1", "stages.1.downsample.0") else 1
        asks = np.arange(0, size, stride)
        offsets = [(0, 0)] if len(heads) == 1 else [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
        for head, offset in zip(heads, offsets, strict=True):
            there = [np.mean((asks + o >= 0) & (asks + o < size)) for o in offset]
            assert head[middle + offset[0], middle + offset[1]] == pytest.approx(there[0] * there[1], abs=1e-6)
            assert head.sum() == pytest.approx(there[0] * there[1], abs=1e-6)  # the rest fell on the zeros around it


def test_mean_attention_is_the_mean_over_the_first_test_images(nets):
    network, look, data = trained(nets.cells["vit-n50-s0"], nets.paths)
    heard = []
    network.blocks[1].attention.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    with torch.inference_mode():
        network(look(data.test[0][:IMAGES]))
        by_hand = network.blocks[1].attention.attention(heard[0]).mean(0).numpy()
    found = mean_attention(network, look, data)[1]
    np.testing.assert_allclose(found.weights[0], by_hand, atol=1e-6)


def test_many_layers_are_thinned_out_and_that_is_said(nets):
    look: Look = look_at(nets.cells["sharp-n50-s0"], nets.paths)
    many = Look(look.cell, look.side, look.images, [], [], [], layers=look.layers * 2, offsets=look.offsets * 2)
    with drawing():
        ((file, _, caption, fig),) = pictures([many], [many], {look.cell.id: "a"})
    assert (file, "(6 of 12 layers)" in caption) == ("offsets-a", True)
    assert len({ax.get_subplotspec().rowspan.start for ax in fig.axes if ax.get_visible()}) == 6


def test_pictures_are_of_a_size_to_be_read(nets, vitcnn):
    vitcnn("look", *nets.where, "--cell", "vit-n50-s0")
    for picture in nets.index():
        tall, wide, _ = matplotlib.image.imread(nets.folder / picture["file"]).shape
        assert 150 < tall < 1000
        assert 250 < wide < 1600

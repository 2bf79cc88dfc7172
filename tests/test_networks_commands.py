"""Commands on trained networks: a CNN rewritten as attention says the same, and heads are shown where they look."""

import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from synthetic import make_study

from vitcnn.inspect.receptive_fields import IMAGES, receptive_fields
from vitcnn.inspect.trained import trained
from vitcnn.launch.worker import Options, work
from vitcnn.models.attention import window_mask
from vitcnn.report.receptive_fields import offset_maps, save_receptive_fields
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import read_record
from vitcnn.study.cell import Cell

NETS = """
dataset: digits
sizes: [50]
seeds: 1
models:
  vit: &vit {arch: vit, width: 16, depth: 2, heads: 2}
  vit-window: {<<: *vit, arch: vit-window}
  hybrid: {<<: *vit, arch: hybrid}
  mixer: {width: 16, depth: 1}
  cnn: &cnn {arch: cnn, channels: [4, 8], blocks: [1, 1], image_size: 16}
  sharp: {<<: *cnn, arch: cnn-attention, init_from: cnn, gate: 30, sharpness: 60, recipe: {lr: 1.0e-60}}
  freed: {<<: *cnn, arch: cnn-attention, gate: -1, sharpness: 2}
  linear: {C: [1.0]}
budget: {images_seen: 64}
recipe: {batch_size: 16, lr: 0.01}
"""
SHUFFLED = ["permutation={patches: 1}", "models={cnn: {channels: [4, 8], blocks: [1, 1], image_size: 16}}"]


class Trained:
    """A study with all its cells trained and their weights kept: cells by model, paths, the command's arguments."""

    def __init__(self, folder: Path, *overrides: str):
        _, all_cells, self.paths = make_study(folder, *overrides, text=NETS, name="nets")
        for one in all_cells:
            work((one,), self.paths, Options(device="cpu", tracking="off", keep_weights=True))
        self.cells = {one.model: one for one in all_cells}
        self.where = [folder / "nets.yaml", *overrides, "--results", self.paths.results, "--runs", self.paths.runs]


@pytest.fixture(scope="module")
def nets(tmp_path_factory) -> Trained:
    return Trained(tmp_path_factory.mktemp("nets"))


@pytest.fixture(scope="module")
def shuffled(tmp_path_factory) -> Trained:
    return Trained(tmp_path_factory.mktemp("shuffled"), *SHUFFLED)


def fields(nets: Trained, name: str) -> dict[str, np.ndarray]:
    return receptive_fields(nets.cells[name], nets.paths)


# ---- the network of a cell ----


@pytest.mark.parametrize("name", ["vit", "vit-window", "hybrid", "mixer", "cnn", "sharp", "freed"])
def test_a_network_with_its_kept_weights_predicts_what_its_record_says(name, nets):
    assert predictions(nets.cells[name], nets.paths).tolist() == recorded(nets.cells[name], nets.paths).tolist()


def test_a_network_trained_on_shuffled_images_is_shown_such_again(shuffled):
    cell, paths = shuffled.cells["cnn"], shuffled.paths
    assert predictions(cell, paths).tolist() == recorded(cell, paths).tolist()


@torch.inference_mode()
def predictions(cell: Cell, paths: StudyPaths) -> np.ndarray:
    network, look, data = trained(cell, paths)
    images, labels = data.test
    return (network(look(images)).argmax(1) == labels).numpy()


def recorded(cell: Cell, paths: StudyPaths) -> np.ndarray:
    return read_record(paths.record(cell.id)).test.correct()


# ---- as-attention ----


def test_a_kept_cnn_is_rewritten_and_agrees_on_the_whole_test_set(nets, vitcnn):
    code, out, _ = vitcnn("as-attention", *nets.where)
    text = (nets.paths.report / "as-attention.md").read_text(encoding="utf-8")
    table = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert code == 0
    assert f"written to {nets.paths.report / 'as-attention.md'}" in out
    assert len(table) == 3  # a head, dashes, and the only CNN
    row = dict(zip(table[0], table[2], strict=True))
    assert (row["cell"], row["convolutions"], row["heads"], row["test images"]) == ("cnn-n50-s0", "6", "46", "500")
    assert (row["same class, float32"], row["same class, float64"]) == ("500", "500")
    assert 1e-10 < float(row["largest difference, float32"]) < 1e-4  # not 0: it was computed in another way
    assert 0 < float(row["largest difference, float64"]) < 1e-10


def test_any_network_of_plain_convolutions_can_be_named_by_title_or_id_and_one_row_stands_for_each(nets, vitcnn):
    cells = ["--cell", "vit-n50-s0", "--cell", nets.cells["hybrid"].id]
    code, out, _ = vitcnn("as-attention", *nets.where, *cells)
    assert code == 0
    rows = [re.split("  +", line) for line in out.splitlines()[:2]]
    assert [row[:3] for row in rows] == [["vit-n50-s0", "1", "256"], ["hybrid-n50-s0", "5", "37"]]
    assert {row[5] for row in rows} == {"500"}


def test_a_shuffled_cell_is_named_with_its_setting(shuffled, vitcnn):
    code, out, _ = vitcnn("as-attention", *shuffled.where)
    assert code == 0
    assert out.startswith("cnn-n50-s0 (all patches permuted)  6  46  500  ")


@pytest.mark.parametrize("command", ["as-attention", "receptive-fields"])
@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("cnm-n50-s0", "--cell cnm-n50-s0: no such cell; did you mean 'cnn-n50-s0'?"),
        ("cnn-n200-s0", "--cell cnn-n200-s0: no such cell"),
    ],
)
def test_a_cell_that_the_study_does_not_have_is_a_mistake(command, cell, said, nets, vitcnn):
    code, _, err = vitcnn(command, *nets.where, "--cell", cell)
    assert (code, err.splitlines()[0].startswith(f"vitcnn: {said}")) == (2, True)


@pytest.mark.parametrize("command", ["as-attention", "receptive-fields"])
def test_weights_that_were_not_kept_are_missed_in_a_sentence(command, nets, vitcnn, tmp_path):
    elsewhere = [*nets.where[:-1], tmp_path / "elsewhere"]
    code, _, err = vitcnn(command, *elsewhere, "--cell", "cnn-n50-s0")
    assert code == 2
    assert f"the trained weights of cell {nets.cells['cnn'].id} are needed" in err
    assert "--keep-weights" in err


def test_where_no_cnn_was_kept_it_is_said_how_to_keep_one(nets, vitcnn, tmp_path):
    code, _, err = vitcnn("as-attention", *nets.where[:-1], tmp_path / "elsewhere")
    assert code == 2
    assert "no weights of a CNN found; `vitcnn run --keep-weights` keeps them" in err


def test_a_network_that_is_attention_already_is_refused(nets, vitcnn):
    code, _, err = vitcnn("as-attention", *nets.where, "--cell", "freed-n50-s0")
    assert code == 2
    assert err.startswith("vitcnn: freed-n50-s0: ")
    assert "has no Conv2d to rewrite" in err


def test_a_cell_that_has_no_weights_at_all_is_said_to_have_none(nets, vitcnn):
    code, _, err = vitcnn("as-attention", *nets.where, "--cell", "linear-n50-s0")
    assert code == 2
    assert "--keep-weights" not in err


# ---- receptive-fields ----


@pytest.mark.parametrize("name", ["vit", "vit-window", "hybrid"])
def test_where_a_head_looks_is_its_attention_by_offset_and_sums_to_one(name, nets):
    found = fields(nets, name)
    assert list(found) == ["blocks.0.attention", "blocks.1.attention"]
    network, look, data = trained(nets.cells[name], nets.paths)
    heard = []
    network.blocks[1].attention.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    with torch.inference_mode():
        network(look(data.test[0][:IMAGES]))
        alpha = network.blocks[1].attention.attention(heard[0]).mean(0).numpy()  # (2 heads, 16 tokens, 16 tokens)
    by_hand = np.zeros((2, 7, 7))
    for i, j in np.ndindex(16, 16):
        by_hand[:, j // 4 - i // 4 + 3, j % 4 - i % 4 + 3] += alpha[:, i, j] / 16
    np.testing.assert_allclose(found["blocks.1.attention"], by_hand, atol=1e-6)
    for heads in found.values():
        np.testing.assert_allclose(heads.sum((1, 2)), 1, atol=1e-5)


def test_a_windowed_head_looks_nowhere_outside_its_window(nets):
    for heads in fields(nets, "vit-window").values():
        outside = heads.copy()
        outside[:, 2:5, 2:5] = 0
        assert (heads[:, 2:5, 2:5] > 0).all()
        assert not outside.any()
    assert (window_mask(4, 3).sum(1) > 3).all()


def test_the_heads_of_a_sharp_convolution_look_at_their_offsets_as_often_as_these_lie_in_the_image(nets):
    found = fields(nets, "sharp")
    assert {name: len(heads) for name, heads in found.items()} == {
        "stem.0": 9,
        **{f"stages.{stage}.conv{k}": 9 for stage in (0, 1) for k in (1, 2)},
        "stages.1.downsample.0": 1,
    }
    for name, heads in found.items():
        middle = heads.shape[1] // 2
        size, stride = middle + 1, 2 if name in ("stem.0", "stages.1.conv1", "stages.1.downsample.0") else 1
        asks = np.arange(0, size, stride)
        offsets = [(0, 0)] if len(heads) == 1 else [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
        for head, offset in zip(heads, offsets, strict=True):
            there = [np.mean((asks + o >= 0) & (asks + o < size)) for o in offset]
            assert head[middle + offset[0], middle + offset[1]] == pytest.approx(there[0] * there[1], abs=1e-6)
            assert head.sum() == pytest.approx(there[0] * there[1], abs=1e-6)  # the rest fell on the zeros around it


def test_a_freed_head_looks_everywhere_and_gives_the_image_at_most_everything(nets):
    for heads in fields(nets, "freed").values():
        assert (heads.sum((1, 2)) <= 1 + 1e-5).all()
        assert (heads.sum((1, 2)) > 0.7).all()  # by content (1 − σ(−1) = 0.73) nothing is lost to the zeros
        assert (heads >= 0).all()


@pytest.mark.parametrize("name", ["mixer", "cnn"])
def test_a_network_without_attention_has_no_receptive_fields_to_draw(name, nets, vitcnn):
    code, _, err = vitcnn("receptive-fields", *nets.where, "--cell", f"{name}-n50-s0")
    assert code == 2
    assert f"{name}-n50-s0: {name} has no attention over a grid of tokens" in err


def test_receptive_fields_are_drawn_a_row_a_layer_a_column_a_head(nets, vitcnn):
    code, out, _ = vitcnn("receptive-fields", *nets.where, "--cell", nets.cells["vit"].id)
    path = nets.paths.report / "receptive-fields-vit-n50-s0.png"
    assert (code, out) == (0, f"written to {path}\n")
    tall, wide, _ = matplotlib.image.imread(path).shape
    assert 200 < tall < 700
    assert 200 < wide < 700


def test_layers_of_different_heads_and_grids_share_a_figure(tmp_path):
    layers = {"first": np.ones((5, 9, 9)), "second": np.eye(3)[None], "third": np.zeros((1, 1, 1))}
    title = "a cell (all patches permuted)"
    drawn = [len(ax.images) for ax in offset_maps(layers, title).axes if ax.get_visible()]
    assert drawn == [1] * (5 + 1 + 1)
    path = save_receptive_fields(layers, title, StudyPaths("nets", tmp_path, tmp_path))
    assert path == tmp_path / "nets" / "receptive-fields-a-cell-(all-patches-permuted).png"
    tall, wide, _ = matplotlib.image.imread(path).shape
    assert tall < wide < 1300


def test_cells_with_a_dot_in_their_name_have_figures_of_their_own(tmp_path):
    paths = StudyPaths("nets", tmp_path, tmp_path)
    titles = ("vit-0.5-n50-s0", "vit-0.5-n200-s0", "vit-n50-s0 lr=0.01")
    paths = [save_receptive_fields({"a": np.ones((1, 3, 3))}, title, paths) for title in titles]
    assert [path.name for path in paths] == [f"receptive-fields-{title.replace(' ', '-')}.png" for title in titles]

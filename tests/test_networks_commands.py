"""The networks of cells whose weights were kept, and a CNN of those rewritten as attention, which says the same."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import make_study

from vitcnn.inspect.trained import trained
from vitcnn.launch.worker import Options, work
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


@pytest.mark.parametrize("command", ["as-attention", "look"])
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


@pytest.mark.parametrize("command", ["as-attention", "look"])
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

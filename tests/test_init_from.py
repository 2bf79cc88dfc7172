"""Cells that begin with the trained weights of another's: which, in what order, from where, and what they then are."""

import resource
import shutil
import sys
import textwrap
from functools import partial

import pytest
import torch
from synthetic import make_study

from vitcnn.errors import ConfigError
from vitcnn.launch.worker import Options, work
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import Record, read_record
from vitcnn.store.status import states
from vitcnn.study.cell import Cell
from vitcnn.study.matrix import cells
from vitcnn.training.callback import InterruptedCell
from vitcnn.training.train import train_cell
from vitcnn.training.weights import load_weights, save_weights

OPTIONS = Options(device="cpu", tracking="off")
FAMILY = """
dataset: digits
sizes: [200]
seeds: 1
models:
  cnn: &small {arch: cnn, channels: [4, 8], blocks: [1, 1], image_size: 8}
  cnn-on: {<<: *small, init_from: cnn, recipe: {lr: 1.0e-60}}
  freed: {<<: *small, arch: cnn-attention, init_from: cnn, gate: 30, sharpness: 60, recipe: {lr: 1.0e-60}}
  vit: &vit {arch: vit, width: 16, depth: 1, heads: 2}
  vit-on: {<<: *vit, init_from: vit, recipe: {lr: 1.0e-60}}
  linear: {C: [1.0]}
budget: {images_seen: 640}
recipe: {batch_size: 32, lr: 0.03}
"""
MATRIX = """
dataset: digits
sizes: [50]
seeds: 1
models:
  burns: &small {arch: cnn, channels: [4, 8], blocks: [1, 1], image_size: 8, recipe: {lr: 1.0e+30}}
  after: {<<: *small, init_from: burns, recipe: {}}
  cnn: {<<: *small, recipe: {}}
  cnn-on: {<<: *small, init_from: cnn, recipe: {}}
  freed: {<<: *small, arch: cnn-attention, init_from: cnn-on, recipe: {}}
  freed-on: {<<: *small, arch: cnn-attention, init_from: freed, recipe: {}}
  linear: {C: [1.0]}
budget: {images_seen: 128}
recipe: {batch_size: 32}
"""
OWN = """
from torch import nn


def build(image_size, channels, classes, width):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, width), nn.Linear(width, classes))
"""


def by_name(all_cells: list[Cell]) -> dict[str, Cell]:
    return {cell.model: cell for cell in all_cells}


@pytest.fixture
def cell(study):
    """`cell("freed", "recipe.lr=1")`: the first cell of a model of the family."""
    return lambda name, *overrides, text=FAMILY: by_name(cells(study(*overrides, text=text))[::-1])[name]


@pytest.fixture(scope="module")
def family(tmp_path_factory) -> tuple[dict[str, Cell], dict[str, Record], StudyPaths]:
    """All cells trained, the weights of all kept; (cells, records, paths)."""
    _, all_cells, paths = make_study(tmp_path_factory.mktemp("family"), text=FAMILY, name="family")
    for one in all_cells:
        assert work((one,), paths, OPTIONS, {one.id}).cells == {one.id: "done"}
    return by_name(all_cells), {c.model: read_record(paths.record(c.id)) for c in all_cells}, paths


@pytest.fixture
def paths(family, tmp_path) -> StudyPaths:
    """A copy of the family's files, to be changed."""
    old = family[2]
    new = StudyPaths(old.study, tmp_path / "results", tmp_path / "runs")
    shutil.copytree(old.results, new.results)
    shutil.copytree(old.runs, new.runs)
    return new


# ---- a run ----


def test_a_run_trains_starters_first_keeps_what_is_needed_and_ends_where_a_starter_fails(vitcnn, study, tmp_path):
    mine = by_name(cells(study(text=MATRIX, name="m.yaml")))
    paths = StudyPaths("m", tmp_path / "results", tmp_path / "runs")
    run = ("run", "m.yaml", "--workers", "2", "--device", "cpu", "--wandb", "off")
    code, out, _ = vitcnn(*run)
    assert code == 1
    after = {state.cell.model: state for state in states(mine.values(), paths)}
    assert {name for name, state in after.items() if state.kind == "failed"} == {"burns", "after"}
    assert {state.kind for state in after.values()} == {"failed", "done"}
    assert "NotFiniteLoss" in after["burns"].detail["error"]
    needed = f"cell {mine['burns'].id}, whose trained weights are needed, is not finished"
    assert needed in after["after"].detail["error"]
    assert out.count("after-n50-s0 failed: ConfigError") == 1  # once: a second try mends nothing
    kept = {f"{mine[name].id}.pt" for name in ("cnn", "cnn-on", "freed")}
    assert {path.name for path in (paths.run / "weights").iterdir()} == kept
    records = {name: read_record(paths.record(mine[name].id)) for name in ("cnn", "cnn-on", "freed", "freed-on")}
    assert len({record.subset for record in records.values()}) == 1
    assert len({record.weights for record in records.values()}) == 4
    code, out, _ = vitcnn(*run)
    assert (code, "left out because their source cell failed: after-n50-s0" in out) == (0, True)
    assert "all 7 cells are done, or failed for good" in out
    again = train_cell(mine["freed-on"], paths=paths)
    assert (again.weights, again.test) == (records["freed-on"].weights, records["freed-on"].test)


# ---- what it begins with ----


def test_a_disk_without_room_for_weights_is_an_oserror_that_leaves_nothing_behind(tmp_path):
    small, network = tmp_path / "weights" / "a.pt", torch.nn.Linear(1000, 100)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_weights(network, small)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(small.parent.iterdir()) == []


def test_a_network_that_learns_nothing_more_is_the_one_it_began_with(family):
    mine, records, paths = family
    assert records["vit-on"].weights == records["vit"].weights
    before, after = (dict(load_weights(mine[name].id, paths)) for name in ("cnn", "cnn-on"))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.endswith(("running_mean", "running_var", "num_batches_tracked")) for name in moved)


def test_a_rewritten_network_begins_with_the_predictions_of_the_cnn(family):
    mine, records, paths = family
    same = records["freed"].test.correct() == records["cnn-on"].test.correct()  # both: batch norms that saw the same
    assert same.mean() > 0.99
    assert records["freed"].curve[0].val_nll == pytest.approx(records["cnn-on"].curve[0].val_nll, rel=1e-3)
    fresh = train_cell(mine["freed"].model_copy(update={"init_from": None}), paths=paths)
    assert (fresh.test.correct() == records["freed"].test.correct()).mean() < 0.9
    assert fresh.subset == records["freed"].subset


@pytest.mark.parametrize("name", ["cnn-on", "freed", "vit-on"])
def test_an_interrupted_cell_goes_on_from_its_checkpoint_and_not_from_its_start(name, cell, paths):
    one = cell(name, f"models.{name}.recipe.lr=0.03")
    undisturbed = train_cell(one, paths=paths)
    answers = iter([False, False, True])
    with pytest.raises(InterruptedCell):
        train_cell(one, paths=paths, stop=partial(next, answers, False))
    resumed = train_cell(one, paths=paths)
    assert resumed.cost.resumed == 1
    assert (resumed.weights, resumed.curve, resumed.test) == (undisturbed.weights, undisturbed.curve, undisturbed.test)


@pytest.mark.parametrize(
    ("arch", "more"),
    [("timm/test_vit", "image_size: 32"), ("import:nets_to_go_on:build", "options: {width: 4}")],
)
def test_networks_of_timm_and_of_ones_own_can_be_gone_on_with_where_their_options_are_the_same(
    arch, more, study, vitcnn, tmp_path, monkeypatch
):
    (tmp_path / "nets_to_go_on.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    text = textwrap.dedent(f"""
        dataset: digits
        sizes: [50]
        seeds: 1
        models:
          "my/net": {{arch: "{arch}", {more}}}
          more: {{arch: "{arch}", {more}, init_from: my/net, recipe: {{lr: 1.0e-60}}}}
        budget: {{images_seen: 32}}
        recipe: {{batch_size: 16}}
    """)
    paths = StudyPaths("own", tmp_path / "results", tmp_path / "runs")
    first, second = cells(study(text=text))
    for one in (first, second):
        work((one,), paths, OPTIONS, {first.id})
    assert read_record(paths.record(first.id)).weights == read_record(paths.record(second.id)).weights
    with pytest.raises(ConfigError, match="'my/net' is a different network"):
        cells(study("models.more.image_size=48", text=text))


# ---- weights that are not there ----


def test_lost_weights_are_a_sentence_that_says_what_to_do_and_doing_it_helps(family, paths, cell):
    source, one = cell("cnn"), cell("cnn-on")
    paths.weights(source.id).unlink()
    with pytest.raises(ConfigError) as caught:
        train_cell(one, paths=paths)
    record = paths.record(source.id)
    for said in (str(paths.weights(source.id)), f"delete {record}", "--keep-weights"):
        assert said in str(caught.value)
    record.unlink()
    done = work((source,), paths, Options(device="cpu", tracking="off", keep_weights=True))
    assert done.cells == {source.id: "done"}
    assert train_cell(one, paths=paths).weights == family[1]["cnn-on"].weights


def test_other_weights_and_weights_without_a_record_are_refused(paths, cell):
    source, one = cell("cnn"), cell("cnn-on")
    weights = load_weights(source.id, paths)
    weights["head.bias"][3] += 1e-6
    torch.save(weights, paths.weights(source.id))
    with pytest.raises(ConfigError, match=f"{source.id}.pt: does not match the weights of .*{source.id}.json"):
        train_cell(one, paths=paths)
    paths.record(source.id).unlink()
    with pytest.raises(ConfigError, match=f"cell {source.id}, whose trained weights are needed, is not finished"):
        train_cell(one, paths=paths)


@pytest.mark.parametrize("left", [0.5, 0])
def test_a_broken_file_of_weights_is_refused_by_its_name(left, paths, cell):
    path = paths.weights(cell("cnn").id)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(left * len(whole))] or b"hello")
    with pytest.raises(ConfigError, match=path.name):
        train_cell(cell("cnn-on"), paths=paths)


def test_weights_of_a_cell_that_never_finished_are_not_to_be_had_by_deleting_its_record(paths, cell):
    source = cell("cnn")
    paths.weights(source.id).unlink()
    paths.record(source.id).unlink()
    with pytest.raises(ConfigError) as caught:
        train_cell(cell("cnn-on"), paths=paths)
    assert "delete" not in str(caught.value)


def test_logistic_regression_has_no_weights_to_keep(family):
    mine, records, paths = family
    assert records["linear"].weights is None
    assert not paths.weights(mine["linear"].id).exists()
    assert len(list((paths.run / "weights").iterdir())) == len(mine) - 1

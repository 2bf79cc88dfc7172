"""Cells on images that are made: planned, trained, resumed, trained together, recorded and reported like any other."""

import gc
import time

import pytest
import torch

from vitcnn.data import cell_data as module
from vitcnn.data.batches import TrainStream
from vitcnn.data.cell_data import Picked, cells_data, statistics_sample
from vitcnn.data.preprocess import Preprocess
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.data.synthetic.lazy import LazyImages
from vitcnn.errors import ConfigError
from vitcnn.report.report import write_report
from vitcnn.seeds import role_seed
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import Record, write_record
from vitcnn.study.matrix import cells
from vitcnn.training import linear
from vitcnn.training.callback import InterruptedCell
from vitcnn.training.train import data_of, train_cell, train_cells

CPU = torch.device("cpu")
FRACTALS = "fractals:classes=5,size=16,test=200"
TEXT = """
dataset: "fractals:test=200,classes=5,size=16"
sizes: [50, 300]
seeds: 2
validation: 100
models:
  vit: {width: 32, depth: 1, heads: 2, drop_path: 0.5}
  cnn: {channels: [8, 16], blocks: [1, 1]}
  linear: {C: [0.01, 1.0]}
budget: {images_seen: 640}
recipe: {batch_size: 32, augment: "shift:1"}
"""
HOW = {"content": None, "validation": 100, "folder": None, "device": CPU}


@pytest.fixture
def forget(monkeypatch):
    """From now on no images fit into memory: nothing that is made is remembered."""
    return lambda: monkeypatch.setattr(module, "SHARE", 0)


def result(record: Record) -> dict:
    """All of a record but when, where and how fast it was made."""
    return record.model_dump(exclude={"made_by": True, "cost": {"seconds", "images_per_s", "resumed", "lanes"}})


# ---- studies ----


def test_a_cells_data_set_has_its_one_name_and_the_id_does_not_depend_on_how_it_was_written(study):
    ways = ["fractals:classes=5,size=16,test=200", "fractals:vary=0.2,size=16,test=200,classes=5,noise=0.0"]
    first, second = ([cell.id for cell in cells(study(f"dataset={way}", text=TEXT))] for way in ways)
    assert first == second
    assert {cell.dataset for cell in cells(study(text=TEXT))} == {FRACTALS}
    assert set(first).isdisjoint(cell.id for cell in cells(study(f"dataset={ways[0]},noise=0.1", text=TEXT)))
    assert first[0] == "69298157be81"  # a change here orphans every record on images that are made


def test_an_unknown_option_in_a_study_is_one_sentence(study):
    with pytest.raises(
        ConfigError, match=r"small\.yaml: dataset: fractals:noize=1: 'noize=1' is not a valid option=value; did y"
    ):
        study("dataset=fractals:noize=1", text=TEXT)
    with pytest.raises(ConfigError, match="a mirrored image of fractals:flips=0 is not of the same class"):
        cells(study("dataset=fractals:flips=0", "recipe.augment=flip", "sizes=[200]", text=TEXT))


def test_ten_million_images_are_planned_at_once(vitcnn, tmp_path):
    (tmp_path / "large.yaml").write_text(TEXT.replace("[50, 300]", "[1000, 10_000_000]"))
    began = time.perf_counter()
    code, out, err = vitcnn("plan", "large.yaml", "seeds=5", "budget={epochs: 1}")
    assert (code, err) == (0, "")
    assert "10,000,000" in out
    assert time.perf_counter() - began < 5  # of which nothing is in the number of images


# ---- what a cell gets ----


def test_subsets_are_nested_balanced_and_share_validation_and_test():
    subsets = [(50, role_seed(0, "subset")), (303, role_seed(0, "subset")), (50, role_seed(1, "subset"))]
    few, many, other = cells_data(parse_dataset(FRACTALS), subsets, **HOW)
    assert len({few.subset, many.subset, other.subset}) == 3
    assert torch.equal(few.train[0][:], many.train[0][:50])
    assert torch.equal(few.train[1], many.train[1][:50])
    counts = torch.bincount(many.train[1])
    assert (len(counts), len(many.train[1])) == (few.info.classes, 303)
    assert counts.max() - counts.min() <= 1
    parts = [many.train, other.train, few.validation, few.test]
    seen = [{image.numpy().tobytes() for image in images[:]} for images, _ in parts]
    assert [len(part) for part in seen] == [303, 50, 100, 200]
    assert len(set.union(*seen)) == 653
    for part in ("validation", "test"):
        assert torch.equal(getattr(few, part)[0][:], getattr(other, part)[0][:])
    assert few.facts["looked_at"] == [50, 200]
    assert few.facts["test_in_train"] == few.facts["in_train"] == 0
    assert few.facts["sha256"][1] == other.facts["sha256"][1] != other.facts["sha256"][0]


def test_cells_that_share_a_stream_get_what_each_gets_alone():
    subsets = [(50, role_seed(0, "subset")), (300, role_seed(0, "subset")), (50, role_seed(1, "subset"))]
    for together, subset in zip(cells_data(parse_dataset(FRACTALS), subsets, **HOW), subsets, strict=True):
        (alone,) = cells_data(parse_dataset(FRACTALS), [subset], **HOW)
        assert (together.subset, together.facts, together.info) == (alone.subset, alone.facts, alone.info)
        for part in ("train", "validation", "test"):
            (images, labels), (own, own_labels) = getattr(together, part), getattr(alone, part)
            assert torch.equal(images[torch.tensor([3, 0])], own[torch.tensor([3, 0])])
            assert torch.equal(images[:], own[:])
            assert torch.equal(labels, own_labels)


def test_statistics_are_those_of_the_first_ten_thousand_images_alone_or_shared(monkeypatch):
    monkeypatch.setattr(module, "SAMPLE", 70)
    subsets = [(100, role_seed(0, "subset")), (200, role_seed(0, "subset"))]
    few, many = (data.train[0] for data in cells_data(parse_dataset(FRACTALS), subsets, **HOW))
    assert isinstance(few, Picked)
    assert isinstance(many, LazyImages)
    for images in (few, many):
        assert torch.equal(statistics_sample(images), many[:70])
    assert torch.equal(Preprocess.of(statistics_sample(few), 16).mean, Preprocess.of(many[:70], 16).mean)
    usual = torch.zeros(100, 1, 2, 2, dtype=torch.uint8)
    assert statistics_sample(usual) is usual


def test_more_images_than_memory_can_number_are_refused_before_anything_is_made():
    with pytest.raises(ConfigError, match=r"^sizes: 500,000,000,000 images need 12,000.0 GB of memory for labels"):
        cells_data(parse_dataset(FRACTALS), [(500_000_000_000, 1)], **HOW)


def test_so_are_more_validation_images():
    how = {"content": None, "folder": None, "device": torch.device("cpu")}
    with pytest.raises(ConfigError, match="validation: 1,000,000,000,000 images"):
        cells_data(parse_dataset("fractals:size=16"), [(200, 0)], validation=10**12, **how)


def test_a_stream_of_made_images_gives_the_batches_of_the_same_in_memory():
    (data,) = cells_data(parse_dataset(FRACTALS), [(150, role_seed(0, "subset"))], **HOW)
    how = {"batch_size": 64, "steps": 9, "seed": 5, "start": 2}
    streams = [TrainStream(images, data.train[1], **how) for images in (data.train[0], data.train[0][:].clone())]
    for (images, labels, step), (kept, labels_kept, step_kept) in zip(*streams, strict=True):
        assert torch.equal(images, kept)
        assert torch.equal(labels, labels_kept)
        assert step == step_kept


# ---- cells ----


@pytest.mark.parametrize("model", ["vit", "cnn", "linear"])
def test_a_cell_is_the_same_to_the_last_bit_whether_its_images_are_remembered(model, of, paths, forget):
    cell = of(model, "sizes=[300]", "seeds=1")[0]
    remembered = train_cell(cell, paths=paths)
    forget()
    assert not data_of([cell], CPU, None)[0].train[0].remember
    again = train_cell(cell, paths=paths)
    assert result(again) == result(remembered)
    assert remembered.test.images == 200
    assert remembered.data["origin"] == "made from seeds"


def test_an_interrupted_cell_goes_on_to_the_same_end(of, paths, tmp_path):
    cell = of("cnn", "sizes=[300]", "seeds=1")[0]
    undisturbed = train_cell(cell, paths=StudyPaths("other", tmp_path, tmp_path))
    asked = iter([False, False, True])
    with pytest.raises(InterruptedCell):
        train_cell(cell, paths=paths, stop=lambda: next(asked))
    resumed = train_cell(cell, paths=paths)
    assert (undisturbed.cost.resumed, resumed.cost.resumed) == (0, 1)
    assert result(resumed) == result(undisturbed)


def test_cells_trained_together_have_the_curves_they_have_alone(of, paths, tmp_path):
    for cell, record in train_cells(of("cnn"), paths=paths):
        alone = train_cell(cell, paths=StudyPaths("alone", tmp_path, tmp_path))
        assert record.cost.lanes == 4
        assert (record.subset, record.data) == (alone.subset, alone.data)
        assert result(record) == result(alone)


def test_one_cell_after_the_other_leaves_no_images_behind(of, paths):
    """A million of 32×32 pixels in colour are 3 GB."""

    def count() -> int:
        return sum(type(thing) is LazyImages for thing in gc.get_objects())

    gc.collect()
    before, left = count(), []
    gc.disable()  # as between the cells of a worker that has memory to spare: nobody collects unasked
    try:
        for cell in of("cnn", "sizes=[300]", "seeds=3"):
            list(train_cells([cell], paths=paths))
            left.append(count() - before)
    finally:
        gc.enable()
    assert left[0] == left[1] == left[2]


def test_the_linear_baseline_takes_no_more_images_than_it_may_and_says_so(of, paths, monkeypatch):
    monkeypatch.setattr(linear, "SYNTHETIC_IMAGES", 50)
    few, many = (train_cell(cell, paths=paths) for cell in of("linear", "seeds=1"))
    assert (few.cell.n, many.cell.n) == (50, 300)
    assert few.found["images"] == many.found["images"] == 50
    assert few.test == many.test


def test_a_report_says_what_the_images_are_and_what_the_baseline_was_fitted_on(study, of, paths, monkeypatch):
    monkeypatch.setattr(linear, "SYNTHETIC_IMAGES", 50)
    mine = study("models={linear: {C: [1.0]}}", "seeds=1", text=TEXT)
    for cell in cells(mine):
        write_record(train_cell(cell, paths=paths), paths)
    text = write_report(mine, cells(mine), paths).read_text(encoding="utf-8")
    assert f"\n{FRACTALS}: 1 models × 2 sizes" in text
    assert "\nIts images are synthetic, fractals of random iterated function systems, made from seeds: " in text
    assert "\nlinear is fitted on the first 50 of its training images at most, at every n.\n" in text
    assert (
        "\nOn a sample: none of the first 200 test images is an exact copy of one of the first 300 training images "
        "of a cell.\n" in text
    )


def test_the_report_of_a_search_says_what_the_images_are_too(study, paths):
    mine = study("models={cnn: {channels: [8], blocks: [1]}}", "seeds=1", "sizes=[50]", "grid={lr: [0.01]}", text=TEXT)
    for cell in cells(mine):
        write_record(train_cell(cell, paths=paths), paths)
    text = write_report(mine, cells(mine), paths).read_text(encoding="utf-8")
    assert "\nIts images are synthetic, " in text

"""Images that do not fit into memory are read from the cache as they are needed, and nothing else is different."""

import pickle

import numpy as np
import pytest
import torch

from vitcnn.data import cell_data as module
from vitcnn.data.batches import TrainStream
from vitcnn.data.cell_data import OnDisk, cells_data, fits
from vitcnn.data.preprocess import Preprocess
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import Record
from vitcnn.study.cell import Cell
from vitcnn.study.matrix import cells
from vitcnn.training.callback import InterruptedCell
from vitcnn.training.evaluate import BATCH, batches
from vitcnn.training.train import train_cell

CPU = torch.device("cpu")
TINY = """
dataset: digits
sizes: [50]
seeds: 1
models:
  vit: {width: 32, depth: 1, heads: 2, drop_path: 0.5}
  cnn: {channels: [8, 16], blocks: [1, 1]}
  linear: {C: [0.01, 1.0]}
budget: {images_seen: 640}
recipe: {batch_size: 32, augment: "shift:1"}
"""


@pytest.fixture
def tiny(study):
    def pick(model: str) -> Cell:
        return next(c for c in cells(study(text=TINY)) if c.model == model)

    return pick


@pytest.fixture
def stream(monkeypatch):
    """`stream(True)`: from now on no cell's images fit into memory; `stream(False)`: they do again."""
    usual = module.SHARE
    return lambda yes: monkeypatch.setattr(module, "SHARE", 0 if yes else usual)


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[torch.Tensor, OnDisk]:
    """2,500 of 3,000 images of 5×4 pixels in colour, in an order of their own: in memory, and on disk."""
    images = np.random.default_rng(0).integers(0, 256, (3000, 5, 4, 3), dtype=np.uint8)
    images[..., 1] //= 2
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, images)
    rows = np.random.default_rng(1).permutation(3000)[:2500]
    return torch.from_numpy(images[rows].transpose(0, 3, 1, 2).copy()), OnDisk(np.load(path, mmap_mode="r"), rows)


def result(record: Record) -> dict:
    """All of a record but when, where and how fast it was made."""
    return record.model_dump(exclude={"made_by": True, "cost": {"seconds", "images_per_s", "resumed"}})


# ---- the images ----


@pytest.mark.parametrize(
    "index",
    [torch.tensor([3, 0, 2499, 3]), torch.tensor([7]), slice(0, 10), slice(2490, 3000), slice(None, 5), slice(0, 0)],
    ids=str,
)
def test_images_on_disk_are_indexed_like_the_tensor_that_they_stand_for(index, pair):
    tensor, disk = pair
    assert len(disk) == len(tensor)
    got = disk[index]
    assert torch.equal(got, tensor[index])
    assert got.dtype == torch.uint8
    assert got.is_contiguous()


def test_a_batch_from_the_disk_may_be_written_to_and_the_cache_stays_as_it_is(pair):
    tensor, disk = pair
    disk[torch.tensor([0])].zero_()
    assert torch.equal(disk[torch.tensor([0])], tensor[:1])


def test_the_statistics_of_images_on_disk_are_those_of_the_same_images_in_memory(pair):
    tensor, disk = (Preprocess.of(images, 5) for images in pair)
    assert torch.equal(tensor.mean, disk.mean)
    assert torch.equal(tensor.std, disk.std)
    assert torch.allclose(disk.mean.ravel(), pair[0].double().mean((0, 2, 3)).float() / 255)


def test_a_stream_from_the_disk_gives_the_batches_of_one_in_memory(pair):
    labels = torch.arange(2500)
    how = {"batch_size": 64, "steps": 45, "seed": 5, "start": 38}  # into the second epoch
    streams = [list(TrainStream(images, labels, **how)) for images in pair]
    for (images, labels_, step), (read, labels_read, step_) in zip(*streams, strict=True):
        assert torch.equal(images, read)
        assert torch.equal(labels_, labels_read)
        assert step == step_


@pytest.mark.parametrize("limit", [None, 700, 5000])
def test_what_is_scored_is_the_same_from_the_disk(limit, pair):
    labels = torch.arange(2500)
    memory, disk = (list(batches((images, labels), limit)) for images in pair)
    assert sum(len(y) for _, y in disk) == min(limit or 2500, 2500)
    assert max(len(y) for _, y in disk) == BATCH
    assert all(len(x) == len(y) for x, y in disk)
    assert all(torch.equal(x, x_) and torch.equal(y, y_) for (x, y), (x_, y_) in zip(memory, disk, strict=True))


# ---- when ----


def test_the_images_of_a_cell_are_in_memory_where_they_fit_and_else_on_disk(stream):
    how = {"content": None, "validation": 297, "folder": None, "device": CPU}
    (memory,) = cells_data(parse_dataset("digits"), [(50, 0)], **how)
    stream(True)
    (disk,) = cells_data(parse_dataset("digits"), [(50, 0)], **how)
    for part in ("train", "validation", "test"):
        (images, labels), (read, labels_read) = getattr(memory, part), getattr(disk, part)
        assert isinstance(images, torch.Tensor)
        assert isinstance(read, OnDisk)
        assert torch.equal(images, read[:])
        assert torch.equal(labels, labels_read)
    assert (memory.subset, memory.facts, memory.info) == (disk.subset, disk.facts, disk.info)


@pytest.mark.parametrize("on_disk", [False, True])
def test_cells_that_share_their_images_get_what_each_gets_alone(on_disk, stream):
    stream(on_disk)
    how = {"content": None, "validation": 297, "folder": None, "device": CPU}
    subsets = [(50, 0), (300, 1), (50, 2)]
    for together, subset in zip(cells_data(parse_dataset("digits"), subsets, **how), subsets, strict=True):
        (alone,) = cells_data(parse_dataset("digits"), [subset], **how)
        assert together.subset == alone.subset
        for part in ("train", "validation", "test"):
            (images, labels), (own, own_labels) = getattr(together, part), getattr(alone, part)
            assert len(images) == len(labels) == len(own)
            assert torch.equal(images[:], own[:])
            assert torch.equal(labels, own_labels)
            assert torch.equal(images[torch.tensor([3, 0])], own[torch.tensor([3, 0])])


def test_the_memory_is_shared_by_all_workers():
    assert fits(10**6, CPU, workers=1)
    assert not fits(10**6, CPU, workers=10**9)
    assert not fits(10**15, CPU, workers=1)


# ---- cells ----


@pytest.mark.parametrize("model", ["vit", "cnn", "linear"])
def test_a_cell_trained_from_the_disk_is_the_one_trained_in_memory_to_the_last_bit(model, tiny, paths, stream):
    memory = train_cell(tiny(model), paths=paths)
    stream(True)
    disk = train_cell(tiny(model), paths=paths)
    assert result(disk) == result(memory)
    assert disk.test.bits == memory.test.bits
    if model != "linear":
        assert disk.weights == memory.weights
        assert len(disk.curve) == 5


@pytest.mark.parametrize("later", [True, False], ids=["from the disk again", "in memory"])
def test_a_cell_interrupted_while_it_streams_goes_on_to_the_same_end(later, tiny, paths, stream, tmp_path):
    cell = tiny("cnn")
    undisturbed = train_cell(cell, paths=StudyPaths("other", tmp_path, tmp_path))
    stream(True)
    asked = iter([False, False, True])
    with pytest.raises(InterruptedCell):
        train_cell(cell, paths=paths, stop=lambda: next(asked))
    stream(later)
    resumed = train_cell(cell, paths=paths)
    assert (undisturbed.cost.resumed, resumed.cost.resumed) == (0, 1)
    assert result(resumed) == result(undisturbed)


def test_a_process_that_images_on_disk_are_sent_to_maps_the_file_again(pair):
    _, disk = pair
    sent = pickle.dumps(disk)
    assert len(sent) < disk.rows.nbytes + 1000  # the images are 150,000 bytes
    there = pickle.loads(sent)
    assert isinstance(there.images, np.memmap)
    torch.testing.assert_close(there[:40], disk[:40], rtol=0, atol=0)

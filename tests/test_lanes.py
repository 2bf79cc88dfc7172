"""Cells trained side by side in the lanes of one process are what they are alone, to the last bit."""

import resource
from pathlib import Path

import pytest
from test_tracking import inspect

from vitcnn.launch.jobs import jobs
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import Record
from vitcnn.study.cell import Cell
from vitcnn.study.load import load_study
from vitcnn.study.matrix import cells
from vitcnn.system.processes import apart
from vitcnn.training.callback import InterruptedCell
from vitcnn.training.checkpoints import load_checkpoint
from vitcnn.training.lane import NotFiniteLoss
from vitcnn.training.train import train_cell, train_cells

TEXT = """
dataset: digits
sizes: [50, 100]
seeds: 2
validation: 50
models:
  vit: {width: 32, depth: 2, heads: 2, drop_path: 0.5, recipe: {lr: 0.003, weight_decay: 0.3}}
  cnn: {channels: [8, 16], blocks: [1, 1], recipe: {lr: 0.003, augment: "shift:1+mixup:0.8"}}
  swin: {width: 16, depths: [1, 1], heads: [1, 2], recipe: {augment: "trivial+erase:0.5+cutmix:1"}}
  mixer: {width: 32, depth: 1}
budget: {images_seen: 800}
recipe: {batch_size: 32}
"""
MODELS = ["vit", "cnn", "swin", "mixer"]


@pytest.fixture
def of(study):
    def pick(model: str, *overrides: str) -> list[Cell]:
        made = cells(study(*overrides, text=TEXT))
        return [c for c in made if c.model == model and c.role == "main"]

    return pick


@pytest.fixture
def alone(tmp_path):
    """The record of a cell trained alone and undisturbed."""
    return lambda cell: train_cell(cell, paths=StudyPaths("alone", tmp_path, tmp_path))


def outcome(record: Record) -> tuple:
    """All of a record but what it cost."""
    return record.id, record.weights, record.curve, record.test, record.validation, record.train, record.subset


def interrupting(at: int):
    asked = [0]

    def stop() -> bool:
        asked[0] += 1
        return asked[0] == at

    return stop


@pytest.mark.parametrize("model", MODELS)
def test_a_cell_ends_as_it_ends_alone(model, of, paths, alone):
    mine = of(model)
    found = dict(train_cells(mine, paths=paths))
    assert list(found) == mine
    for cell, record in found.items():
        assert record.cost.lanes == 4
        assert outcome(record) == outcome(alone(cell))


@pytest.mark.parametrize("model", ["vit", "swin"])
def test_interrupted_lanes_go_on_alone_or_together_to_the_same_end(model, of, paths, alone):
    mine = of(model)
    with pytest.raises(InterruptedCell):
        list(train_cells(mine, paths=paths, stop=interrupting(9)))
    assert {load_checkpoint(paths.cell(cell.id) / "last.ckpt")["step"] for cell in mine} == {11}
    first = train_cell(mine[0], paths=paths)
    with pytest.raises(InterruptedCell):
        train_cell(mine[1], paths=paths, stop=interrupting(9))
    mixed = dict(train_cells(mine[1:], paths=paths))  # the first goes on later than the other two
    assert [mixed[cell].cost.resumed for cell in mine[1:]] == [2, 1, 1]
    assert [mixed[cell].cost.lanes for cell in mine[1:]] == [1, 2, 2]
    for record in (first, *mixed.values()):
        assert outcome(record) == outcome(alone(record.cell))


def test_a_cell_whose_loss_is_not_a_number_leaves_the_others_alone(of, paths, alone):
    good, bad = of("vit"), of("vit", "models.vit.recipe.lr=1e30", "sizes=[50]", "seeds=1")
    found = dict(train_cells([*good[:2], *bad, *good[2:]], paths=paths))
    with pytest.raises(NotFiniteLoss) as error:
        alone(bad[0])
    assert str(found.pop(bad[0])) == str(error.value)
    assert list(found) == good
    for cell, record in found.items():
        assert outcome(record) == outcome(alone(cell))


def test_lanes_that_all_fail_end_at_once(of, paths):
    bad = of("vit", "models.vit.recipe.lr=1e30", "budget.images_seen=32000")
    assert {type(error) for _, error in train_cells(bad, paths=paths)} == {NotFiniteLoss}


def test_every_lane_has_its_own_run_in_wandb(of, paths, monkeypatch, tmp_path):
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    mine = of("vit", "sizes=[50]", "budget.images_seen=128")
    records = dict(train_cells(mine, paths=paths, tracking="offline"))
    for cell, record in records.items():
        said = inspect(next((paths.run / "wandb").glob(f"offline-run-*-{cell.id}")))
        assert cell.title in said
        assert said.count("val/nll") >= len(record.curve) > 0
        assert f"{record.curve[-1].val_nll:.9f}"[:5] in said
        assert "test/acc" in said


HEAVY = """
import torch
from torch import nn


class Heavy(nn.Linear):
    def __init__(self, inputs, classes):
        super().__init__(inputs, classes)
        self.ballast = nn.Parameter(torch.ones(10_000_000))  # 40 MB, four times with its gradient and AdamW's moments

    def forward(self, images):
        return super().forward(images.flatten(1)) * self.ballast[:10]


def build(image_size, channels, classes):
    return Heavy(channels * image_size**2, classes)
"""


def limited(folder: Path) -> tuple[list[str], list[int]]:
    """Trains four cells where memory is short; (messages, the number of lanes of each record)."""
    mine, said = cells(load_study(folder / "wide.yaml")), []
    list(train_cells(mine[:1], paths=StudyPaths("warm", folder, folder), device="cpu"))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20), -1))
    found = train_cells(mine, paths=StudyPaths("cut", folder, folder), device="cpu", log=said.append)
    return said, [record.cost.lanes for _, record in found]


def test_lanes_that_run_out_of_memory_are_halved_and_go_on(tmp_path):
    """In a process of its own, whose memory the system limits."""
    (tmp_path / "heavy.py").write_text(HEAVY)
    (tmp_path / "wide.yaml").write_text(
        "dataset: digits\nsizes: [50]\nseeds: 4\nvalidation: 50\nmodels: {heavy: {arch: 'import:heavy:build'}}\n"
        "budget: {images_seen: 64}\nrecipe: {batch_size: 32}"
    )
    said, lanes = apart(limited, tmp_path, threads=1)
    assert "4 heavy cells ran out of memory; training half of them at a time" in said
    assert len(lanes) == 4
    assert set(lanes) <= {1, 2}


def test_jobs_hold_cells_of_one_model_with_equal_numbers_of_steps(of, study):
    mine = of("vit") + of("cnn")
    longer = of("vit", "budget.images_seen=1600")
    start = of("vit", "sizes=[50]", "seeds=1")[0].model_copy(update={"init_from": mine[0].id})
    assert [len(job) for job in jobs([*mine, *longer, start], 32)] == [4, 4, 4, 1]
    assert [len(job) for job in jobs(mine, 3)] == [2, 2, 2, 2]
    assert [len(job) for job in jobs(mine, 1)] == [1] * 8
    assert [cell for job in jobs(mine, 3) for cell in job] == mine
    linear = cells(study("seeds=2"))
    assert all(len(job) == 1 for job in jobs(linear, 32) if job[0].arch.name == "linear")

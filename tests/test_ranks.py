"""A cell that several processes train together, on CPUs: `trainer: {devices: 2, strategy: ddp}`."""

import os
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest
import torch
from launching import pid_in_a_step, wait_for

from vitcnn.data.batches import TrainStream
from vitcnn.store.records import read_record, write_record
from vitcnn.store.status import states
from vitcnn.study.cell import Cell
from vitcnn.study.load import load_study
from vitcnn.study.matrix import cells
from vitcnn.training.callback import InterruptedCell
from vitcnn.training.ranks import Rank
from vitcnn.training.train import train_cell
from vitcnn.training.weights import load_weights

TEXT = """
dataset: digits
sizes: [200]
seeds: 1
models:
  vit: {width: 32, depth: 2, heads: 2}
  cnn: {channels: [8, 16], blocks: [1, 1]}
budget: {images_seen: 1280}
recipe: {batch_size: 32, lr: 0.003, augment: "shift:1+erase:0.5"}
"""


@pytest.fixture
def vit(of) -> Cell:
    return of("vit")[0]


def test_ranks_share_every_batch_and_together_have_the_images_of_one():
    images, labels = torch.zeros(50, 1, 2, 2, dtype=torch.uint8), torch.arange(50)
    how = {"batch_size": 12, "steps": 9, "seed": 3}
    whole = TrainStream(images, labels, **how)
    parts = [TrainStream(images, labels, **how, share=Rank(k, 3).share(12)) for k in range(3)]
    for step in range(9):
        shares = [part.indices(step) for part in parts]
        assert [len(share) for share in shares] == [4, 4, 4]
        assert np.array_equal(np.concatenate(shares), whole.indices(step))


def test_two_devices_end_with_the_weights_and_the_curve_of_one_up_to_rounding(vit, paths):
    records, weights = [], []
    for count in (1, 2):
        records.append(train_cell(vit, paths=paths, keep=True, devices=count))
        write_record(records[-1], paths)
        weights.append(load_weights(vit.id, paths))
        paths.record(vit.id).unlink()
    alone, record = records
    assert record.id == alone.id
    assert record.cost.images_seen == alone.cost.images_seen
    assert record.made_by["devices"] == "2, each with 16 of the 32 images of a batch"
    assert "devices" not in alone.made_by
    for name, value in weights[0].items():  # less than one of the 40 steps of AdamW, which enlarges rounding
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=0.5 * vit.recipe.lr)
    assert (record.test.correct() == alone.test.correct()).mean() >= 0.99
    for one, other in zip(record.curve, alone.curve, strict=True):
        assert one.images_seen == other.images_seen
        assert one.train_loss == pytest.approx(other.train_loss, abs=1e-3)


def test_batch_normalisation_of_shares_ends_near_that_of_whole_batches(of, paths):
    (cnn,) = of("cnn", "budget.images_seen=6400", "recipe.lr=0.03", "recipe.augment=none")
    alone, shared = (train_cell(cnn, paths=paths, devices=count) for count in (1, 2))
    assert shared.test.accuracy == pytest.approx(alone.test.accuracy, abs=0.06)
    assert alone.test.accuracy > 0.8


def test_an_interrupted_cell_goes_on_to_the_same_end_on_two_devices(vit, paths):
    undisturbed = train_cell(vit, paths=paths, devices=2)
    asked = iter([False] * 7 + [True] * 99)
    with pytest.raises(InterruptedCell):
        train_cell(vit, paths=paths, devices=2, stop=lambda: next(asked))
    record = train_cell(vit, paths=paths, devices=2)
    assert record.cost.resumed == 1
    assert (record.weights, record.curve) == (undisturbed.weights, undisturbed.curve)


def test_a_rank_that_dies_costs_a_try_and_the_cell_goes_on(study, paths, tmp_path):
    file = tmp_path / "small.yaml"
    study(text=TEXT)
    more = ["models={vit: {width: 32, depth: 2, heads: 2}}", "budget.images_seen=9600",
            "trainer={devices: 2, strategy: ddp}"]  # fmt: skip
    (cell,) = cells(load_study(file, more))
    run = subprocess.Popen(
        [sys.executable, "-c", "from vitcnn.cli import main; main()", "run", str(file), *more, "--wandb", "off"],
        cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=os.environ | {"VITCNN_CHECKPOINT_EVERY": "0.2"},
    )  # fmt: skip
    first = wait_for(lambda: pid_in_a_step(paths, cell))
    wait_for(lambda: (paths.cell(cell.id) / "last.ckpt").exists())
    os.kill(follower_of(first), signal.SIGKILL)
    out, _ = run.communicate(timeout=300)
    assert run.returncode == 0, out
    assert "it is tried again at the end" in out
    assert [state.kind for state in states([cell], paths)] == ["done"]
    assert read_record(paths.record(cell.id)).cost.resumed == 1


def follower_of(first: int) -> int:
    """The process that the first rank's fork server has made."""
    return next(made.pid for server in psutil.Process(first).children() for made in server.children())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["trainer={devices: 5}"], "trainer.devices: vit's batch of 32 images cannot be shared equally by 5 devices"),
        (["trainer={devices: 2, strategy: fsdp}"], "trainer.strategy"),
        (["trainer={device: 2}"], "unknown key 'device' in trainer; did you mean 'devices'?"),
        (["trainer={devices: 2}", "--lanes", "4"], "is trained alone"),
    ],
)
def test_what_does_not_go_together_is_a_sentence(more, message, study, vitcnn):
    study(text=TEXT)
    code, _, err = vitcnn("run", "small.yaml", *more, "--wandb", "off", "--device", "cpu")
    assert code == 2
    assert message in err


def test_devices_are_no_part_of_a_cells_id(study):
    ids = [[cell.id for cell in cells(study(*more, text=TEXT))] for more in ([], ["trainer={devices: 2}"])]
    assert ids[0] == ids[1]

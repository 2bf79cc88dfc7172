"""Cells trained as one program are what they would have been alone."""

import copy
import subprocess
import sys

import pytest
import torch
from building import DIGITS, made
from test_tracking import inspect
from torch import nn
from torch.nn.functional import cross_entropy

from vitcnn.entrants import Imported
from vitcnn.launch.jobs import jobs
from vitcnn.matrix import cells
from vitcnn.models.build import decay_groups, image_size
from vitcnn.networks import CNN, Local, ViT
from vitcnn.records import Places
from vitcnn.training.cell import data_of, module_of, train_cell
from vitcnn.training.checkpoints import CheckedIO
from vitcnn.training.keeper import InterruptedCell
from vitcnn.training.module import NotFiniteLoss
from vitcnn.training.stacked import RowAdamW, Stacked, clip_rows
from vitcnn.training.together import train_together, why_alone

TEXT = """
dataset: digits
sizes: [50, 300]
seeds: 2
entrants:
  vit: {width: 32, depth: 2, heads: 2, recipe: {lr: 0.003, weight_decay: 0.3}}
  cnn: {channels: [8, 16], blocks: [1, 1], recipe: {lr: 0.003, augment: "shift:1+mixup:0.8"}}
  local: {width: 16, depths: [1, 1], heads: [1, 2], recipe: {augment: "trivial+erase:0.5+cutmix:1"}}
  mixer: {width: 32, depth: 1}
budget: {images_seen: 1600}
recipe: {batch_size: 32}
"""


@pytest.mark.parametrize("entrant", ["vit", "cnn", "local", "mixer"])
def test_every_cells_loss_curve_is_the_one_it_has_alone(entrant, of, places, tmp_path):
    mine = of(entrant)
    assert {cell.steps for cell in mine} == {50}
    together = dict(train_together(mine, places=places))
    assert [cell.id for cell in together] == [cell.id for cell in mine]
    for cell, record in together.items():
        alone = train_cell(cell, places=Places("alone", tmp_path, tmp_path))
        assert record.cost.cohort == 4
        assert [p.train_loss for p in record.curve] == pytest.approx([p.train_loss for p in alone.curve], rel=1e-4)
        assert record.test.accuracy == pytest.approx(alone.test.accuracy, abs=0.01)
        assert record.subset == alone.subset


@pytest.mark.parametrize("model", [ViT(width=32, depth=1, heads=2), CNN(channels=(8, 16), blocks=(1, 1))])
def test_in_float64_the_program_is_that_of_each_network_to_the_last_digits(model):
    """Also at a rate at which float32's last bits decide where a network ends."""
    lr, decay, B = [0.03, 0.01, 0.003], [0.05, 0.3, 0.0], 16
    networks = [made(model, DIGITS, seed).double() for seed in range(3)]
    stacked, size = Stacked(networks), image_size(model, DIGITS)
    rows = RowAdamW(stacked.rows, lr, decay, stacked.decayed)
    own = [torch.optim.AdamW(decay_groups(n, d), lr=r) for n, r, d in zip(networks, lr, decay, strict=True)]
    for _ in range(20):
        images, labels = torch.randn(3, B, 1, size, size).double(), torch.randint(10, (3, B))
        rows.zero_grad()
        cross_entropy(stacked(images).flatten(0, 1), labels.flatten(), reduction="none").sum().div(B).backward()
        clip_rows(stacked.rows.grad, 1.0)
        rows.step()
        for network, optimizer, x, y in zip(networks, own, images, labels, strict=True):
            optimizer.zero_grad()
            cross_entropy(network(x), y).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
    for k, network in enumerate(networks):
        copy = made(model, DIGITS, 9).double()
        stacked.give(k, copy)
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(copy.state_dict()[name], tensor, rtol=1e-9, atol=1e-9)


def interrupting(at: int):
    asked = [0]

    def stop() -> bool:
        asked[0] += 1
        return asked[0] == at

    return stop


@pytest.mark.parametrize("entrant", ["vit", "cnn"])
def test_an_interrupted_cohort_goes_on_and_ends_as_an_undisturbed_one(entrant, of, places, tmp_path):
    mine = of(entrant)
    undisturbed = dict(train_together(mine, places=Places("other", tmp_path, tmp_path)))
    with pytest.raises(InterruptedCell):
        list(train_together(mine, places=places, stop=interrupting(9)))
    assert all((places.cell(cell.id) / "last.ckpt").exists() for cell in mine)
    for cell, record in train_together(mine, places=places):
        assert record.cost.resumed == 1
        assert (record.weights, record.curve, record.test) == (
            undisturbed[cell].weights,
            undisturbed[cell].curve,
            undisturbed[cell].test,
        )


@pytest.mark.parametrize("entrant", ["vit", "cnn"])
def test_a_cohorts_checkpoints_are_those_of_single_cells_and_the_other_way_round(entrant, of, places, tmp_path):
    mine = of(entrant)
    with pytest.raises(InterruptedCell):
        list(train_together(mine, places=places, stop=interrupting(9)))
    alone = train_cell(mine[0], places=places)  # goes on from what the cohort left
    others = dict(train_together(mine[1:], places=places))
    assert alone.cost.resumed == 1
    assert {record.cost.cohort for record in others.values()} == {3}
    with pytest.raises(InterruptedCell):
        train_cell(mine[1], places=places, stop=interrupting(9))
    mixed = dict(train_together(mine, places=places))  # one cell begins later than the other three
    assert [mixed[cell].cost.resumed for cell in mine] == [1, 2, 1, 1]
    assert [mixed[cell].cost.cohort for cell in mine] == [3, 1, 3, 3]
    for record in (alone, *others.values(), *mixed.values()):
        undisturbed = train_cell(record.cell, places=Places("other", tmp_path, tmp_path))
        losses = [[point.train_loss for point in one.curve] for one in (record, undisturbed)]
        assert losses[0] == pytest.approx(losses[1], rel={"vit": 1e-4, "cnn": 2e-3}[entrant])  # batch norm, float32


def test_a_single_cell_goes_on_with_moments_that_lie_in_memory_as_its_parameters_do(of, places):
    """Fused AdamW pairs numbers by their place in memory: a channels-last kernel's moments must be channels-last."""
    mine = of("cnn")
    with pytest.raises(InterruptedCell):
        list(train_together(mine, places=places, stop=interrupting(9)))
    left = CheckedIO().load_checkpoint(places.cell(mine[0].id) / "last.ckpt")
    (data,) = data_of(mine[:1], torch.device("cpu"), None)
    steps = []
    for layout in (torch.preserve_format, torch.contiguous_format):  # as it was left, and, to compare, anew
        own = module_of(mine[0], data, places)
        own.load_state_dict(left["state_dict"])
        optimizer = own.configure_optimizers()["optimizer"]
        optimizer.load_state_dict(copy.deepcopy(left["optimizer_states"][0]))  # a step changes it in place
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        before = [p.detach().clone() for p in parameters]
        for p in parameters:
            p.grad = torch.zeros_like(p)
            moments = optimizer.state[p]
            assert moments["exp_avg"].stride() == moments["exp_avg_sq"].stride() == p.stride()
            if layout is torch.contiguous_format:  # what torch computes where no layout can matter
                p.data, p.grad = p.data.contiguous(), p.grad.contiguous()
                moments |= {key: moments[key].contiguous() for key in ("exp_avg", "exp_avg_sq")}
        optimizer.step()
        steps.append([p.detach() - b for p, b in zip(parameters, before, strict=True)])
    assert any(p.ndim == 4 and not p.is_contiguous() for p in before)
    for one, other in zip(*steps, strict=True):
        torch.testing.assert_close(one, other)


def test_a_cell_whose_loss_is_no_number_leaves_the_others_alone(of, places):
    good, bad = of("vit"), of("vit", "entrants.vit.recipe.lr=1e30", "sizes=[50]", "seeds=1")
    expected = dict(train_together(good, places=Places("other", places.results, places.runs)))
    found = dict(train_together([*good[:2], *bad, *good[2:]], places=places))
    with pytest.raises(NotFiniteLoss) as alone:
        train_cell(bad[0], places=Places("alone", places.results, places.runs))
    error = found.pop(bad[0])
    assert isinstance(error, NotFiniteLoss)
    assert str(error) == str(alone.value)
    assert found.keys() == expected.keys()
    for cell, record in found.items():
        losses = [[point.train_loss for point in one.curve] for one in (record, expected[cell])]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_what_draws_in_its_forward_pass_is_not_stacked(of):
    assert why_alone(ViT(width=32, depth=2, heads=2), DIGITS) is None
    assert why_alone(CNN(), DIGITS) is None
    assert why_alone(Local(), DIGITS) is None
    assert "draws" in why_alone(ViT(width=32, depth=2, heads=2, drop_path=0.1), DIGITS)


def frozen(channels, image_size, classes):
    network = nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, 8), nn.ReLU(), nn.Linear(8, classes))
    network[1].requires_grad_(False)
    return network


def test_a_network_with_frozen_parameters_is_not_stacked_as_its_rows_would_be_trained():
    assert "frozen" in why_alone(Imported(model="import:test_cohort:frozen"), DIGITS)


def test_every_cell_of_a_cohort_has_its_own_run_in_wandb(of, places, monkeypatch, tmp_path):
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    mine = of("vit", "sizes=[50]", "budget.images_seen=128")
    records = dict(train_together(mine, places=places, tracking="offline"))
    for cell, record in records.items():
        said = inspect(next((places.run / "wandb").glob(f"offline-run-*-{cell.id}")))
        assert cell.title in said
        assert said.count("val/nll") >= len(record.curve) > 0
        assert f"{record.curve[-1].val_nll:g}"[:6] in said
        assert "test/acc" in said


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from vitcnn.matrix import cells
from vitcnn.records import Places
from vitcnn.study_file import load_study
from vitcnn.training import together

torch.set_num_threads(1)
folder = Path(sys.argv[1])
mine = cells(load_study(folder / "wide.yaml"))
list(together.train_together(mine[:1], places=Places("warm", folder, folder), device="cpu"))
together.replicas_that_fit = lambda cells, *_: len(cells)  # as if the first step had told nothing
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (250 << 20), -1))
records = dict(together.train_together(mine, places=Places("cut", folder, folder), device="cpu", say=print))
print(len(records), "records, cohorts of", {r.cost.cohort for r in records.values()})
"""


def test_a_cohort_that_runs_out_of_memory_is_cut_in_half_and_goes_on(tmp_path):
    """In a process of its own, whose memory the system limits."""
    (tmp_path / "wide.yaml").write_text(
        "dataset: digits\nsizes: [50]\nseeds: 4\nentrants: {vit: {width: 192}}\nbudget: {images_seen: 128}"
    )
    done = subprocess.run([sys.executable, "-c", LIMITED, tmp_path], capture_output=True, text=True, timeout=200)
    assert "4 vit cells ran out of memory; half of them at a time" in done.stdout, done.stderr[-2000:]
    assert "4 records, cohorts of {" in done.stdout, done.stderr[-2000:]


def test_jobs_hold_what_one_program_can_train_and_nothing_else(of, study):
    mine = of("vit") + of("cnn")
    longer = of("vit", "budget.images_seen=3200")
    start = of("vit", "sizes=[50]", "seeds=1")[0].model_copy(update={"start": mine[0].id})
    assert [len(job) for job in jobs([*mine, *longer, start], 32)] == [4, 4, 4, 1]
    assert [len(job) for job in jobs(mine, 3)] == [2, 2, 2, 2]
    assert [len(job) for job in jobs(mine, 1)] == [1] * 8
    assert [len(job) for job in jobs(mine, 32, alone={"cnn"})] == [4, 1, 1, 1, 1]
    assert [cell for job in jobs(mine, 3) for cell in job] == mine
    linear = cells(study("seeds=2"))
    assert all(len(job) == 1 for job in jobs(linear, 32) if job[0].model.model == "linear")

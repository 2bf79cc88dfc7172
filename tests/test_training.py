"""A cell, really trained, on small networks."""

import dataclasses
import importlib
import math

import pytest
import torch
from lightning.pytorch.utilities import rank_zero_only

from vitcnn.errors import ConfigError
from vitcnn.models.profile import profile
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import read_record, write_record
from vitcnn.study.cell import Cell
from vitcnn.study.matrix import cells
from vitcnn.training import train
from vitcnn.training.callback import InterruptedCell
from vitcnn.training.checkpoints import load_checkpoint
from vitcnn.training.device import caveat
from vitcnn.training.evaluate import record_of
from vitcnn.training.lane import Lane, NotFiniteLoss, schedule_at
from vitcnn.training.linear import train_linear
from vitcnn.training.networks import val_every
from vitcnn.training.train import data_of, train_cell, train_cells

TINY = """
dataset: digits
sizes: [50, 200]
seeds: 2
models:
  vit: {width: 32, depth: 2, heads: 2, drop_path: 0.5}
  swin: {width: 16, depths: [1, 1], heads: [1, 2]}
  cnn: {channels: [8, 16], blocks: [1, 1]}
  linear: {C: [0.01, 1.0, 100.0]}
budget: {images_seen: 640}
recipe: {batch_size: 32, augment: "shift:1", lr: 0.003}
"""


@pytest.fixture
def tiny(study):
    def pick(model: str, *overrides: str) -> Cell:
        return next(c for c in cells(study(*overrides, text=TINY)) if c.model == model)

    return pick


def interrupting(at: set[int]):
    """A `stop` that says yes at its `at`-th questions."""
    asked = [0]

    def stop() -> bool:
        asked[0] += 1
        return asked[0] in at

    return stop


@pytest.mark.parametrize("model", ["vit", "swin", "cnn"])
def test_a_cell_interrupted_twice_ends_as_an_undisturbed_one(model, tiny, paths, tmp_path):
    cell = tiny(model)
    undisturbed = train_cell(cell, paths=StudyPaths("other", tmp_path, tmp_path))
    stop = interrupting({3, 6})
    for _ in range(2):
        with pytest.raises(InterruptedCell):
            train_cell(cell, paths=paths, stop=stop)
        assert (paths.cell(cell.id) / "last.ckpt").exists()
    saved = load_checkpoint(paths.cell(cell.id) / "last.ckpt")["seconds"]
    resumed = train_cell(cell, paths=paths, stop=stop)
    assert resumed.cost.seconds > saved > 0
    assert (resumed.weights, resumed.curve, resumed.test) == (undisturbed.weights, undisturbed.curve, undisturbed.test)
    assert (undisturbed.cost.resumed, resumed.cost.resumed) == (0, 2)


@pytest.mark.parametrize(("images", "points"), [(640, 5), (20_000, 5), (100_000, 25), (10**7, 60)])
def test_the_points_of_a_curve_cost_little_of_the_training(images, points, tiny):
    cell = tiny("vit", f"budget.images_seen={images}")
    assert cell.steps // val_every(cell) == pytest.approx(points, abs=1)
    assert points * cell.validation / 3 < 0.03 * images or points == 5


@pytest.mark.parametrize("at", [1, 2, 3])
def test_no_validation_is_skipped_or_repeated_wherever_a_cell_is_interrupted(at, tiny, paths):
    cell = tiny("vit", "budget.images_seen=1280")  # 40 steps, a point of the curve every eighth
    with pytest.raises(InterruptedCell):
        train_cell(cell, paths=paths, stop=interrupting({at}))
    seen = [p.images_seen for p in train_cell(cell, paths=paths).curve]
    assert seen == [256 * i for i in range(1, 6)]


def test_a_record_says_what_was_done(tiny, paths):
    cell = tiny("vit")
    record = train_cell(cell, paths=paths)
    assert read_record(write_record(record, paths)) == record
    assert (record.cost.steps, record.cost.images_seen, record.cost.epochs) == (20, 640, 12.8)
    assert record.cost.seconds > 0
    assert record.test.correct().sum() == round(record.test.accuracy * 500)
    assert (record.test.images, record.validation.images, record.train.images) == (500, 297, 50)
    assert [p.images_seen for p in record.curve] == [128, 256, 384, 512, 640]
    assert record.input.tokens == 16
    assert record.input.native_pixels_per_token == 2
    assert record.made_by["torch"] == torch.__version__


def test_every_model_gets_the_same_images_and_another_seed_gets_others(study, paths):
    hashes = {}
    for cell in cells(study("sizes=[50]", "budget.images_seen=32", text=TINY)):
        hashes.setdefault(cell.seed, set()).add(train_cell(cell, paths=paths).subset)
    assert [len(h) for h in hashes.values()] == [1, 1]
    assert hashes[0] != hashes[1]


def test_training_again_gives_the_same_weights_and_another_seed_gives_others(tiny, paths):
    first, again = (train_cell(tiny("cnn"), paths=paths).weights for _ in range(2))
    other = train_cell(tiny("cnn", "seeds=[7]"), paths=paths).weights
    assert first == again != other


@pytest.mark.parametrize(("model", "lr"), [("vit", 0.003), ("cnn", 0.03)])
def test_a_network_can_learn_its_training_images_by_heart(model, lr, tiny, paths):
    still = ["recipe.augment=none", "models.vit.drop_path=0", f"recipe.lr={lr}"]
    cell = tiny(model, "budget.images_seen=6400", *still)
    record = train_cell(cell, paths=paths)
    assert record.train.accuracy > 0.95
    assert record.curve[-1].train_loss < record.curve[0].train_loss


def test_a_loss_that_is_no_number_stops_the_cell_with_step_and_learning_rate(tiny, paths):
    cell = tiny("vit", "recipe.lr=1e30")
    with pytest.raises(NotFiniteLoss, match=r"at step \d+ \(learning rate .*e\+"):
        train_cell(cell, paths=paths)


class HalfBlind(torch.nn.Module):
    """Learns, and is at a loss once it is tested."""

    def __init__(self, **_):
        super().__init__()
        self.head = torch.nn.Linear(64, 10)

    def forward(self, x):
        return self.head(x[..., :8, :8].flatten(1)) + (0 if self.training else torch.nan)


BLIND = """
dataset: digits
sizes: [50]
seeds: 2
models: {blind: {arch: "import:test_training:HalfBlind"}}
budget: {images_seen: 64}
recipe: {batch_size: 32}
"""


@pytest.mark.parametrize("curve", [True, False])
def test_a_loss_that_is_no_number_on_images_it_is_scored_on_stops_the_cell_too(curve, study, paths, monkeypatch):
    mine = cells(study(text=BLIND))
    if not curve:  # as where the last point was still good
        monkeypatch.setattr("vitcnn.training.module.CellsModule.on_validation_epoch_end", lambda _: None)
    with pytest.raises(NotFiniteLoss, match="validation loss is nan" if curve else "images is nan after training"):
        train_cell(mine[0], paths=paths)
    assert [type(error) for _, error in train_cells(mine, paths=paths)] == [NotFiniteLoss] * 2


@pytest.mark.parametrize(("step", "factor"), [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (55, 0.5), (100, 0.0)])
def test_the_learning_rate_rises_in_a_line_and_falls_in_a_cosine(step, factor):
    assert schedule_at(0.1, 100, step) == pytest.approx(factor)


def test_the_learning_rate_of_a_step_is_what_the_schedule_says(tiny, paths, monkeypatch):
    cell, seen = tiny("vit"), {}

    class Watched(Lane):
        def program(self):
            super().program()
            seen[self.step.item() - 1] = {group["lr"].item() for group in self.optimizer.param_groups}

    monkeypatch.setattr("vitcnn.training.networks.Lane", Watched)
    train_cell(cell, paths=paths)
    for step in range(cell.steps):
        (lr,) = seen[step]
        assert lr == pytest.approx(cell.recipe.lr * schedule_at(cell.recipe.warmup, cell.steps, step))


def test_of_a_schedulers_tasks_each_is_the_first_of_its_own_cell(monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)  # as Lightning has it from SLURM_PROCID
    importlib.reload(train)
    assert rank_zero_only.rank == 0


def test_a_schedulers_job_of_several_tasks_trains_cells_as_any_process(tiny, paths, monkeypatch):
    for key, value in {"NTASKS": "4", "JOB_NAME": "study", "JOB_ID": "1", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    assert train_cell(tiny("vit", "budget.images_seen=64"), paths=paths).cost.images_seen == 64


def test_bf16_is_another_cell_with_another_result(tiny, paths):
    full, half = tiny("vit"), tiny("vit", "recipe.precision=bf16")
    assert full.id != half.id
    assert train_cell(full, paths=paths).weights != train_cell(half, paths=paths).weights


@pytest.mark.parametrize("device", ["cuda:99", "abacus", "meta", "mps", "xpu"])
def test_a_device_that_is_not_there_is_an_error_that_says_so(device, tiny, paths):
    with pytest.raises(ConfigError, match=device):
        train_cell(tiny("vit"), paths=paths, device=device)


def test_devices_that_nobody_has_tried_are_said_to_be_so_and_train_in_float32():
    assert "untested" in caveat(torch.device("mps"), ["float32"])
    assert caveat(torch.device("cpu"), ["bf16"]) is None
    with pytest.raises(ConfigError, match="only float32 is supported, not bf16"):
        caveat(torch.device("xpu"), ["bf16"])


def test_a_device_that_lightning_does_not_know_gets_a_trainer(tiny, paths, monkeypatch):
    """A CPU under another name: what the loop of such a device is made of."""
    monkeypatch.setattr("vitcnn.training.networks.KNOWN", ())
    assert train_cell(tiny("vit", "budget.images_seen=64"), paths=paths).cost.images_seen == 64


def test_the_baseline_keeps_the_c_that_is_best_on_validation(tiny, paths):
    record = train_cell(tiny("linear", "sizes=[1000]"), paths=paths)
    trials = {t["C"]: t["val_accuracy"] for t in record.found["trials"]}
    assert set(trials) == {0.01, 1.0, 100.0}
    assert record.validation.accuracy == max(trials.values()) == trials[record.found["C"]]
    assert record.test.accuracy > 0.9  # logistic regression on the digits is no news
    assert record.test.correct().mean() == pytest.approx(record.test.accuracy)
    assert record.cost.images_seen == 0


def test_a_baseline_that_needs_more_memory_than_is_free_is_refused_with_what_to_change(tiny, paths, monkeypatch):
    monkeypatch.setattr("vitcnn.training.linear.BYTES", 10**9)  # a pixel: a terabyte in all
    with pytest.raises(ConfigError, match=r"on 50 images of 8×8 pixels needs .* GB are free; remove `linear`"):
        train_cell(tiny("linear"), paths=paths)


def test_a_baseline_on_a_subset_of_one_class_knows_that_class_alone(tiny, paths):
    """As stratified subsets of rare classes may be."""
    cell = tiny("linear")
    (data,) = data_of([cell], torch.device("cpu"), None)
    pixels, labels = data.train
    one = dataclasses.replace(data, train=(pixels, torch.full_like(labels, 3)))
    trained = train_linear(cell, one, paths, 1, lambda: False)
    record = record_of(cell, one, trained, profile(cell.arch, one.info), {})
    assert record.test.accuracy == pytest.approx((data.test[1] == 3).double().mean().item())
    assert record.train.accuracy == 1
    assert math.isfinite(record.test.nll)

"""A step of training is one program that a CUDA graph can hold. Proven on a CPU: the operations of one step, done again
and again on the same tensors, train as the program itself does; and on fake tensors of a GPU nothing is left behind on
the host."""

import random

import pytest
import torch
from building import RGB, lane_on, made
from recording import Waits, on_fake_cuda, recorded
from torch import nn

from vitcnn.data.augment.augmentation import Augmentation, mixed_loss
from vitcnn.data.augment.spec import write_out
from vitcnn.data.permutation import Permutation, order
from vitcnn.data.preprocess import Preprocess
from vitcnn.data.rng import states
from vitcnn.models.config import CNN, RNN, SASA, Hybrid, Mixer, Swin, ViT
from vitcnn.models.registry import Timm
from vitcnn.study.recipe import Recipe
from vitcnn.training.capture import _decides_in_python, _python_state, capture_all
from vitcnn.training.lane import Lane

STRONG = write_out("strong", 32, True)
SMALL = {"width": 16, "depth": 2}
ARCHS = {
    "vit": ViT(**SMALL, heads=2),
    "vit, drop path": ViT(**SMALL, heads=2, drop_path=0.5),
    "vit, additive": ViT(**SMALL, heads=2, score="additive", weights="relu"),
    "hybrid": Hybrid(**SMALL, heads=2),
    "mixer": Mixer(**SMALL),
    "rnn": RNN(**SMALL),
    "swin": Swin(width=16, depths=(1, 1), heads=(1, 2)),
    "sasa": SASA(),
    "cnn": CNN(channels=(8, 16), blocks=(1, 1)),
    "timm": Timm(name="timm/test_vit"),
    "timm resnet": Timm(name="timm/test_resnet"),
}


def pictures(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)


def lane_of(arch, how: str = STRONG, moved: bool = False, **recipe) -> Lane:
    network, images = made(arch, RGB), pictures(40)
    from vitcnn.models.build import image_size

    pixels = torch.from_numpy(order(32, Permutation(patches=1, pixels=1))) if moved else None
    seen = Preprocess.of(images, image_size(arch, RGB), pixels)
    recipe = Recipe(augment=how, batch_size=8, **recipe)
    return lane_on(network, images, seen, recipe, steps=6)


def weights_after(lane: Lane, program=None) -> dict[str, torch.Tensor]:
    lane.run = program or lane.run
    lane.advance(0, 6)
    return lane.checkpoint()


def assert_same(one: dict, other: dict) -> None:
    for key in ("network", "moments"):
        assert one[key].keys() == other[key].keys()
        for name, value in one[key].items():
            pairs = (
                zip(value.values(), other[key][name].values(), strict=True)
                if isinstance(value, dict)
                else [(value, other[key][name])]
            )
            assert all(torch.equal(a, b) for a, b in pairs), name
    assert [x.item() for x in one["loss"]] == [x.item() for x in other["loss"]]


@pytest.fixture
def dense(monkeypatch):
    """Augmentation in the form that it has on a GPU."""
    monkeypatch.setattr(Augmentation, "forward", Augmentation.dense)


NO_LSTM = [name for name in ARCHS if name != "rnn"]  # its kernels keep memory of their own from forward to backward


@pytest.mark.parametrize(
    ("name", "precision"),
    [*((name, "float32") for name in NO_LSTM), ("vit", "bf16"), ("cnn", "bf16"), ("swin", "bf16")],
)
def test_the_operations_of_one_step_done_again_train_as_the_program_does(name, precision, dense):
    lane = lane_of(ARCHS[name], precision=precision)
    lane.load(0, 6)
    replay = recorded(lane).replay
    again, undisturbed = weights_after(lane, replay), weights_after(lane_of(ARCHS[name], precision=precision))
    assert again["loss"][1] == 6
    assert_same(again, undisturbed)


@pytest.mark.parametrize(
    "how", ["none", "flip", "shift:4", "trivial", "erase:0.5", "mixup:0.8", "cutmix:1", "mixup:0.2+cutmix:1"]
)
def test_so_they_do_with_every_augmentation(how, dense):
    lane = lane_of(ARCHS["cnn"], how, moved=True)
    lane.load(0, 6)
    again = weights_after(lane, recorded(lane).replay)
    assert_same(again, weights_after(lane_of(ARCHS["cnn"], how, moved=True)))


def test_the_dense_form_of_augmentation_trains_as_the_grouped_one(monkeypatch):
    grouped = weights_after(lane_of(ARCHS["vit"]))
    monkeypatch.setattr(Augmentation, "forward", Augmentation.dense)
    assert_same(grouped, weights_after(lane_of(ARCHS["vit"])))


@pytest.mark.parametrize("name", NO_LSTM)
def test_a_forward_pass_on_a_gpu_needs_nothing_of_the_host(name):
    lane = lane_of(ARCHS[name])
    with on_fake_cuda(lane):
        rows = lane.feed.rows.index_select(0, lane.cursor)[0]
        images, labels = lane.feed.pool.index_select(0, rows), lane.feed.labels.index_select(0, lane.cursor)[0]
        params = lane.augmentation.sample_params(states(5, lane.step * 8 + lane.offsets))
        images = lane.augmentation(images, params)
        loss = mixed_loss(lane(images), labels, params, 0.1)
        assert images.device.type == loss.device.type == "cuda"
        assert (images.shape, images.dtype, loss.shape) == ((8, 3, 32, 32), torch.uint8, ())


def test_fake_tensors_of_a_gpu_find_what_is_left_on_the_host():
    lane = lane_of(ARCHS["vit"])
    with on_fake_cuda(lane):
        lane.network.positions = nn.Parameter(torch.empty(16, 16, device="cpu"))
        with pytest.raises(RuntimeError, match="device"):
            lane(lane.feed.pool)


class Asking(nn.Module):
    """Looks at a value, as a network of one's own may."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 10)

    def forward(self, x):
        x = x.mean((2, 3))
        return self.head(x) if x.sum() < 1e9 else self.head(-x)


def test_a_network_that_looks_at_a_value_is_found_out():
    lane = lane_on(Asking(), pictures(16), Preprocess.of(pictures(16), 32), Recipe(batch_size=8))
    lane.load(0, 1)
    with pytest.raises(Waits, match="_local_scalar_dense"):
        recorded(lane)


class Deciding(nn.Module):
    """Decides in Python, which a graph would repeat for ever."""

    def __init__(self, how: str):
        super().__init__()
        self.head, self.how, self.calls = nn.Linear(3, 10), how, 0

    def forward(self, x):
        if self.how == "counts":
            self.calls += 1
        return self.head(x.mean((2, 3))) * (random.random() if self.how == "draws" else 1)


@pytest.mark.parametrize(("how", "said"), [("counts", "calls"), ("draws", "random"), ("neither", None)])
def test_a_network_that_decides_in_python_is_found_out(how, said):
    lane = lane_on(Deciding(how), pictures(16), Preprocess.of(pictures(16), 32), Recipe(batch_size=8))
    lane.load(0, 1)
    before = _python_state(lane)
    lane.program()
    found = _decides_in_python(before, _python_state(lane))
    assert (found is None) if said is None else (said in found)


@pytest.mark.parametrize("name", ARCHS)
def test_our_networks_decide_nothing_in_python(name):
    lane = lane_of(ARCHS[name])
    lane.load(0, 1)
    before = _python_state(lane)
    lane.program()
    assert _decides_in_python(before, _python_state(lane)) is None


def test_on_a_cpu_nothing_is_captured():
    lane = lane_of(ARCHS["vit"])
    assert capture_all([lane]) == []
    assert (lane.run, lane.stream, lane.eager_reason) == (lane.program, None, None)


def test_every_parameter_group_has_the_one_learning_rate_that_a_step_sets():
    lane = lane_of(ARCHS["vit"])
    assert len(lane.optimizer.param_groups) == 2
    assert all(group["lr"] is lane.lr for group in lane.optimizer.param_groups)

"""Every rung of the ladder keeps one contract, refuses what does not come out whole, and is trained."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from building import RGB
from ladder import LADDER, RUNGS, every_data, every_rung, pictures, ready

from vitcnn.errors import ConfigError
from vitcnn.models.build import build, decay_groups
from vitcnn.models.config import RNN, SASA, Hybrid, Mixer, Swin, ViT, ViTWindow
from vitcnn.models.profile import profile
from vitcnn.store.paths import StudyPaths
from vitcnn.study.cell import Cell
from vitcnn.study.load import load_study
from vitcnn.study.matrix import cells
from vitcnn.training.callback import InterruptedCell
from vitcnn.training.train import train_cell


def test_these_are_the_rungs_of_the_ladder_study():
    study = load_study(Path(__file__).parents[1] / "configs/cifar10/ladder.yaml")
    assert [e.arch for e in study.models if e.arch.name != "linear"] == LADDER


# ---- the contract ----


@every_data
@every_rung
def test_an_image_has_finite_logits_whatever_is_in_the_batch_with_it_and_however_it_lies_in_memory(arch, data):
    network, images = ready(arch, data), pictures(arch, data).requires_grad_()
    logits = network(images)
    assert (logits.shape, logits.dtype) == ((3, data.classes), torch.float32)
    assert logits.isfinite().all()
    (influence,) = torch.autograd.grad(logits[1].square().sum(), images)
    assert influence[1].any()
    assert not influence[[0, 2]].any()
    with torch.no_grad():
        again = network(images)
        assert torch.equal(network(images), again)
        assert torch.allclose(again, logits, atol=1e-6)  # torch's LSTM rounds otherwise where gradients are kept
        assert torch.allclose(network(images[1:2]), logits[1:2], atol=1e-5)
        assert torch.allclose(network(images.to(memory_format=torch.channels_last)), logits, atol=1e-5)
    assert (logits[0] - logits[1]).abs().max() > 1e-3


@every_data
@pytest.mark.parametrize(
    "arch",
    [*RUNGS, ViT(score="additive", positions="sinusoidal-1d"), ViT(score="dot", weights="relu/n", positions="none")],
    ids=lambda m: f"{m.name}-{getattr(m, 'score', '')}",
)
def test_the_gradient_reaches_every_parameter(arch, data):
    network = ready(arch, data).train()
    F.cross_entropy(network(pictures(arch, data)), torch.tensor([0, 1, 2])).backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().max() > 0, name


@every_rung
def test_half_precision_is_near_full_precision_and_learns(arch, request):
    if arch.name == "rnn" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        why = "torch's LSTM under autocast asks oneDNN for what a CPU without AVX-512 does not have"
        request.applymarker(pytest.mark.xfail(raises=RuntimeError, reason=why))
    network, images = ready(arch), pictures(arch)
    full = network(images).detach()
    with torch.autocast("cpu", torch.bfloat16):
        half = network(images)
    assert half.dtype == torch.bfloat16
    assert 0 < (half - full).abs().max() < 0.1 * full.abs().max()
    half.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@every_rung
def test_training_may_follow_on_what_inference_has_computed(arch):
    network, images = ready(arch), pictures(arch)
    with torch.inference_mode():
        network(images)
    network(images).sum().backward()


@every_rung
def test_weights_are_the_seeds_and_travel_as_a_state_dict(arch):
    torch.manual_seed(1)
    first = build(arch, RGB)[0].state_dict()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    profile(arch, RGB)
    assert torch.equal(before, torch.get_rng_state())  # counting draws nothing
    again, other, images = build(arch, RGB)[0], ready(arch, seed=2), pictures(arch)
    assert all(torch.equal(tensor, first[name]) for name, tensor in again.state_dict().items())
    assert any(not torch.equal(tensor, first[name]) for name, tensor in other.state_dict().items())
    with torch.no_grad():
        wanted = again.eval()(images)
        assert not torch.equal(other(images), wanted)
        other.load_state_dict(first)
        assert torch.equal(other(images), wanted)


@every_rung
def test_every_parameter_is_in_one_group_and_those_of_one_dimension_do_not_decay(arch):
    network = ready(arch)
    decayed, spared = (group["params"] for group in decay_groups(network, 0.3))
    assert sorted(map(id, decayed + spared)) == sorted(map(id, network.parameters()))
    assert all(p.ndim > 1 for p in decayed)
    matrices = {id(p) for name, p in network.named_parameters() if p.ndim > 1 and ".weight" in name}
    assert matrices <= set(map(id, decayed))


@pytest.mark.parametrize("kind", [Mixer, RNN, ViT, ViTWindow, Hybrid, Swin], ids=lambda k: k.__name__)
def test_drop_path_draws_in_training_only(kind):
    network, images = ready(kind(drop_path=0.9)), pictures(kind(), count=8)
    with torch.no_grad():
        assert torch.equal(network(images), network(images))
        assert torch.equal(network(images), ready(kind())(images))
        assert not torch.equal(network.train()(images), network(images))


# ---- what does not come out whole ----


@pytest.mark.parametrize(
    ("arch", "said"),
    [
        (Mixer(image_size=72), "mixer: an image of 72 pixels cannot be cut into whole 16×16 tokens"),
        (RNN(image_size=72), "rnn: an image of 72 pixels cannot be cut into whole 16×16 tokens"),
        (RNN(image_size=32), "rnn: image_size 32 has fewer than 4×4 tokens of 16×16 pixels; set it to 64"),
        (RNN(width=97), "rnn: a width of 97 cannot be split into two directions"),
        (ViTWindow(heads=7), "vit-window: 7 heads do not divide a width of 96"),
        (Hybrid(patch_size=12), "hybrid: a convolutional stem halves the image until a token is one pixel: patch_size"),
        (Hybrid(patch_size=1), "patch_size 1 must be a power of two, and the width 96 divisible by half of it"),
        (Hybrid(width=90), "the width 90 divisible by half of it"),
        (Hybrid(heads=5), "hybrid: 5 heads do not divide a width of 96"),
        (SASA(head_width=32), "sasa: heads of 32 numbers do not divide 16 channels"),
        (SASA(blocks=(1, 1)), "sasa: 3 channels and 2 blocks: one of each per stage"),
    ],
    ids=lambda value: "" if isinstance(value, str) else value.name,
)
def test_what_does_not_come_out_whole_is_refused_with_a_sentence(arch, said):
    with pytest.raises(ConfigError) as caught:
        build(arch, RGB)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ("{vit: {score: scald}}", "models.vit.score: Input should be 'scaled', 'dot' or 'additive' (got 'scald')"),
        ("{vit: {weights: max}}", "models.vit.weights: Input should be 'softmax', 'relu' or 'relu/n' (got 'max')"),
        ("{hybrid: {positions: 2d}}", "'learned', 'sinusoidal', 'sinusoidal-1d' or 'none' (got '2d')"),
        ("{vit-window: {window: 4}}", "vit-window.window: a window needs a token in the middle, so an odd size, not 4"),
        ("{mine: {arch: vit-window, window: 0}}", "models.mine.window: Input should be greater than 0 (got 0)"),
        ("{sasa: {window: 2}}", "sasa.window: a window needs a token in the middle, so an odd size, not 2"),
        ("{rnn: {heads: 3}}", "unknown key 'heads' in models.rnn; known: depth, "),
        ("{vit: {window: 3}}", "unknown key 'window' in models.vit"),
        ("[mixr]", "unknown architecture 'mixr'; did you mean 'mixer'?"),
        ("{sassa: {}}", "unknown architecture 'sassa'; did you mean 'sasa'?"),
    ],
)
def test_a_wrong_option_in_a_study_is_refused_with_what_is_known(study, models, said):
    with pytest.raises(ConfigError) as caught:
        study(f"models={models}")
    assert said in str(caught.value)
    assert "small.yaml" in str(caught.value)


# ---- trained ----

TINY = """
dataset: digits
sizes: [50]
seeds: 1
models:
  mixer: {width: 16, depth: 2, patch_size: 4, drop_path: 0.5}
  rnn: {width: 16, depth: 2, patch_size: 4, drop_path: 0.5}
  vit-window: {width: 16, depth: 2, heads: 2, patch_size: 4}
  hybrid: {width: 16, depth: 1, heads: 2, patch_size: 4, score: additive, weights: relu/n, positions: sinusoidal-1d}
  sasa: {channels: [8, 8], blocks: [1, 1], head_width: 4, image_size: 16}
budget: {images_seen: 192}
recipe: {batch_size: 32, augment: "shift:1", lr: 0.003}
"""


def cell_of(study, model: str) -> Cell:
    return next(cell for cell in cells(study(text=TINY)) if cell.model == model)


@pytest.mark.parametrize("model", ["mixer", "rnn", "vit-window", "hybrid", "sasa"])
def test_a_rung_is_trained_and_ends_the_same_when_it_is_interrupted(model, study, tmp_path):
    cell = cell_of(study, model)
    undisturbed = train_cell(cell, paths=StudyPaths("whole", tmp_path, tmp_path))
    assert (undisturbed.cost.steps, undisturbed.cost.resumed) == (6, 0)
    assert math.isfinite(undisturbed.test.nll)
    assert undisturbed.curve[-1].train_loss != undisturbed.curve[0].train_loss
    paths, answers = StudyPaths("parts", tmp_path, tmp_path), iter([False, True, False])
    with pytest.raises(InterruptedCell):
        train_cell(cell, paths=paths, stop=lambda: next(answers))
    resumed = train_cell(cell, paths=paths, stop=lambda: next(answers))
    assert resumed.cost.resumed == 1
    assert (resumed.weights, resumed.curve, resumed.test) == (undisturbed.weights, undisturbed.curve, undisturbed.test)

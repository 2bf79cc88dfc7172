"""Which part of a weights file is used: what other programs save beside and around the weights."""

import collections
import pathlib
import re

import numpy as np
import pytest
import timm
import torch
from building import DIGITS, RGB, made, shaken
from timm_nets import STUDY, of
from torch import nn

from vitcnn.errors import ConfigError
from vitcnn.models.build import build
from vitcnn.models.profile import profile


@pytest.fixture(scope="module")
def plain() -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    return shaken(timm.create_model("test_vit")).state_dict()


def other(state):
    return {key: value + 1 for key, value in state.items()}


def under(prefix: str, state):
    return {prefix + key: value for key, value in state.items()}


class Settings(dict):
    """A class that is not here where the file is read."""


WRAPPED = {  # what stands in the file, and what is said to be used
    "plain": (lambda s: s, ""),
    "Lightning": (
        lambda s: {"state_dict": under("model.", s) | {"loss.weight": torch.ones(3)}, "epoch": 3},
        "`state_dict`, names without `model.`",
    ),
    "a recipe of torch's": (
        lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {0: {"exp_avg": s["norm.bias"]}}}},
        "`model_state_dict`",
    ),
    "net": (lambda s: {"net": under("module.", s), "acc": 95.1}, "`net`, names without `module.`"),
    "compiled": (lambda s: under("_orig_mod.", s), "names without `_orig_mod.`"),
    "EMA beside": (lambda s: {"model": other(s), "ema": s}, "`ema`"),
    "EMA beside, as timm": (lambda s: {"state_dict": other(s), "state_dict_ema": s}, "`state_dict_ema`"),
    "EMA in a wrapper": (
        lambda s: {"model": other(s), "model_ema": {"decay": 0.9, "module": s}},
        "`module` of `model_ema`",
    ),
    "EMA in one dictionary": (
        lambda s: {"state_dict": under("model.", other(s)) | under("ema.module.", s)},
        "`state_dict`, names without `ema.module.`",
    ),
    "EMA of some": (lambda s: {"model": s, "ema": {"norm.bias": s["norm.bias"] + 1}}, "`model`"),
    "two deep": (lambda s: {"checkpoint": {"model": under("backbone.", s)}}, None),
    "NumPy": (lambda s: {"model": s, "best": np.float64(0.9), "curve": np.arange(3.0)}, "`model`"),
    "classes": (
        lambda s: {"model": s, "args": Settings(lr=1), "to": pathlib.Path("x"), "by": collections.defaultdict(list)},
        "`model`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRAPPED)
def test_weights_are_found_in_their_wrapper_and_it_is_said_which(kind, plain, tmp_path):
    wrap, said = WRAPPED[kind]
    torch.save(wrap(plain), tmp_path / "net.pth")
    network = made(of("test_vit", weights=str(tmp_path / "net.pth"), image_size=160))
    for key, value in network.state_dict().items():
        assert key.startswith("head.") or torch.equal(value, plain[key]), key
    assert network.weights_from == ("`model` of `checkpoint`, names without `backbone.`" if said is None else said)
    assert "state_dict" not in network.pretrained_cfg


def test_names_that_timm_has_changed_are_still_timms_to_change(tmp_path):
    torch.manual_seed(7)
    source = timm.create_model("resnetv2_50", num_classes=10).state_dict()
    assert torch.equal(
        made(of("resnetv2_50", weights=str(saved(tmp_path, source)), image_size=64)).state_dict()["stem.conv.weight"],
        source["stem.conv.weight"],
    )


def saved(folder: pathlib.Path, content) -> pathlib.Path:
    torch.save(content, folder / "net.pth")
    return folder / "net.pth"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (nn.Linear(2, 2), "no dictionary of tensors in it, but torch.nn.modules.linear.Linear; save the network's"),
        ({"epoch": 1}, "no dictionary of tensors in it, but dict; save the network's state_dict()"),
        ({"best": np.float64(1)}, "no dictionary of tensors in it, but numpy._core.multiarray.scalar, numpy.dtype; "),
    ],
)  # fmt: skip
def test_a_file_without_a_dictionary_of_tensors_is_told_what_it_holds(content, said, tmp_path):
    file = saved(tmp_path, content)
    with pytest.raises(ConfigError, match=re.escape(f"timm/test_vit: no weights from {file}: {said}")):
        build(of("test_vit", weights=str(file)), DIGITS)


def test_plan_says_which_part_is_used(vitcnn, study, plain, tmp_path):
    saved(tmp_path, {"model_state_dict": under("model.", plain)})
    study(text=STUDY.replace("arch: timm/test_vit", "arch: timm/test_vit, weights: net.pth, image_size: 32"))
    code, out, err = vitcnn("plan", "small.yaml")
    assert (code, err) == (0, "")
    assert "net: weights from net.pth: `model_state_dict`, names without `model.`\n" in out


# ---- names ----


def test_an_old_name_of_timms_is_the_current_one_or_refused_with_it(tmp_path):
    current = timm.create_model("tf_efficientnet_b0.ns_jft_in1k")
    file = str(saved(tmp_path, shaken(current).state_dict()))
    arch = of("tf_efficientnet_b0_ns", weights=file)
    assert (
        profile(arch, RGB).input.image_size == timm.get_pretrained_cfg("tf_efficientnet_b0.ns_jft_in1k").input_size[-1]
    )
    assert torch.equal(made(arch).state_dict()["conv_stem.weight"], current.state_dict()["conv_stem.weight"])
    with pytest.raises(
        ConfigError,
        match=r"has no weights 'sam' of vit_base_patch32_224, the current name of 'vit_base_patch32_224_sam'",
    ):
        build(of("vit_base_patch32_224_sam", pretrained=True), DIGITS)
    with pytest.raises(ConfigError, match=r"'tf_efficientnet_b0_ns' is now called 'tf_efficientnet_b0.ns_jft_in1k'"):
        build(of("tf_efficientnet_b0_ns.x"), DIGITS)

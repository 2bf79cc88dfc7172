"""Networks of one's own are tried, and trained, in processes of their own: what their code does there, ends there."""

import sys

import pytest
import torch
from building import DIGITS, IMPORTED_STUDY

from vitcnn.errors import ConfigError
from vitcnn.launch.check import check
from vitcnn.launch.scheduler import run_jobs
from vitcnn.launch.worker import Options
from vitcnn.models.profile import profile, profile_apart
from vitcnn.models.registry import Imported
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import read_record
from vitcnn.study.matrix import cells

OPTIONS = Options(device="cpu", tracking="off")
NETS = """
import ctypes, functools, os, signal, sys, time
import torch
from torch import nn


class Other(BaseException):
    pass


class Mine(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def other(**_):
    raise Other("not an Exception")


def interrupted(**_):
    raise KeyboardInterrupt


def leaves(**_):
    os._exit(0)


def crashes(**_):
    ctypes.string_at(0)


def killed(**_):
    os.kill(os.getpid(), signal.SIGKILL)


def stays(**_):
    time.sleep(1000)


def build(image_size, channels, classes, width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, classes))


def changes(**given):
    nn.init.xavier_uniform_ = nn.init.kaiming_normal_ = lambda tensor, *_, **__: nn.init.zeros_(tensor)
    torch.set_float32_matmul_precision("medium")
    return build(**given)


@functools.cache
def cached(**given):
    return build(**given)


LAYER, NORM = nn.Linear(64, 64), nn.BatchNorm1d(64, affine=False)


def layer(classes, **_):
    return nn.Sequential(nn.Flatten(), LAYER, nn.Linear(64, classes))


def norm(classes, **_):
    return nn.Sequential(nn.Flatten(), NORM, nn.Linear(64, classes))


def tied(classes, **_):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, classes))
    net[2].weight = net[1].weight
    return net


class Late(nn.Linear):
    def forward(self, x):
        if self.training and len(x) > 2:  # not in the step that is tried
            raise Mine("late", 2)
        return super().forward(x.flatten(1))


def late(image_size, channels, classes, **_):
    return Late(channels * image_size**2, classes)
"""


def mine(name: str) -> Imported:
    return Imported(name=f"import:nets:{name}")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("other", "Other: not an Exception (nets.py, line 17)"),
        ("interrupted", "KeyboardInterrupt"),
        ("leaves", "its process ended with exit code 0"),
        ("crashes", "its process ended with exit code -11 (SIGSEGV)"),
        ("killed", "its process ended with exit code -9 (SIGKILL)"),
    ],
)
def test_a_network_that_ends_the_process_that_tries_it_is_refused_with_a_sentence(own, study, name, said):
    own()
    loaded = study(f"models={{mine: {{arch: 'import:nets:{name}'}}, linear: {{}}}}", text=IMPORTED_STUDY)
    with pytest.raises(ConfigError) as caught:
        check(loaded, DIGITS, [], "cpu")
    assert str(caught.value) == f"import:nets:{name}: {said}"


def test_a_network_that_does_not_come_is_not_waited_for(own):
    own()
    with pytest.raises(ConfigError, match=r"import:nets:stays: not built and tried within 2 seconds"):
        profile_apart(mine("stays"), DIGITS, seconds=2)


def test_what_a_network_changes_in_torch_reaches_neither_the_launcher_nor_another_cell(own, study, tmp_path):
    own()
    both = "{mine: {arch: 'import:nets:changes'}, vit: {width: 16, depth: 1, heads: 1}}"
    weights = []
    for models in (both, "{vit: {width: 16, depth: 1, heads: 1}}"):
        loaded = study(f"models={models}", text=IMPORTED_STUDY)
        check(loaded, DIGITS, [], "cpu")
        paths = StudyPaths(f"{len(models)}", tmp_path / "results", tmp_path / "runs")
        every = cells(loaded)
        outcome = run_jobs([(cell,) for cell in every], paths, OPTIONS, 1)
        assert (len(outcome.done), outcome.failed) == (len(every), {})
        weights.append(read_record(paths.record(every[-1].id)).weights)
    assert weights[0] == weights[1]
    assert torch.get_float32_matmul_precision() == "highest"
    assert "nets" not in sys.modules


def test_an_error_that_cannot_be_sent_fails_its_cell_alone(own, study, paths):
    own()
    every = cells(study("models={mine: {arch: 'import:nets:late'}, linear: {C: [1.0]}}", text=IMPORTED_STUDY))
    outcome = run_jobs([(cell,) for cell in every], paths, OPTIONS, 1)
    assert [cell.model for cell in outcome.done] == ["linear"]
    assert ["Mine: late (details in" in line for line in outcome.failed.values()] == [True]


@pytest.mark.parametrize("name", ["cached", "layer", "norm"])
def test_a_network_that_shares_weights_with_the_next_one_is_refused(own, name):
    """What one cell learns would reach the next."""
    own()
    with pytest.raises(ConfigError, match=f"import:nets:{name}: two calls return networks that share weights"):
        profile(mine(name), DIGITS)


def test_weights_that_a_network_shares_with_itself_are_its_own(own):
    own()
    assert profile(mine("tied"), DIGITS).parameters == 64 * 64 + 2 * 64 + 650

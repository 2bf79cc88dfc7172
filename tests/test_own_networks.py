"""Networks of one's own as people bring them: what is trained is what was meant, or is refused before it begins."""

import importlib
import importlib.machinery
import sys

import pytest
import torch
from torch import nn

from vitcnn.data.sources.registry import parse_dataset
from vitcnn.errors import ConfigError
from vitcnn.models.build import build, decayed, memory_layout
from vitcnn.models.profile import profile
from vitcnn.models.registry import Imported, Timm
from vitcnn.source_hash import code_hash, sources
from vitcnn.store.paths import StudyPaths
from vitcnn.study.matrix import cells
from vitcnn.training.train import train_cell
from vitcnn.training.weights import weights_hash

DIGITS = parse_dataset("digits").info
STUDY = """
dataset: digits
sizes: [50]
seeds: 1
validation: 50
models: {mine: {arch: "import:nets:build"}}
budget: {images_seen: 48}
recipe: {batch_size: 16}
"""
NETS = """
import torch
from torch import nn


def build(image_size, channels, classes, name="plain"):
    inputs = channels * image_size**2
    return globals()[name](inputs, classes)


def plain(inputs, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, classes))


def in_eval(inputs, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 8), nn.BatchNorm1d(8), nn.Linear(8, classes)).eval()


class Viewing(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(64, classes)

    def forward(self, x):
        return self.fc(self.b(self.a(x)).view(-1, 64))


def viewing(inputs, classes):
    return Viewing(classes)


def brain_float(inputs, classes):
    net = plain(inputs, classes)
    net.register_buffer("small", torch.ones(3, dtype=torch.bfloat16))
    return net


class Extra(nn.Linear):
    def get_extra_state(self):
        return {"seen": 3}

    def set_extra_state(self, state):
        pass


def extra(inputs, classes):
    return nn.Sequential(nn.Flatten(), Extra(inputs, classes))


def lazy(inputs, classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))


def frozen(inputs, classes):
    return plain(inputs, classes).requires_grad_(False)


class Two(nn.Module):
    def __init__(self, inputs, classes, how):
        super().__init__()
        self.net, self.how = plain(inputs, classes), how

    def forward(self, x):
        out = self.net(x)
        if not self.training:
            return out
        return {"tuple": (out, out), "row": out[:1], "more": torch.cat([out, out[:, :1]], 1)}[self.how]


def of_two(inputs, classes):
    return Two(inputs, classes, "tuple")


def one_row(inputs, classes):
    return Two(inputs, classes, "row")


def one_more(inputs, classes):
    return Two(inputs, classes, "more")


def no_decay_set(inputs, classes):
    net = plain(inputs, classes)
    net.no_weight_decay = {"1.weight"}
    return net
"""


def mine(name: str) -> Imported:
    return Imported(name="import:nets:build", options={"name": name})


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lazy", "its lazy layers have no weights yet; run it on an image before returning it"),
        ("frozen", "no parameter is trainable"),
        ("of_two", r"the output for two images in training is tuple, not logits of shape \(2, 10\)"),
        ("one_row", r"the output for two images in training is \(1, 10\), not logits of shape \(2, 10\)"),
        ("one_more", r"the output for two images in training is \(2, 11\), not logits of shape \(2, 10\)"),
    ],
)
def test_what_would_fail_in_training_is_refused_before(own, name, says):
    own()
    with pytest.raises(ConfigError, match=says):
        profile(mine(name), DIGITS)


@pytest.mark.parametrize("name", ["viewing", "brain_float", "extra", "in_eval"])
def test_what_people_bring_is_trained_and_recorded(own, study, tmp_path, name):
    own()
    (cell,) = cells(study(f"models.mine.options={{name: {name}}}", text=STUDY))
    record = train_cell(cell, paths=StudyPaths("small", tmp_path, tmp_path), device="cpu", keep=True)
    kept = torch.load(StudyPaths("small", tmp_path, tmp_path).weights(cell.id), weights_only=True)
    assert weights_hash(kept) == record.weights


def test_what_a_network_names_in_no_weight_decay_is_spared_it_be_that_a_set_or_a_method(own):
    own()
    network, _ = build(mine("no_decay_set"), DIGITS)
    assert [list(part) for part in decayed(network)] == [[], ["1.weight", "1.bias"]]
    names = network.no_weight_decay
    network.no_weight_decay = lambda: names
    assert [list(part) for part in decayed(network)] == [[], ["1.weight", "1.bias"]]


def test_a_network_that_comes_in_evaluation_mode_is_trained_in_training_mode(own, study, tmp_path):
    own()
    (cell,) = cells(study("models.mine.options={name: in_eval}", text=STUDY))
    paths = StudyPaths("small", tmp_path, tmp_path)
    train_cell(cell, paths=paths, device="cpu", keep=True)
    assert torch.load(paths.weights(cell.id), weights_only=True)["2.num_batches_tracked"] == cell.steps


def test_images_lie_as_they_always_did_for_anothers_network_and_channels_last_for_our_cnn(own):
    own()
    assert memory_layout(build(mine("viewing"), DIGITS)[0]) == torch.contiguous_format
    convolutions = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3))
    assert memory_layout(convolutions) == torch.contiguous_format
    assert memory_layout(build(Timm(name="timm/test_resnet"), DIGITS)[0]) == torch.channels_last


def test_the_hash_of_weights_is_that_of_their_bytes_whatever_their_kind():
    kinds = [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.complex64]
    for dtype in kinds:
        one = {"a": torch.ones(2, 3).to(dtype), "scalar": torch.tensor(1).to(dtype)}
        other = one | {"a": torch.tensor([[1.0, 1, 1], [1, 1, 0]]).to(dtype)}
        assert weights_hash(one) == weights_hash({k: v.clone() for k, v in one.items()})
        assert weights_hash(one) != weights_hash(other)
    assert weights_hash({"x": {"seen": 3}}) != weights_hash({"x": {"seen": 4}})


# ---- whose code it is ----


def test_code_beside_the_module_counts_as_its_own(own):
    own("from lab.net import build\n", "lab/__init__.py")
    file = own("import tools\nfrom .deep import layer\n" + NETS, "lab/net.py")
    deep, tools = own("layer = 1\n", "lab/deep.py"), own("x = 1\n", "tools.py")
    own("x = 1\n", "unrelated.py")
    assert {path.name for path in sources("lab").values()} == {"__init__.py", "net.py", "deep.py", "tools.py"}
    seen = {code_hash(sources("lab"))}
    for path in (file, deep, tools):
        path.write_text(path.read_text() + "\n# changed\n")
        seen.add(code_hash(sources("lab")))
    assert len(seen) == 4


def test_a_network_whose_package_has_changed_is_another_cell_and_is_built_anew(own, study):
    own("from lab.net import build\n", "lab/__init__.py")
    net = own(NETS, "lab/net.py")
    text = STUDY.replace("nets:build", "lab:build")
    (before,) = cells(study(text=text))
    assert profile(before.arch, DIGITS).parameters == 650
    net.write_text(NETS.replace('name="plain"', 'name="in_eval"'))
    importlib.invalidate_caches()
    (after,) = cells(study(text=text))
    assert after.id != before.id
    assert profile(after.arch, DIGITS).parameters == 64 * 8 + 8 + 16 + 80 + 10
    with pytest.raises(ConfigError, match="its code has changed since the study was started"):
        build(before.arch, DIGITS)


def test_a_package_that_only_another_finder_knows_is_found_and_not_run(own, monkeypatch):
    """As setuptools' of what is installed to be edited."""
    own("raise RuntimeError('run')\n", "elsewhere/edited/__init__.py")
    file = own(NETS, "elsewhere/edited/net.py")

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "edited":
                return importlib.machinery.PathFinder.find_spec(name, [str(file.parents[1])])
            return None

    with pytest.raises(ValueError, match=r"no module 'edited\.net' on Python's path"):
        sources("edited.net")
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert sources("edited.net")["edited.net"] == file


def test_a_module_of_one_file_keeps_the_hash_that_its_records_have(own):
    import hashlib

    file = own("import torch\nimport numpy as np\n\ndef build(**_): ...\n")
    assert code_hash(sources("nets")) == hashlib.sha256(file.read_bytes()).hexdigest()
    assert list(sources("torch.nn")) == ["torch.nn"]  # an installed package's


@pytest.mark.parametrize("name", ["mixer_s32_224", "resmlp_12_224"])
def test_timms_mixers_see_whole_tokens_or_are_refused(name):
    with pytest.raises(ConfigError, match=r"cannot be cut into whole .* tokens; try image_size: "):
        profile(Timm(name=f"timm/{name}", image_size=40), DIGITS)

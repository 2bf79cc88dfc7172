"""A network of one's own: called as promised, named by its content, and run by no one who only reads a study."""

import sys

import pytest
import torch
from building import DIGITS, FASHION, IMPORTED_STUDY

from vitcnn.errors import ConfigError
from vitcnn.launch.scheduler import run_jobs
from vitcnn.launch.worker import Options
from vitcnn.models.build import build
from vitcnn.models.profile import profile
from vitcnn.models.registry import Imported
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import read_record
from vitcnn.study.cell import Cell
from vitcnn.study.matrix import cells
from vitcnn.training.train import train_cell
from vitcnn.training.weights import weights_hash

NETS = """
from torch import nn

seen = []


def build(**given):
    seen.append(given)
    inputs, width = given["channels"] * given["image_size"] ** 2, given.get("width", 3)
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, given["classes"]))


"""


# ---- what works ----


@pytest.mark.parametrize(
    ("data", "arch", "given"),
    [
        (DIGITS, {}, {"image_size": 8, "channels": 1, "classes": 10}),
        (FASHION, {"options": {"width": 5}}, {"image_size": 28, "channels": 1, "classes": 10, "width": 5}),
        (FASHION.model_copy(update={"channels": 3, "classes": 7}), {"image_size": 16},
         {"image_size": 16, "channels": 3, "classes": 7}),
    ],
)  # fmt: skip
def test_the_function_is_called_with_what_the_data_and_the_options_say_and_its_network_taken(own, data, arch, given):
    own()
    network, size = build(Imported(name="import:nets:build", **arch), data)
    assert sys.modules["nets"].seen == [given]
    assert size == given["image_size"]
    assert network(torch.zeros(2, data.channels, size, size)).shape == (2, data.classes)


def test_a_module_in_a_package_is_found_beside_the_study(own, study):
    own("")  # nets.py, which is not meant
    own("", "lab/__init__.py")
    own("", "lab/deep/__init__.py")
    own(NETS, "lab/deep/nets.py")
    (cell,) = cells(study("models={mine: {arch: 'import:lab.deep.nets:build'}}", text=IMPORTED_STUDY))
    counted = profile(cell.arch, DIGITS)
    assert (counted.parameters, counted.macs) == (64 * 3 + 3 + 3 * 10 + 10, 64 * 3 + 3 * 10)
    assert (counted.input.image_size, counted.input.tokens) == (8, None)


def test_its_weights_are_its_own_affair_whatever_the_recipe_says(own):
    own(NETS + "\n\ndef ones(**given):\n    net = build(**given)\n    nn.init.ones_(net[1].weight)\n    return net\n")
    for init in ("xavier", "normal"):
        assert torch.equal(build(Imported(name="import:nets:ones"), DIGITS, init)[0][1].weight, torch.ones(3, 64))


def test_the_seed_decides_what_it_draws(own):
    own()
    hashes = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        hashes.append(weights_hash(build(Imported(name="import:nets:build"), DIGITS)[0].state_dict()))
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_module_edited_while_a_cell_is_trained_costs_no_record(own, one_cell, tmp_path):
    path = own()
    cell = one_cell(IMPORTED_STUDY)

    def edited() -> bool:
        path.write_text(NETS + "\n# another thought\n")
        return False

    record = train_cell(cell, paths=StudyPaths("own", tmp_path / "results", tmp_path / "runs"), stop=edited)
    assert record.cost.parameters == 64 * 4 + 4 + 4 * 10 + 10


def test_a_cell_is_trained_in_a_worker_process_as_in_this_one(own, one_cell, tmp_path):
    own()
    cell, paths = one_cell(IMPORTED_STUDY), StudyPaths("own", tmp_path / "results", tmp_path / "runs")
    outcome = run_jobs([(cell,)], paths, Options(device="cpu", tracking="off"), workers=1)
    assert (outcome.done, outcome.failed) == ([cell], {})
    assert "nets" not in sys.modules  # it was built there
    record = read_record(paths.record(cell.id))
    assert (record.cost.steps, record.cost.parameters) == (3, 64 * 4 + 4 + 4 * 10 + 10)
    assert record.weights == train_cell(cell, paths=StudyPaths("other", tmp_path, tmp_path)).weights


# ---- its id ----


def test_the_id_of_a_cell_changes_with_the_modules_text_and_with_the_options(own, one_cell):
    own()
    before = one_cell(IMPORTED_STUDY).id
    assert one_cell(IMPORTED_STUDY).id == before
    assert one_cell(IMPORTED_STUDY, "models.mine.options.width=5").id != before
    assert one_cell(IMPORTED_STUDY, "models.mine.arch='import:nets:other'").id != before
    own("", "bystander.py")
    assert one_cell(IMPORTED_STUDY).id == before
    own(NETS + "# other\n")
    assert one_cell(IMPORTED_STUDY).id != before


def test_the_id_of_a_cell_does_not_change_with_the_folder_that_the_module_lies_in(own, one_cell, tmp_path, monkeypatch):
    own(path="here/nets.py")
    own(path="there/nets.py")
    ids = set()
    for folder in ("here", "there"):
        monkeypatch.chdir(tmp_path / folder)
        ids.add(one_cell(IMPORTED_STUDY).id)
    assert len(ids) == 1


def test_a_cell_is_read_back_where_its_module_is_gone(own, one_cell):
    file = own()
    cell = one_cell(IMPORTED_STUDY)
    file.unlink()
    assert Cell.model_validate_json(cell.model_dump_json()) == cell


# ---- nothing is run where a study is only read ----


def test_reading_a_study_runs_neither_the_module_nor_its_package(own, study):
    own("raise RuntimeError('the package was run')", "lab/__init__.py")
    own("raise RuntimeError('the module was run')", "lab/nets.py")
    own("raise RuntimeError('boom')")
    loaded = study("models={a: {arch: 'import:lab.nets:build'}, b: {arch: 'import:nets:build'}}", text=IMPORTED_STUDY)
    assert len({cell.id for cell in cells(loaded)}) == 2
    assert not {"lab", "lab.nets", "nets"} & sys.modules.keys()
    with pytest.raises(ConfigError, match=r"import:lab\.nets:build: RuntimeError: the package was run"):
        profile(loaded.models[0].arch, DIGITS)
    with pytest.raises(ConfigError, match="import:nets:build: RuntimeError: boom"):
        profile(loaded.models[1].arch, DIGITS)


# ---- whose code is it ----


def test_code_that_was_changed_in_a_living_process_is_run_again(own):
    file = own()
    assert build(Imported(name="import:nets:build"), DIGITS)[0][1].out_features == 3
    file.write_text(NETS.replace('"width", 3', '"width", 77'))
    assert build(Imported(name="import:nets:build"), DIGITS)[0][1].out_features == 77


def test_a_module_that_python_finds_elsewhere_first_is_refused(own, tmp_path, monkeypatch):
    own()
    own(NETS.replace('"width", 3', '"width", 5'), "elsewhere/nets.py")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    with pytest.raises(ConfigError, match=r"elsewhere/nets.py comes before .*nets.py"):
        build(Imported(name="import:nets:build"), DIGITS)


RECURRENT = """
from torch import nn


class Read(nn.Module):
    def __init__(self, kind, classes):
        super().__init__()
        self.read, self.head = getattr(nn, kind)(16, 16, batch_first=True), nn.Linear(16, classes, bias=False)

    def forward(self, x):
        return self.head(self.read(x.reshape(len(x), 4, 16))[0][:, -1])


def build(kind, classes, **_):
    return Read(kind, classes)
"""


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_every_recurrent_layer_is_counted_once(kind, gates, own):
    own(RECURRENT)
    counted = profile(Imported(name="import:nets:build", options={"kind": kind}), DIGITS)
    assert counted.macs == 4 * gates * 2 * 16 * 16 + 160

"""What strangers' folders and files may hold: it is refused with a sentence, and does not run."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from building import DIGITS, IMPORTED_STUDY
from synthetic import make_study

from vitcnn.errors import ConfigError
from vitcnn.models.profile import profile
from vitcnn.models.registry import Timm
from vitcnn.store.records import read_records
from vitcnn.study.load import load_study
from vitcnn.study.matrix import cells

MARKING = "import pathlib, sys\n\npathlib.Path(__file__).with_suffix('.ran').touch()\nsys.exit('ran')\n"
STUDY = """
dataset: digits
sizes: [50]
seeds: 1
models: {linear: {C: [1.0]}}
budget: {images_seen: 64}
"""


def program(tmp_path: Path, *words: str) -> subprocess.CompletedProcess:
    """The installed command, in the current folder `here`."""
    script = tmp_path / "bin" / "program"
    script.parent.mkdir(exist_ok=True)
    script.write_text("from vitcnn.cli import main\n\nif __name__ == '__main__':\n    main()\n")
    call = [sys.executable, script, *words]
    return subprocess.run(
        call, cwd=tmp_path / "here", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
    )


def test_a_file_of_the_current_folder_is_not_run_in_place_of_a_library(tmp_path):
    here = tmp_path / "here"
    (here / "runs" / "small" / "wandb").mkdir(parents=True)
    (here / "small.yaml").write_text(STUDY)
    for name in ("wandb", "timm", "multiprocessing"):
        (here / f"{name}.py").write_text(MARKING)
    done = program(tmp_path, "run", "small.yaml", "--device", "cpu", "--wandb", "off")
    assert done.returncode == 0, done.stderr
    program(tmp_path, "curves", "small.yaml")  # without a terminal it ends at once
    assert not list(here.glob("*.ran"))


@pytest.fixture(params=["pipe", "/dev/zero"])
def endless(request, tmp_path) -> Path:
    """A file whose reading does not end."""
    path = tmp_path / "endless"
    os.mkfifo(path) if request.param == "pipe" else path.symlink_to(request.param)
    return path


def test_a_pipe_or_a_device_is_neither_a_study_nor_weights_nor_a_record(endless, tmp_path):
    with pytest.raises(ConfigError, match="endless: not a regular file; expected a YAML file"):
        load_study(endless)
    with pytest.raises(ConfigError, match="endless: not a regular file"):
        make_study(tmp_path, "recipes=endless")
    with pytest.raises(ValueError, match=r"weights: .*endless: not a regular file"):
        Timm(name="timm/test_vit", weights=str(endless))
    (tmp_path / "records").mkdir()
    endless.rename(tmp_path / "records" / "x.json")
    assert ["not a regular file" in line for line in read_records(tmp_path / "records")[1]] == [True]


# ---- whose code a study may run ----

NETS = """
from torch import nn
from torch.hub import load


def build(image_size, channels, classes, width=3):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, classes))
"""
HUBCONF = """
import pathlib

pathlib.Path(__file__).with_name("ran").touch()
from nets import build
"""


@pytest.fixture
def hub(own, tmp_path):
    """`hub(name)`: a study whose `import:name` loads a folder that lies there, as torch.hub does."""
    own(NETS, "hub/nets.py")
    own(HUBCONF, "hub/hubconf.py")
    own(NETS)

    def write(name: str) -> Path:
        options = f"{{repo_or_dir: {tmp_path}/hub, source: local, model: build}}"
        file = tmp_path / "hub.yaml"
        file.write_text(IMPORTED_STUDY.replace("nets:build", name).replace("{width: 4}", options))
        return file

    return write


@pytest.mark.parametrize(("name", "home"), [("torch.hub:load", "torch.hub"), ("nets:load", "torch.hub")])
def test_a_study_alone_runs_no_code(hub, name, home, vitcnn, tmp_path):
    """`torch.hub.load` runs the `hubconf.py` of the folder that it is given."""
    file = hub(name)
    code, _, err = vitcnn("plan", file)
    why = f"the module {home} lies neither beside the study nor in the current folder, so it is not run"
    assert (code, err) == (2, f"vitcnn: import:{name}: {why}; if you trust it, add --allow-import {home}\n")
    assert vitcnn("status", file)[0] == 0
    assert not (tmp_path / "hub" / "ran").exists()
    assert vitcnn("plan", file, "--allow-import", "torch.hub")[0] == 0
    assert (tmp_path / "hub" / "ran").exists()


def test_a_module_beside_the_study_is_run_from_any_folder_also_in_another_process(own, tmp_path, monkeypatch):
    own(NETS, "studies/nets.py")
    (tmp_path / "studies" / "mine.yaml").write_text(IMPORTED_STUDY)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (cell,) = cells(load_study("../studies/mine.yaml"))
    for one in (cell, pickle.loads(pickle.dumps(cell))):
        assert profile(one.arch, DIGITS).parameters == 650


@pytest.mark.parametrize("place", ["elsewhere", "project/env/lib/python3.11/site-packages", "library"])
def test_a_module_on_pythons_path_needs_to_be_allowed(own, tmp_path, monkeypatch, place):
    own("", f"{place}/lab/__init__.py")
    own(NETS, f"{place}/lab/nets.py")
    (tmp_path / "project").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / ("project" if place != "library" else ""))
    monkeypatch.syspath_prepend(tmp_path / place)
    if place == "library":
        monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path / place))
    file = tmp_path / "project" / "mine.yaml"
    file.write_text(IMPORTED_STUDY.replace("nets:build", "lab.nets:build"))
    with pytest.raises(ConfigError, match=r"--allow-import lab\.nets$"):
        profile(load_study(file).models[0].arch, DIGITS)
    with pytest.raises(ConfigError, match=r"--allow-import lab\.nets$"):
        profile(load_study(file, allow_import=["la", "lab.net"]).models[0].arch, DIGITS)
    allowed = load_study(file, allow_import=["lab"])
    assert profile(allowed.models[0].arch, DIGITS).parameters == 650
    assert cells(allowed) == cells(load_study(file))


def test_a_study_cannot_allow_itself(own, study):
    own(NETS)
    with pytest.raises(ConfigError, match="unknown key 'trust'"):
        study("models.mine.trust={folder: /}", text=IMPORTED_STUDY)
    given = study("models.mine={arch: 'import:torch.hub:load', source_sha256: abc}", text=IMPORTED_STUDY)
    with pytest.raises(ConfigError, match=r"--allow-import torch\.hub"):
        profile(given.models[0].arch, DIGITS)

"""What strangers' folders and files may hold: it is refused with a sentence, and does not run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic import make_study

from vitcnn.errors import ConfigError
from vitcnn.models.registry import Timm
from vitcnn.store.records import read_records
from vitcnn.study.load import load_study

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

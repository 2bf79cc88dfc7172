"""Where commands are run: in a notebook, into files and pipes, on terminals of other encodings."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest
from synthetic import every, make_study, write

from vitcnn.report.report import write_report
from vitcnn.system import output

MAIN = "from vitcnn.cli import main\nmain()"
SMALL = """
dataset: digits
sizes: [50]
seeds: 1
models:
  vit: {width: 16, depth: 1, heads: 1}
  loud: {arch: "import:nets:loud"}
budget: {images_seen: 64}
recipe: {batch_size: 32}
"""
LOUD = """
from torch import nn

def loud(image_size, channels, classes):
    print("− " * 10_000, flush=True)
    return nn.Sequential(nn.Flatten(), nn.Linear(image_size**2 * channels, classes))
"""
FIGURES = ("accuracy", "gap", "overfitting", "curves")


@pytest.fixture
def finished(tmp_path):
    """(study, its cells, its paths): `trio.yaml` in `tmp_path`, all records there."""
    study, all_cells, paths = make_study(tmp_path)
    write(every(all_cells, lambda cell: 0.4 if cell.model == "vit" else 0.5), paths)
    return study, all_cells, paths


def process(*words: str, cwd: Path, env: dict[str, str], **how) -> subprocess.CompletedProcess:
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 300} | how
    return subprocess.run([sys.executable, "-c", MAIN, *words], cwd=cwd, env=os.environ | env, **how)


# ---- figures ----


def test_a_matplotlibrc_changes_no_figure(finished):
    study, all_cells, paths = finished
    write_report(study, all_cells, paths)
    before = [(paths.report / f"{name}.png").read_bytes() for name in FIGURES]
    with mpl.rc_context({"text.usetex": True, "font.family": "serif", "lines.linewidth": 9}):
        write_report(study, all_cells, paths)
    assert [(paths.report / f"{name}.png").read_bytes() for name in FIGURES] == before


def test_the_backend_of_a_notebook_need_not_be_installed_here(finished, tmp_path):
    for words in (("report", "trio.yaml"), ("data", "show", "digits")):
        done = process(*words, cwd=tmp_path, env={"MPLBACKEND": "module://nowhere_to_be_found.inline"})
        assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "digits.png").exists()
    assert (tmp_path / "results" / "trio" / "accuracy.png").exists()


# ---- standard output ----


def test_what_an_encoding_lacks_is_written_in_plain_letters_and_a_minus_stays_a_minus(finished, tmp_path):
    output.protect()
    for words, said in ((("plan", "trio.yaml"), b"gap cnn - vit with"), (("verdict", "trio.yaml"), b" -10.0 points")):
        done = process(*words, cwd=tmp_path, env={"PYTHONIOENCODING": "latin-1"})
        assert (done.returncode, done.stderr) == (0, b"")
        assert said in done.stdout
        done.stdout.decode("latin-1")
    assert "−3 ± 2, 10⁵, é, 漢".encode("ascii", "vitcnn.plain") == b"-3 +/- 2, 10^5, e, ?"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    "words", [("plan", "trio.yaml"), ("verdict", "trio.yaml"), ("export", "trio.yaml", "--csv", "-")]
)
def test_a_full_disk_behind_standard_output_is_one_message(words, finished, tmp_path):
    with open("/dev/full", "wb") as full:
        done = process(*words, cwd=tmp_path, env={}, stdout=full)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1] == "vitcnn: standard output: No space left on device"
    assert b"Traceback" not in done.stderr


def test_a_run_whose_output_nobody_reads_trains_its_cells(tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "nets.py").write_text(LOUD, encoding="utf-8")
    reader, writer = os.pipe()
    os.close(reader)
    done = process("run", "small.yaml", "--wandb", "off", cwd=tmp_path, env={}, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")
    assert len(list((tmp_path / "results" / "small" / "records").glob("*.json"))) == 2

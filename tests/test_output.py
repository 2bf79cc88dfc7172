"""Where commands are run: in a notebook, into files and pipes, on terminals of other encodings."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest
from synthetic import every, make_study, write

from vitcnn.report.report import write_report

MAIN = "from vitcnn.cli import main\nmain()"
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

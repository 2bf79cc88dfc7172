"""W&B: what it is told, and that a cell does without it."""

import subprocess
import sys
from pathlib import Path

import pytest

from vitcnn.store.paths import StudyPaths
from vitcnn.study.cell import Cell
from vitcnn.study.matrix import cells
from vitcnn.training.train import train_cell

TEXT = """
dataset: digits
sizes: [50]
seeds: [3]
models: {vit: {width: 16, depth: 1, heads: 1}}
budget: {images_seen: 256}
recipe: {batch_size: 32}
"""


@pytest.fixture
def cell(study) -> Cell:
    return cells(study(text=TEXT, name="watched.yaml"))[0]


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    return StudyPaths("watched", tmp_path / "results", tmp_path / "runs")


@pytest.fixture(autouse=True)
def nobody_logged_in(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def inspect(folder: Path, *options: str) -> str:
    """W&B's own reader on the one run in a folder."""
    (log,) = folder.glob("*.wandb")
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", *options, str(log)],
        capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_when_nobody_is_logged_in_a_run_is_kept_offline_with_the_cells_id_and_name(cell, paths):
    record = train_cell(cell, paths=paths, tracking="auto")
    (run,) = (paths.run / "wandb").glob("offline-run-*")
    assert run.name.endswith(cell.id)
    everything, summary = inspect(run), inspect(run, "--summary")
    assert "vit-n50-s3" in everything
    assert "watched" in everything  # the group
    for key in ("val/acc", "train/loss", "images_seen", "test/acc"):
        assert key in everything
    assert f"{record.test.accuracy:g}"[:5] in summary


def test_off_writes_nothing(cell, paths):
    train_cell(cell, paths=paths, tracking="off")
    assert not (paths.run / "wandb").exists()


def test_a_place_where_wandb_cannot_write_costs_a_warning_and_not_the_cell(cell, paths):
    undisturbed = train_cell(cell, paths=paths, tracking="off")
    paths.run.mkdir(parents=True, exist_ok=True)
    (paths.run / "wandb").write_text("in the way")
    with pytest.warns(UserWarning, match="continues without W&B"):
        record = train_cell(cell, paths=paths, tracking="offline")
    assert record.weights == undisturbed.weights


def test_a_failure_in_the_middle_is_said_once_and_the_cell_goes_on(cell, paths, monkeypatch):
    def breaks(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr("lightning.pytorch.loggers.WandbLogger.log_metrics", breaks)
    with pytest.warns(UserWarning, match="no space left on device") as said:
        record = train_cell(cell, paths=paths, tracking="offline")
    assert len([w for w in said if "W&B stopped working" in str(w.message)]) == 1
    assert record.test.images == 500


def test_a_data_sets_long_name_is_no_reason_to_go_without(study, paths, recwarn):
    text = TEXT.replace("digits", '"fractals:classes=10,density=1.23456789,noise=0.123456789,test=100,vary=0.12345"')
    record = train_cell(cells(study(text=text))[0], paths=paths, tracking="offline")
    assert len(record.cell.dataset) > 64
    assert not [w for w in recwarn if "W&B" in str(w.message)]
    assert list((paths.run / "wandb").glob("offline-run-*"))

"""W&B: what it is told, and that a cell does without it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import wandb
from interrupting import interrupted, result
from synthetic import every, make_study, write
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vitcnn.analysis.results import Results
from vitcnn.analysis.verdict import verdict
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import read_records
from vitcnn.study.cell import Cell
from vitcnn.study.matrix import cells
from vitcnn.training import wandb as tracking
from vitcnn.training.tracker import summary
from vitcnn.training.train import train_cell, train_cells

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
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setattr(tracking, "_unreachable", False)


@pytest.fixture
def anew(tmp_path, monkeypatch):
    """W&B reads its settings once a process: here again, in an empty folder, before and after the test."""
    monkeypatch.chdir(tmp_path)
    wandb.teardown()
    yield
    wandb.teardown()


def inspect(folder: Path, *options: str) -> str:
    """W&B's own reader on the one run in a folder."""
    (log,) = folder.glob("*.wandb")
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", *options, str(log)],
        capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.stdout + done.stderr


def logged(paths: StudyPaths, cell: Cell) -> list[dict[str, float]]:
    """What `wandb sync` would send of the one offline run of a cell, but for the test result."""
    (folder,) = (paths.run / "wandb").glob(f"offline-run-*-{cell.id}*")
    records = [json.loads(line) for line in inspect(folder, "--json").splitlines()]
    rows = [record["history"]["item"] for record in records if record["type"] == "history"]
    return [row for row in rows if "test/acc" not in row]


def points(rows: list[dict[str, float]]) -> list[tuple[float, ...]]:
    return [tuple(row[key] for key in ("images_seen", "train/loss", "val/acc", "val/nll")) for row in rows]


def curve(record) -> list[tuple[float, ...]]:
    return [(p.images_seen, p.train_loss, p.val_accuracy, p.val_nll) for p in record.curve]


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


def test_the_summary_of_a_run_has_the_best_and_the_last_validation_and_all_that_is_compared(cell, paths):
    record = train_cell(cell, paths=paths, tracking="offline")
    (run,) = (paths.run / "wandb").glob(f"offline-run-*-{cell.id}")
    found = {}
    for item in map(json.loads, inspect(run, "--json").splitlines()):
        if item["type"] == "summary":
            found |= item["summary"]["update"]
    assert found["val/acc"] == {"max": max(p.val_accuracy for p in record.curve), "last": record.curve[-1].val_accuracy}
    for name, value in summary(record).items():
        assert found[name] == pytest.approx(value) if isinstance(value, float) else found[name] == value, name
    assert {"test/nll", "test/ece", "test/macro_acc", "parameters", "macs", "images_per_s", "subset_hash",
            "weights_hash"} <= set(found)  # fmt: skip


# ---- the run of a study ----


def test_a_report_has_a_run_of_its_own_with_table_figures_verdict_and_artifacts(vitcnn, tmp_path):
    study, all_cells, paths = make_study(tmp_path, "sizes=[50, 1000]", "models=[vit, cnn]")
    write(every(all_cells, lambda cell: 0.9 if cell.model == "cnn" else 0.6), paths)
    for _ in range(2):  # the second replaces the first
        code, out, _ = vitcnn("report", "trio.yaml", "--wandb", "offline")
        assert code == 0
    (run,) = (tmp_path / "runs" / study.name / "wandb").glob("offline-run-*-study-*")
    assert out.endswith(f"W&B: {run}\n")
    found, kinds = {}, []
    for item in map(json.loads, inspect(run, "--json").splitlines()):
        if item["type"] == "summary":
            found |= item["summary"]["update"]
        kinds += [item["artifact"]["type"]] if item["type"] == "artifact" else []
    claims = {
        claim.key: claim for claim in verdict(Results.of(study, all_cells, read_records(paths.records)[0])).claims
    }
    assert {key: found[f"verdict/{key}"] for key in claims} == {key: claim.outcome for key, claim in claims.items()}
    effect = claims["cnn-wins-small"].effect.value
    assert found["effect/cnn-wins-small"] == pytest.approx(effect)
    assert [kind for kind in kinds if kind in ("dataset", "records", "report")] == ["dataset", "records", "report"]
    (table,) = (run / "files" / "media" / "table").glob("records_*.json")
    shown = json.loads(table.read_text())
    column = shown["columns"].index("test_accuracy")
    assert sorted(row[column] for row in shown["data"]) == sorted(
        r.test.accuracy for r in read_records(paths.records)[0]
    )
    pictures = {path.name.rsplit("_", 2)[0] for path in (run / "files" / "media" / "images" / "figures").iterdir()}
    assert {"accuracy", "gap", "curves", "overfitting"} <= pictures


@pytest.mark.parametrize(("mode", "message"), [("offline", "no records yet"), ("sometimes", "not valid; use one of")])
def test_a_report_that_cannot_be_logged_is_a_sentence(mode, message, vitcnn, tmp_path):
    make_study(tmp_path)
    code, _, err = vitcnn("report", "trio.yaml", "--wandb", mode)
    assert code == 2
    assert message in err


# ---- TensorBoard ----


def events(paths: StudyPaths, cell: Cell) -> EventAccumulator:
    """What TensorBoard shows of a cell."""
    (folder,) = (paths.run / "tensorboard").glob(f"*{cell.id}")
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def test_tensorboard_has_the_curve_of_a_cell_that_was_interrupted_and_its_result(cell, paths):
    interrupted(cell, paths, 2, tracking="tensorboard")
    record = train_cell(cell, paths=paths, tracking="tensorboard")
    assert record.cost.resumed == 1
    shown = events(paths, cell)
    for name, field in (("val/acc", "val_accuracy"), ("train/loss", "train_loss")):
        got = [(e.step, e.value) for e in shown.Scalars(name)]
        assert got == [(p.images_seen, pytest.approx(getattr(p, field))) for p in record.curve]
    (last,) = shown.Scalars("test/acc")
    assert (last.step, last.value) == (record.cost.images_seen, pytest.approx(record.test.accuracy))
    assert not (paths.run / "wandb").exists()


def test_a_place_where_tensorboard_cannot_write_costs_a_warning_and_not_the_cell(cell, paths):
    paths.run.mkdir(parents=True, exist_ok=True)
    (paths.run / "tensorboard").write_text("in the way")
    with pytest.warns(UserWarning, match="continues without TensorBoard"):
        assert train_cell(cell, paths=paths, tracking="tensorboard").test.images == 500


def test_the_baseline_has_a_result_in_tensorboard_too(study, paths):
    (linear,) = cells(study("models={linear: {C: [1.0]}}", text=TEXT, name="watched.yaml"))
    record = train_cell(linear, paths=paths, tracking="tensorboard")
    assert events(paths, linear).Scalars("test/acc")[0].value == pytest.approx(record.test.accuracy)


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


def test_cells_whose_server_cannot_be_reached_are_kept_offline_from_the_first_on(study, paths, anew, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("vitcnn.system.wandb.INIT_TIMEOUT", 2)
    two = cells(study("seeds=[3, 4]", text=TEXT, name="watched.yaml"))
    with pytest.warns(UserWarning, match="W&B") as said:
        records = dict(train_cells(two, paths=paths, tracking="auto"))
    (line,) = [str(w.message) for w in said if "W&B" in str(w.message)]
    assert line.startswith("W&B is kept offline: CommError: ")
    for cell in two:
        assert points(logged(paths, cell)) == curve(records[cell])


def test_a_cell_that_was_interrupted_twice_has_one_offline_run_with_its_whole_curve(cell, paths, tmp_path):
    alone = StudyPaths("alone", tmp_path / "results", tmp_path / "runs")
    undisturbed = train_cell(cell, paths=alone, tracking="offline")
    for at in (2, 1):
        interrupted(cell, paths, at, tracking="offline")
    record = train_cell(cell, paths=paths, tracking="offline")
    assert record.cost.resumed == 2
    assert result(record) == result(undisturbed)
    assert points(logged(paths, cell)) == curve(record)
    lr, expected = ([row["lr"] for row in logged(where, cell)] for where in (paths, alone))
    assert lr == expected


@pytest.mark.parametrize("how", ["WANDB_DISABLED=true", "WANDB_MODE=disabled", "wandb disabled"])
def test_a_wandb_that_is_disabled_writes_nothing(how, cell, paths, anew, monkeypatch, tmp_path):
    if how == "wandb disabled":
        subprocess.run([sys.executable, "-m", *how.split()], check=True, cwd=tmp_path, capture_output=True)
        assert (tmp_path / "wandb" / "settings").exists()
    else:
        monkeypatch.setenv(*how.split("="))
    for mode in ("auto", "online"):
        train_cell(cell, paths=paths, tracking=mode)
    assert not (paths.run / "wandb").exists()

"""What is promised when records break, disks fill up and losses explode."""

import resource
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from interrupting import TEXT, result
from synthetic import every, write

from vitcnn.analysis.select import choose
from vitcnn.errors import ConfigError
from vitcnn.launch.worker import Options, work
from vitcnn.report.report import write_report
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import read_record, write_record
from vitcnn.store.status import failures, quarantine, states
from vitcnn.study.cell import Cell
from vitcnn.study.load import load_study
from vitcnn.study.matrix import cells
from vitcnn.study.yaml_file import parse
from vitcnn.system.processes import apart
from vitcnn.training.train import train_cell


@pytest.fixture
def cell(one_cell) -> Cell:
    return one_cell(TEXT)


# ---- records ----


@pytest.mark.parametrize("how", ["cut off", "another accuracy", "another bit", "empty"])
def test_a_record_that_is_not_what_was_written_is_quarantined_and_its_cell_trained_again(
    how, cell, paths, study, vitcnn
):
    path = write_record(train_cell(cell, paths=paths), paths)
    text = path.read_text()
    changed = {
        "cut off": text[:-500],
        "another accuracy": text.replace('"test":{"accuracy":0.', '"test":{"accuracy":0.9', 1),
        "another bit": text.replace('"bits":"', '"bits":"A', 1),
        "empty": "",
    }[how]
    assert changed != text
    path.write_text(changed)
    file = study(text=TEXT) and paths.results.parent / "small.yaml"
    code, out, _ = vitcnn("run", file, "--results", paths.results, "--runs", paths.runs, "--wandb", "off",
                          "--device", "cpu", "--workers", 1)  # fmt: skip
    assert code == 0
    assert "quarantined as" in out
    assert "the cell is trained again" in out
    assert path.with_name(f"{path.name}.broken").read_text() == changed
    assert read_record(path).id == cell.id


def test_a_record_without_a_checksum_is_one_of_an_earlier_version(cell, paths):
    path = write_record(train_cell(cell, paths=paths), paths)
    before = read_record(path)
    path.write_text(path.read_text().rpartition(',"sum":')[0] + "}")
    assert read_record(path) == before
    assert quarantine(paths) == []


# ---- full disks ----


def limited(folder: Path, limit: int) -> list[str]:
    """Trains the cell where no file can grow beyond `limit` bytes, as on a disk that is full; its warnings."""
    (cell,) = cells(load_study(folder / "small.yaml"))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        work((cell,), StudyPaths("small", folder / "results", folder / "runs"), Options(device="cpu", tracking="off"))
    return [str(warning.message) for warning in given]


@pytest.fixture
def full(study, tmp_path, monkeypatch) -> Callable[[int], list[str]]:
    """`limited`, in a process of its own."""
    study(text=TEXT)
    monkeypatch.setenv("VITCNN_CHECKPOINT_EVERY", "0")
    return lambda limit: apart(limited, tmp_path, limit, threads=1)


def test_no_room_for_a_checkpoint_costs_the_checkpoint_and_not_the_cell(cell, paths, full, tmp_path):
    assert any("cannot save a checkpoint: File too large; training continues" in line for line in full(60_000))
    undisturbed = train_cell(cell, paths=StudyPaths("other", tmp_path / "o", tmp_path / "o"))
    assert result(read_record(paths.record(cell.id))) == result(undisturbed)


def test_no_room_for_a_record_is_an_error_that_names_it_and_no_half_written_file(cell, paths, full):
    with pytest.raises(ConfigError, match="File too large"):
        full(1000)
    assert list(paths.records.iterdir()) == []
    assert [state.kind for state in states([cell], paths)] in (["stopped"], ["waiting"])


@pytest.mark.parametrize("which", ["results", "runs"])
def test_a_folder_that_cannot_be_written_to_is_said_before_anything_is_trained(which, study, vitcnn, tmp_path):
    study(text=TEXT)
    (tmp_path / which).write_text("a file where a folder should be")
    code, _, err = vitcnn("run", "small.yaml", "--wandb", "off", "--device", "cpu")
    assert code == 2
    assert f"choose another folder with --{which}" in err


# ---- losses that are no number ----

SEARCH = TEXT + "grid: {lr: [0.003, 1.0e30]}\n"


def test_a_trial_that_explodes_is_recorded_as_failed_and_never_chosen(study, paths, vitcnn):
    search = study(text=SEARCH)
    file = paths.results.parent / "small.yaml"
    run = ["run", file, "--results", paths.results, "--runs", paths.runs, "--wandb", "off", "--device", "cpu"]
    code, out, _ = vitcnn(*run, "--workers", 1)
    assert code == 1
    assert "the training loss is nan at step" in out
    all_cells = cells(search)
    kinds = {state.cell.recipe.lr: state.kind for state in states(all_cells, paths)}
    assert kinds == {0.003: "done", 1e30: "failed"}
    where = ["--results", paths.results, "--runs", paths.runs]
    assert vitcnn("select", file, *where)[0] == 0
    assert parse((paths.report / "recipes.yaml").read_text())["models"]["vit"][50]["lr"] == 0.003
    assert vitcnn("report", file, *where)[0] == 0
    report = (paths.report / "report.md").read_text()
    assert "| lr=1e+30 | failed |" in report
    assert "## Failed cells" in report
    assert "learning rate" in report.partition("## Failed cells")[2]
    code, out, _ = vitcnn(*run)  # it would fail again
    assert code == 0
    assert "1 cells failed for good because the loss is not finite" in out
    assert "all 2 cells are done, or failed for good" in out


def test_a_search_of_which_every_trial_failed_says_so(study, paths):
    search = study("grid={lr: [1.0e29, 1.0e30]}", text=SEARCH)
    all_cells = cells(search)
    for cell in all_cells:
        paths.failure(cell.id).parent.mkdir(parents=True, exist_ok=True)
        paths.failure(cell.id).write_text('{"error": "NotFiniteLoss: nan"}')
    with pytest.raises(ConfigError, match="every trial of vit at n = 50 failed"):
        choose(search, all_cells, {}, failures(all_cells, paths))


def test_a_failed_cell_is_in_the_report_and_in_no_mean(study, paths):
    whole = study("seeds=2", text=TEXT)
    first, second = cells(whole)
    write(every([first], lambda _: 0.9), paths)
    paths.failure(second.id).parent.mkdir(parents=True)
    paths.failure(second.id).write_text('{"error": "NotFiniteLoss: the training loss is nan at step 7"}')
    text = write_report(whole, [first, second], paths).read_text()
    assert "vit-n50-s1: NotFiniteLoss: the training loss is nan at step 7" in text
    assert "(1 seed)" in text
    assert "nan |" not in text

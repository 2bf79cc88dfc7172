"""Odd environments and places to write to: one sentence each."""

import resource
import subprocess
import sys

import pytest
from launching import LONG, OPTIONS, TEXT, named

from vitcnn.errors import Unwritable
from vitcnn.launch.scheduler import run_jobs
from vitcnn.store.status import states

SMALL = """
dataset: digits
sizes: [50]
seeds: 1
models:
  vit: {width: 16, depth: 1, heads: 1}
  cnn: {channels: [4], blocks: [1]}
budget: {images_seen: 256}
recipe: {batch_size: 32}
"""
RUN = ("--wandb", "off", "--device", "cpu", "--workers", "1")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.mark.parametrize("text", ["abc", "nan", "inf", "-1", ""])
@pytest.mark.parametrize("variable", ["VITCNN_CHECKPOINT_EVERY", "SOURCE_DATE_EPOCH"])
def test_a_variable_that_is_no_number_of_seconds_is_a_sentence(variable, text, file, vitcnn, monkeypatch):
    monkeypatch.setenv(variable, text)
    code, out, err = vitcnn("run", file, *RUN)
    assert code == 2
    assert f"{variable}={text!r}: not a number of seconds; correct or unset it" in err
    assert "done  of" not in out


def test_too_few_open_files_for_workers_are_a_sentence(file, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))

    command = [sys.executable, "-c", "from vitcnn.cli import main; main()", "run", str(file), *RUN]
    done = subprocess.run(command, cwd=tmp_path, preexec_fn=limit, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "only 12 open files are allowed (`ulimit -n`); a run needs 64" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("out", ["/dev/full", "nowhere/table.csv", "."])
def test_a_table_that_cannot_be_written_is_a_sentence(out, file, vitcnn):
    assert vitcnn("run", file, *RUN)[0] == 0
    code, _, err = vitcnn("export", file, "--csv", out)
    assert code == 2
    assert f"--csv {out}: " in err


def test_a_sheet_may_be_written_into_a_folder(vitcnn, tmp_path):
    assert vitcnn("data", "show", "digits", "--out", ".")[0] == 0
    assert (tmp_path / "digits.png").exists()


def test_an_augmentation_too_large_for_a_number_is_a_sentence(file, vitcnn):
    code, _, err = vitcnn("plan", file, f"recipe.augment=mixup:{'9' * 400}")
    assert (code, "too large a number" in err) == (2, True)


def test_names_that_were_swapped_are_the_studys_in_the_table_as_in_the_report(file, vitcnn, tmp_path):
    assert vitcnn("run", file, *RUN)[0] == 0
    before = vitcnn("export", file, "--csv", "-")[1]
    text = SMALL.replace("  vit: {", "  a: {arch: vit, ").replace("  cnn: {", "  vit: {arch: cnn, ")
    file.write_text(text)
    after = vitcnn("export", file, "--csv", "-")[1]
    assert vitcnn("status", file)[1].count("1/1") == 2

    def accuracies(table):
        head, *rows = (line.split(",") for line in table.splitlines())
        return {row[head.index("model")]: row[head.index("test_accuracy")] for row in rows}

    old, new = accuracies(before), accuracies(after)
    assert new == {"a": old["vit"], "vit": old["cnn"]}


def test_records_under_another_name_are_offered(file, vitcnn, tmp_path):
    assert vitcnn("run", file, *RUN)[0] == 0
    file.rename(file.with_name("renamed.yaml"))
    out = vitcnn("run", file.with_name("renamed.yaml"), *RUN)[1]
    assert "2 of the cells to train have records in results/small/records; to use them, stop and copy them to" in out


def test_a_run_stops_at_the_first_record_that_cannot_be_written(paths, tmp_path):
    """A file is in the way of the folder of records; the cell that is still in training saves a checkpoint."""
    file = tmp_path / "small.yaml"
    file.write_text(TEXT)
    short, long = named(file, "vit"), named(file, "vit", LONG)
    paths.records.parent.mkdir(parents=True)
    paths.records.write_text("in the way")
    with pytest.raises(Unwritable, match=r"records.*; the run is stopped"):
        run_jobs([(long,), (short,)], paths, OPTIONS, workers=2)
    assert [state.kind for state in states([long, short], paths)] == ["stopped", "stopped"]
    assert (paths.cell(long.id) / "last.ckpt").exists()


LOGS = """
import logging, multiprocessing, os, sys
from vitcnn.launch.worker import start

start(multiprocessing.Event(), 1, dict(os.environ))
handler = logging.StreamHandler(open("/dev/full", "w"))
logging.getLogger("wandb").addHandler(handler)
for k in range(50):
    logging.getLogger("wandb").warning("line %d", k)
os._exit(0)  # without closing the file
"""


def test_log_files_on_a_full_disk_fill_no_screen(tmp_path):
    """W&B's, of every cell: a line of theirs that cannot be written was a stack trace."""
    done = subprocess.run([sys.executable, "-c", LOGS], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

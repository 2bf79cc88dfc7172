"""A study as jobs: on submitit's executors of this machine, on a Slurm cluster where there is one."""

import io
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import submitit
from launching import LONG, TEXT, pid_in_a_step, wait_for
from rich.console import Console
from synthetic import every, write

from vitcnn.errors import ConfigError
from vitcnn.launch.slurm import submit_study
from vitcnn.launch.slurm_task import Task
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import read_record
from vitcnn.study.load import load_study
from vitcnn.study.matrix import cells
from vitcnn.training.train import train_cell

ONLY_VIT = "models={vit: {width: 32, depth: 1, heads: 2}}"


def cluster_of_this_machine() -> bool:
    """Whether `scripts/slurm_here` has started one; no other's queue is for tests."""
    if not shutil.which("sbatch"):
        return False
    shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True).stdout
    return re.search(r"^ClusterName\s*=\s*here$", shown, re.MULTILINE) is not None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(TEXT)
    return path


def submitted(file: Path, *overrides: str, said: io.StringIO | None = None, **how) -> list[submitit.Job]:
    folders = {name: file.parent / name for name in ("results", "runs")}
    how = {"minutes": 60, "device": "cpu", "workers": 1, "wandb": "off", **folders, **how}
    return submit_study(file, overrides, console=Console(file=said or io.StringIO(), width=1000), **how)


# ---- jobs that run ----


def test_a_job_that_is_told_to_stop_goes_on_and_two_jobs_train_each_cell_once(file, paths, tmp_path):
    """The signal reaches all processes of the job, as Slurm's does."""
    two = [ONLY_VIT, "seeds=2", LONG]
    wanted = cells(load_study(file, two))
    executor = submitit.LocalExecutor(tmp_path / "jobs")
    executor.update_parameters(timeout_min=10)
    jobs = submitted(file, *two, nodes=5, executor=executor)
    controllers = [psutil.Process(int(job.job_id)) for job in jobs]  # of submitit; each starts its job again
    assert len(jobs) == 2  # no more than cells
    at_work = wait_for(lambda: [pid for pid in [pid_in_a_step(paths, cell) for cell in wanted] if pid][1:])
    job = next(one for one in controllers if at_work[0] in [p.pid for p in one.children(recursive=True)])
    for process in job.children(recursive=True):
        process.send_signal(signal.SIGUSR2)
    _, alive = psutil.wait_procs(controllers, timeout=200)
    assert not alive
    once, resumed = sorted((read_record(paths.record(cell.id)) for cell in wanted), key=lambda one: one.cost.resumed)
    assert (once.cost.resumed, resumed.cost.resumed) == (0, 1)
    whole = train_cell(resumed.cell, paths=StudyPaths("other", tmp_path, tmp_path))
    assert (resumed.weights, resumed.curve, resumed.test) == (whole.weights, whole.curve, whole.test)
    assert not list(paths.run.glob("locks/*"))
    output = submitit.LocalJob(executor.folder, str(job.pid)).stdout()
    assert "Calling checkpoint method" in output
    assert "Requeued job" in output


def test_a_job_that_starts_when_no_cell_is_left_ends_at_once(file, paths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = [ONLY_VIT, "budget.images_seen=64"]
    (job,) = submitted(file, *one, executor=submitit.DebugExecutor(tmp_path / "jobs"))
    write(every(cells(load_study(file, one)), lambda _: 0.9), paths)
    assert job.done()


@pytest.mark.skipif(not cluster_of_this_machine(), reason="needs Slurm's packages and `scripts/slurm_here`, as root")
def test_jobs_of_a_real_cluster_share_the_cells(file, paths, tmp_path):
    small = [ONLY_VIT, "seeds=2", "budget.images_seen=640"]
    wanted = cells(load_study(file, small))
    ids = [job.job_id for job in submitted(file, *small, nodes=2)]
    try:
        wait_for(lambda: not subprocess.check_output(["squeue", "--noheader", f"--jobs={','.join(ids)}"]), 200)
    finally:
        subprocess.run(["scancel", *ids])
    records = [read_record(paths.record(cell.id)) for cell in wanted]
    whole = [train_cell(cell, paths=StudyPaths("other", tmp_path, tmp_path)) for cell in wanted]
    assert [(one.weights, one.cost.resumed) for one in records] == [(one.weights, 0) for one in whole]


# ---- what is requeued ----


@pytest.fixture
def task(file, tmp_path) -> Task:
    how = {name: tmp_path / name for name in ("results", "runs")}
    return Task(tmp_path, file, (ONLY_VIT,), how, due=60)


def test_a_job_is_requeued_while_a_cell_is_left(task, file, paths):
    again = task.checkpoint().function
    assert (again.path, again.overrides, again.how) == (task.path, task.overrides, task.how)
    write(every(cells(load_study(file, task.overrides)), lambda _: 0.9), paths)
    with pytest.raises(SystemExit) as caught:
        task.checkpoint()
    assert caught.value.code == 0


def test_a_whole_job_in_which_no_cell_got_further_is_not_requeued(task, capsys):
    task.before = [(False, None)]
    task.began = time.monotonic()
    assert task.checkpoint()  # preempted early
    task.began -= 61
    assert task.checkpoint() is None
    assert "Give more --minutes" in capsys.readouterr().out


# ---- what is submitted ----


SBATCH = """#!/bin/sh
keep="$0.$(ls "$0".* 2>/dev/null | wc -l)"
cp "$1" "$keep"
env >"${0%/*}/environment"
echo "Submitted batch job 7${keep##*.}"
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> Path:
    """Commands of Slurm that keep what is submitted, of a cluster whose arrays have at most two tasks."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {
        "sbatch": SBATCH,
        "srun": "",
        "scontrol": "#!/bin/sh\necho 'MaxArraySize            = 2'\n",
    }.items():
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def test_arrays_beyond_the_clusters_limit_are_split_and_options_reach_sbatch(file, cluster, tmp_path):
    said = io.StringIO()
    options = ["partition=gpu", "gpus_per_node=1", "mem=16GB", "account=007", "setup=module load cuda"]
    jobs = submitted(file, "seeds=3", nodes=5, minutes=30, workers=4, threads=2, slurm=options, said=said)
    assert [job.job_id for job in jobs] == ["70_0", "70_1", "71", "72_0", "72_1"]
    text = (cluster / "sbatch.0").read_text()
    for line in ("partition=gpu", "gpus-per-node=1", "mem=16GB", "account=007", "time=30", "array=0-1%2", "requeue"):
        assert f"#SBATCH --{line}\n" in text
    assert "#SBATCH --signal=USR2@90\n" in text
    assert "#SBATCH --cpus-per-task=8\n" in text
    assert "srun --unbuffered" in text
    assert "--cpus-per-task=8 " in text.split("srun", 1)[1]
    assert "\nmodule load cuda\n" in text
    assert "--array" not in (cluster / "sbatch.1").read_text()
    assert "submitted 5 jobs of 30 minutes: 70 71 72" in said.getvalue()
    assert "vitcnn status" in said.getvalue()
    assert len(list((tmp_path / "runs/small/slurm").glob("*_submitted.pkl"))) == 5


def test_of_the_job_that_one_is_submitted_from_nothing_reaches_the_new_one(file, cluster, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setenv("SLURM_CPU_BIND", "mask_cpu:0x1")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    submitted(file)
    seen = (cluster / "environment").read_text().splitlines()
    assert [line for line in seen if line.startswith("SLURM")] == ["SLURM_CONF=/etc/slurm.conf"]
    assert os.environ["SLURM_CPU_BIND"] == "mask_cpu:0x1"


def test_what_sbatch_refuses_is_its_sentence_and_what_was_submitted_before(file, cluster, capfd):
    refuses = 'echo "sbatch: error: Batch job submission failed: too many" >&2\nexit 1\n'
    (cluster / "sbatch").write_text(SBATCH.replace("cp ", f'case "$keep" in *.1) {refuses};; esac\ncp ', 1))
    with pytest.raises(ConfigError, match=r"^sbatch: error: .*: too many; submitted before: 70$"):
        submitted(file, "seeds=3", nodes=4)
    assert "too many" not in capfd.readouterr().err


def test_nothing_to_train_submits_nothing(file, paths, cluster):
    said = io.StringIO()
    write(every(cells(load_study(file)), lambda _: 0.9), paths)
    assert submitted(file, said=said) == []
    assert "all 3 cells are done" in said.getvalue()
    assert not list(cluster.glob("sbatch.*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--launcher", "slurn"], "--launcher 'slurn': not known; did you mean 'slurm'? known: local, ray, slurm"),
        (["--nodes", "2"], "--nodes needs --launcher slurm"),
        (["--slurm", "partition=gpu"], "--slurm needs --launcher slurm"),
        (["--launcher", "slurm"], "minutes is missing; give the time limit of a job, a whole number of at least 4"),
        (["--launcher", "slurm", "--minutes", "2.5"], "minutes 2.5: not valid"),
        (["--launcher", "slurm", "--minutes", "3"], "minutes 3: not valid"),
        (["--launcher", "slurm", "--slurm", "partition"], "slurm 'partition': not valid; write NAME=VALUE"),
        (
            ["--launcher", "slurm", "--slurm", "partion=gpu"],
            "slurm 'partion=gpu': not known; did you mean 'partition'?",
        ),
        (["--launcher", "slurm", "--slurm", "nodes=4"], "slurm 'nodes=4': use --nodes"),
        (["--launcher", "slurm", "--slurm", "setup=[a"], "slurm 'setup=[a': not valid YAML"),
        (["--launcher", "slurm", "--slurm", "signal_delay_s=soon"], "slurm 'signal_delay_s=soon': not a number"),
        (["--launcher", "slurm", "--slurm", "additional_parameters=nice"], "expected a mapping"),
    ],
)
def test_what_is_typed_wrong_is_one_sentence(words, said, file, vitcnn):
    code, out, err = vitcnn("run", file, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_without_slurm_or_submitit_a_sentence_says_so(file, vitcnn, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    words = ["run", file, "--launcher", "slurm", "--minutes", "60"]
    assert "`sbatch` is not found" in vitcnn(*words)[2]
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert "pip install 'vitcnn[slurm]'" in vitcnn(*words)[2]

"""Runs a study as jobs of a Slurm cluster, by submitit.

A job runs one `run_study`, with its own workers; the jobs share the cells by the cells' locks. Before its time limit,
or when it is preempted, a job lets its cells save checkpoints and requeues itself, until no cell is left.
"""

import contextlib
import importlib.util
import io
import math
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vitcnn.errors import ConfigError, evenly, suggest
from vitcnn.launch.run_study import prepare
from vitcnn.launch.slurm_task import Task
from vitcnn.store.paths import StudyPaths
from vitcnn.study import yaml_file

if TYPE_CHECKING:
    import submitit

SIGNAL_DELAY = 90  # seconds before its time limit at which a job is told to stop; submitit's default
EARLY = 60  # seconds that Slurm may tell it sooner (man sbatch, --signal)
ENDLESS = 1_000_000  # requeues; a task itself knows when it is enough
OURS = {"time": "--minutes", "nodes": "--nodes", "ntasks_per_node": "--nodes"}
UNUSED = {"num_gpus", "use_srun"}  # an old name; without srun a job is not told to stop
LISTS = ("setup", "teardown", "srun_args")


def submit_study(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    minutes: float | None,
    nodes: int = 1,
    slurm: Sequence[str] = (),
    device: str = "auto",
    workers: int | None = None,
    threads: int = 1,
    keep_weights: bool = False,
    console: Console | None = None,
    executor: "submitit.Executor | None" = None,
    **also: Any,
) -> "list[submitit.Job]":
    """Submits `nodes` jobs of `minutes` that train the cells of a study together, and returns them at once: none if no
    cell is left. Checks models and data and fetches what is missing before, since nodes often have no network.

    `slurm`: parameters of submitit's SlurmExecutor, such as "partition=gpu"; `also`: results, runs, data_folder, lanes,
    logger, wandb and allow_import; these and the others as in `run_study`. `executor`: another one of submitit's.
    Raises ConfigError for user errors and FetchError if a data set cannot be fetched.
    """
    parameters = _parameters(slurm, minutes, nodes, workers and workers * threads)
    if executor is None and not shutil.which("sbatch"):
        raise ConfigError("launcher slurm: `sbatch` is not found; run this on a machine of the Slurm cluster")
    here = "auto" if device.startswith("cuda") else device  # where jobs are submitted there is often no GPU
    ready = prepare(path, overrides, console or Console(soft_wrap=True), device=here, **also)
    if not ready.waiting:
        return []
    how = {"device": device, "workers": workers, "threads": threads, "keep_weights": keep_weights, **also}
    due = 60 * minutes - parameters["signal_delay_s"] - EARLY
    tasks = [Task(Path.cwd(), Path(path), tuple(overrides), how, due) for _ in range(min(nodes, len(ready.waiting)))]
    folder = (ready.opened.paths.run / "slurm").absolute()
    jobs = _submit(tasks, executor or _slurm(folder, ready.opened.paths, parameters))
    places = [f"--{name}={also[name]}" for name in ("results", "runs") if str(also.get(name, name)) != name]
    ready.log(f"submitted {len(jobs)} jobs of {minutes:g} minutes: {_ids(jobs)}; their output is in {folder}")
    ready.log(f"watch: {shlex.join(['vitcnn', 'status', str(path), *overrides, *places, '--watch'])}")
    ready.log(f"cancel: scancel {_ids(jobs)}; the same `vitcnn run` continues, or adds jobs while these run")
    return jobs


def _ids(jobs: "Sequence[submitit.Job]") -> str:
    """Of arrays, and of jobs that are in none."""
    return " ".join(dict.fromkeys(job.job_id.split("_")[0] for job in jobs))


def _parameters(given: Sequence[str], minutes: float | None, nodes: int, cpus: int | None) -> dict[str, Any]:
    """Of SlurmExecutor, checked. Raises ConfigError."""
    if importlib.util.find_spec("submitit") is None:
        raise ConfigError("launcher slurm: submitit is not installed; `pip install 'vitcnn[slurm]'` installs it")
    import submitit

    known = submitit.SlurmExecutor._valid_parameters() - OURS.keys() - UNUSED
    out: dict[str, Any] = {"signal_delay_s": SIGNAL_DELAY, "array_parallelism": nodes}
    out |= {"cpus_per_task": cpus} if cpus else {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise ConfigError(f"slurm {text!r}: not valid; write NAME=VALUE, for instance partition=gpu")
        if name in OURS:
            raise ConfigError(f"slurm {text!r}: use {OURS[name]}")
        if name not in known:
            others = "; other options of sbatch: additional_parameters={NAME: VALUE}"
            raise ConfigError(f"slurm {text!r}: not known{suggest(name, known)}{others}")
        out[name] = _value(name, value)
    out["additional_parameters"] = {"requeue": True, **out.get("additional_parameters", {})}
    if "cpus_per_task" in out:  # Slurm 22.05 to 23.02 give srun one core else
        out["srun_args"] = [f"--cpus-per-task={out['cpus_per_task']}", *out.get("srun_args", [])]
    least = math.ceil((2 * out["signal_delay_s"] + EARLY) / 60)
    if minutes is None or not float(minutes).is_integer() or minutes < least:
        given = "is missing" if minutes is None else f"{minutes:g}: not valid"
        raise ConfigError(
            f"minutes {given}; give the time limit of a job, a whole number of at least {least}, since jobs save "
            f"checkpoints {out['signal_delay_s']} s before it (slurm signal_delay_s)"
        )
    return out | {"time": int(minutes)}


def _value(name: str, text: str) -> Any:
    """Numbers, lists, mappings and true as in YAML; all else as it stands. Raises ConfigError."""
    try:
        value = yaml_file.parse(text)
    except ValueError as error:
        raise ConfigError(f"slurm '{name}={text}': {error}") from None
    if (name == "additional_parameters") != isinstance(value, dict):
        kind = "a mapping" if name == "additional_parameters" else "no mapping"
        raise ConfigError(f"slurm '{name}={text}': expected {kind}")
    if name == "signal_delay_s" and (not isinstance(value, int) or value < 1):
        raise ConfigError(f"slurm '{name}={text}': not a number of seconds")
    if name in LISTS:
        return [str(part) for part in value] if isinstance(value, list) else [text]
    return value if isinstance(value, dict | bool) or str(value) == text else text


def _slurm(folder: Path, paths: StudyPaths, parameters: dict[str, Any]) -> "submitit.SlurmExecutor":
    import submitit

    executor = submitit.SlurmExecutor(folder, max_num_timeout=ENDLESS)
    executor.update_parameters(**{"job_name": f"vitcnn-{paths.study}"} | parameters)
    return executor


def _submit(tasks: Sequence[Task], executor: "submitit.Executor") -> "list[submitit.Job]":
    """In arrays that the cluster allows. Raises ConfigError with sbatch's message."""
    import submitit
    from submitit.core.utils import FailedJobError

    most = _array_limit() if isinstance(executor, submitit.SlurmExecutor) else len(tasks)
    jobs: list[submitit.Job] = []
    with _outside_of_jobs(), contextlib.redirect_stderr(io.StringIO()):  # submitit prints what sbatch says
        for part in evenly(tasks, most):
            try:
                jobs += executor.submit_array(part)
            except FailedJobError as error:
                before = f"; submitted before: {_ids(jobs)}" if jobs else ""
                raise ConfigError(f"{' '.join(str(error).split())}{before}") from None
    return jobs


@contextlib.contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Hides the variables of the job that this is run in, if any: they must not reach the new jobs."""
    import submitit

    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    kept = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}  # sbatch may need it
    with submitit.helpers.clean_env():
        os.environ.update(kept)
        yield


def _array_limit() -> int:
    """MaxArraySize of the cluster: one more than the largest index. Raises ConfigError."""
    shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=False)
    if not (found := re.search(r"^MaxArraySize\s*=\s*(\d+)", shown.stdout, re.MULTILINE)):
        raise ConfigError(f"scontrol show config: {' '.join(shown.stderr.split()) or 'shows no MaxArraySize'}")
    return max(1, int(found[1]))

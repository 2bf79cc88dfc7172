"""What a job of a Slurm cluster runs: one `run_study`, in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitcnn.errors import ConfigError
from vitcnn.launch.open_study import open_study
from vitcnn.launch.run_study import run_study
from vitcnn.store.status import State, states, to_train

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

INTERRUPTED = 130


@dataclass
class Task:
    """Called by submitit in a job. `folder`: where the command was given; `due`: seconds after which a signal means
    that the time limit is near, not a preemption.

    Slurm sends its signals to all processes of a job. So the run has submitit's signal blocked, as all processes that
    it starts, and is told to stop by SIGTERM.
    """

    folder: Path
    path: Path
    overrides: tuple[str, ...]
    how: dict[str, Any]
    due: float
    process: BaseProcess | None = field(default=None, init=False)
    began: float = field(default=0.0, init=False)
    before: list[object] = field(default_factory=list, init=False)

    def __call__(self) -> None:
        os.chdir(self.folder)
        self.began, self.before = time.monotonic(), _progress(self._states())
        context = get_context("spawn")
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {_warning()})
        self.process = context.Process(target=_run, args=(self.path, self.overrides, self.how))
        self.process.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        wait([self.process.sentinel])
        self.process.join()
        status = self.process.exitcode
        if status in (INTERRUPTED, -signal.SIGTERM) and _is_wanted():
            signal.raise_signal(_warning())  # preempted, with some time left
        if status:
            raise SystemExit(status)

    def checkpoint(self) -> "DelayedSubmission | None":
        """Called by submitit when the job is told to stop. Returns what is requeued; None, which submitit reports as a
        failure, if it would not help. Ends the job if no cell is left."""
        from submitit.helpers import DelayedSubmission

        if self.process:
            self.process.terminate()
            wait([self.process.sentinel])
        found = self._states()
        if not to_train(found):
            raise SystemExit(0)
        if time.monotonic() - self.began > self.due and _progress(found) == self.before:
            print("No cell got further within the time limit: not requeued. Give more --minutes.", flush=True)
            return None
        return DelayedSubmission(replace(self))

    def _states(self) -> list[State]:
        places = {name: Path(self.how.get(name) or name) for name in ("results", "runs")}
        more = {name: self.how[name] for name in ("data_folder", "allow_import") if name in self.how}
        opened = open_study(self.path, self.overrides, **places, **more)
        return states(opened.cells, opened.paths)


def _warning() -> signal.Signals:
    """The signal that submitit asks Slurm for."""
    from submitit import JobEnvironment

    return signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]


def _progress(found: list[State]) -> list[object]:
    return [(state.kind == "done", state.detail.get("step")) for state in found]


def _is_wanted() -> bool:
    """Whether Slurm counts this job as running. It does not after `scancel`, nor when it requeues the job itself."""
    from submitit import JobEnvironment

    if "SLURM_JOB_ID" not in os.environ:  # another of submitit's executors
        return False
    job = JobEnvironment().job_id  # SLURM_JOB_ID may also be that of a whole array
    asked = subprocess.run(["squeue", "--noheader", "--format=%T", f"--jobs={job}"], capture_output=True, text=True)
    return asked.stdout.strip() == "RUNNING"


def _run(path: Path, overrides: tuple[str, ...], how: dict[str, Any]) -> None:
    """Exits as `vitcnn run` does."""
    from vitcnn.data.sources.cache import FetchError

    if cores := os.environ.get("SLURM_CPUS_ON_NODE"):  # not every cluster fences them
        os.environ.setdefault("LOKY_MAX_CPU_COUNT", cores)
    try:
        outcome = run_study(path, overrides, **how, wait_for_others=False)
    except (ConfigError, FetchError) as error:
        sys.exit(f"vitcnn: {error}")
    sys.exit(INTERRUPTED if outcome.interrupted else int(bool(outcome.failed)))

"""What the scheduler needs of the workers that train its jobs, whether on this machine or on others."""

from collections.abc import Callable
from typing import Protocol

from vitcnn.launch.jobs import Job
from vitcnn.launch.worker import Done, Options
from vitcnn.store.paths import StudyPaths

End = Done | BaseException  # of a job; JobFailed where its worker died


class Pool(Protocol):
    """Workers, started by the constructor, each training one job at a time."""

    @property
    def free(self) -> int:
        """How many workers wait for a job."""

    def suits(self, job: Job) -> bool:
        """True if one of the free workers may train the job; False if it should wait for another one."""

    def schedule(self, job: Job) -> None:
        """Gives the job to a free worker."""

    def ended(self, seconds: float) -> list[tuple[Job, End]]:
        """Waits until a job ends, at most `seconds`; returns those that did. Raises ConfigError if there can be no
        workers."""

    def stop(self) -> None:
        """Makes the running jobs save checkpoints and end. No job is scheduled after this."""

    def close(self) -> None:
        """Ends the workers; running jobs are lost."""


# (paths, options, number of workers, ids of cells whose weights are kept, each job in a fresh process)
StartPool = Callable[[StudyPaths, Options, int, frozenset[str], bool], Pool]

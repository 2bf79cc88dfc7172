"""Workers on the nodes of a Ray cluster, as a pool for the scheduler. This module imports Ray."""

import contextlib
import json
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from vitcnn.errors import ConfigError, JobFailed, Unwritable
from vitcnn.launch.jobs import Job
from vitcnn.launch.open_study import OpenStudy
from vitcnn.launch.pool import End
from vitcnn.launch.ray_cluster import Cluster, environment, own_code
from vitcnn.launch.ray_worker import Setup, SourceFiles, Started, Worker, left_files, source_files, version
from vitcnn.launch.worker import Options
from vitcnn.store.paths import StudyPaths, write_atomically
from vitcnn.store.status import read_progress, write_progress

LOOK_EVERY = 5.0  # seconds between two looks at the cluster's nodes
PATIENCE = 60.0  # seconds without a worker before the log says what is waited for
FAILING = 60.0  # seconds without a worker before the run ends; Ray may need half of it to notice that a node is lost
CLOSING = 1.5  # seconds for workers to end before they are killed


@dataclass(eq=False)
class _Slot:
    """A worker. `result`: of the call that it works on, None if it is free; `progress`: of a call under way."""

    actor: Any
    result: ray.ObjectRef | None
    started: Started | None = None
    job: Job | None = None
    progress: ray.ObjectRef | None = None


class RayPool:
    """One actor a worker: as many as have room, at most `workers`; with `exactly` that many, even if some wait. Dead
    ones are replaced, and nodes that join later get some. A cell is tried again on another node, if there is one."""

    def __init__(
        self,
        cluster: Cluster,
        opened: OpenStudy,
        exactly: bool,
        log: Callable[[str], None],
        paths: StudyPaths,
        options: Options,
        workers: int,
        sources: frozenset[str],
        fresh: bool,
    ):
        self.cluster, self.log, self.workers, self.exactly = cluster, log, workers, exactly
        self.paths = replace(paths, results=paths.results.absolute(), runs=paths.runs.absolute())
        folder = options.data_folder and options.data_folder.absolute()
        self.options = replace(options, data_folder=folder, device=cluster.device)
        mark = f".{uuid.uuid4().hex}.json.shared"  # `status.quarantine` deletes what a killed run leaves
        self.setup = Setup(
            self.paths,
            self.options,
            sources,
            fresh,
            dataset=opened.study.dataset_spec,
            content=opened.about.content,
            here=Path.cwd(),
            marks=(self.paths.records / mark, self.paths.run / mark),
            code=own_code(opened),
            environment=environment(),
            version=version(),
        )
        self.slots: list[_Slot] = []
        self.nodes: dict[str, str] = {}  # by cell id, the node of its last try
        self.failing: float | None = None  # since when workers do not start
        self.began, self.asked, self.looked = (now := time.monotonic()), now, 0.0
        self.stopping = self.patient = False
        self._grow()

    @property
    def free(self) -> int:
        return len(self._free())

    def _free(self) -> list[_Slot]:
        return [slot for slot in self.slots if slot.result is None]

    def suits(self, job: Job) -> bool:
        return self._best(job) is not None

    def _best(self, job: Job) -> _Slot | None:
        """A free worker on another node than the last try's; on the same one if there are no others."""
        tried = {self.nodes.get(cell.id) for cell in job} - {None}
        others = {slot.started.node for slot in self.slots if slot.started} - tried
        return next((slot for slot in self._free() if not others or slot.started.node in others), None)

    def schedule(self, job: Job) -> None:
        slot = self._best(job)
        for cell in job:
            self.nodes[cell.id] = slot.started.node
        sources = {} if slot.started.shared else self._source_files(job)
        slot.job, slot.result = job, slot.actor.train.remote(job, sources)

    def _source_files(self, job: Job) -> SourceFiles:
        """Of the cells that a job starts from; without those that have failed."""
        sources = {(cell.init_from_study, cell.init_from) for cell in job if cell.init_from}
        files = {source: source_files(source[1], self.paths.of(source[0])) for source in sources}
        there = {source: found for source, found in files.items() if all(file.exists() for file in found)}
        return {source: tuple(file.read_bytes() for file in found) for source, found in there.items()}

    def ended(self, seconds: float) -> list[tuple[Job, End]]:
        self._grow()
        waited = {slot.result: slot for slot in self.slots if slot.result}
        if not waited:
            time.sleep(seconds)
            return []
        ray.wait(list(waited), timeout=seconds)
        ready, _ = ray.wait(list(waited), num_returns=len(waited), timeout=0)
        self._show_progress()
        return [end for result in ready if (end := self._received(waited[result]))]

    def _grow(self) -> None:
        """Starts workers where there is room."""
        now = time.monotonic()
        if self.stopping or now - self.looked < LOOK_EVERY:
            return
        self.looked, rooms = now, self.cluster.rooms(self.options.threads)
        room = max(1, sum(rooms.values()))  # one at least: a cluster that scales itself adds a node for it
        for _ in range(len(self.slots), self.workers if self.exactly else min(self.workers, room)):
            self.slots.append(self._new_slot())
        if not self.patient and now - self.began > PATIENCE and not any(slot.started for slot in self.slots):
            self.patient = True
            what = f"{self.options.threads} CPUs and {self.cluster.gpus:g} GPUs"
            self.log(
                f"no worker has started yet; each needs a Ray node with {what} to spare (`ray status` shows these)"
            )

    def _new_slot(self) -> _Slot:
        for mark in self.setup.marks:
            write_atomically(mark, "", durable=False)
        actor = ray.remote(Worker).options(
            num_cpus=self.options.threads,
            num_gpus=self.cluster.gpus,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=4,
            scheduling_strategy="SPREAD",
        )
        worker = actor.remote()
        return _Slot(worker, worker.start.remote(self.setup, self.cluster.sharing(self.options.threads)))

    def _received(self, slot: _Slot) -> tuple[Job, End] | None:
        """What a call returned: the end of a job, or None of a worker that has started. Raises ConfigError if workers
        cannot start."""
        result, job, slot.result, slot.job = slot.result, slot.job, None, None
        try:
            value = ray.get(result)
        except RayError as error:
            self._lose(slot)
            why = _first_line(error)
            if job:
                self._mark_stopped(job)
                return job, JobFailed(f"its Ray worker on {slot.started.host} was lost: {why}")
            self._has_not_started(why)
            return None
        if job:
            end, files = value
            return job, self._kept(slot, job, end, files)
        if isinstance(value, ConfigError):
            self._lose(slot)
            raise value
        slot.started, self.failing = value, None
        return None

    def _has_not_started(self, why: str) -> None:
        """Its node is lost, or cannot import vitcnn."""
        self.looked = now = time.monotonic()  # no other one at once
        if self.failing is None:
            self.failing = now
            self.log(f"a Ray worker did not start ({why}); it is tried again")
        if now - self.failing > FAILING and not any(slot.started for slot in self.slots):
            raise ConfigError(f"Ray workers do not start: {why}; is vitcnn installed on every node?")

    def _lose(self, slot: _Slot) -> None:
        ray.kill(slot.actor)
        self.slots.remove(slot)
        self.looked = 0.0  # replace it

    def _kept(self, slot: _Slot, job: Job, end: End, files: Mapping[str, bytes]) -> End:
        """Writes what came back from a node of its own, where it is not there already. Unwritable on a full disk."""
        if isinstance(end, BaseException):
            return end
        where = left_files(job, self.paths, self.options, self.setup.sources)
        try:
            for name, content in files.items():
                if name.startswith("progress") or not where[name].exists():
                    write_atomically(where[name], content)
        except OSError as error:
            return Unwritable(f"{error.filename}: {error.strerror}; the run is stopped")
        for cell_id, what in end.cells.items():
            if what == "done":
                shutil.rmtree(self.paths.cell(cell_id), ignore_errors=True)
        if self.stopping or "stopped" not in end.cells.values():
            return end
        self._lose(slot)  # it received SIGTERM
        lost = JobFailed(f"{slot.started.host} is shutting down")
        return end._replace(cells={i: lost if what == "stopped" else what for i, what in end.cells.items()})

    def _mark_stopped(self, job: Job) -> None:
        for cell in job:
            if progress := read_progress(self.paths.cell(cell.id)):
                write_progress(self.paths.cell(cell.id), **progress | {"stopped": True})

    def _show_progress(self) -> None:
        """Once a second, of workers that do not see this machine's folders."""
        if time.monotonic() - self.asked < 1.0:
            return
        self.asked = time.monotonic()
        for slot in self.slots:
            if slot.progress and ray.wait([slot.progress], timeout=0)[0]:
                with contextlib.suppress(RayError):  # also what its job ends with
                    for cell_id, progress in ray.get(slot.progress).items():
                        if slot.job and cell_id in {cell.id for cell in slot.job}:
                            write_atomically(self.paths.cell(cell_id) / "progress.json", json.dumps(progress))
                slot.progress = None
            if slot.job and not slot.started.shared and not slot.progress:
                slot.progress = slot.actor.progress.remote(slot.job)

    def stop(self) -> None:
        self.stopping = True
        for slot in self.slots:
            if slot.job:
                slot.actor.stop.remote()

    def close(self) -> None:
        if started := [slot.actor.close.remote() for slot in self.slots if slot.started]:
            ray.wait(started, num_returns=len(started), timeout=CLOSING)
        for slot in self.slots:
            ray.kill(slot.actor)
        for mark in self.setup.marks:
            mark.unlink(missing_ok=True)


def _first_line(error: RayError) -> str:
    """Of a message whose details fill a screen; the last line of a stack trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1 if isinstance(error, RayTaskError) or "creation task" in lines[0] else 0]

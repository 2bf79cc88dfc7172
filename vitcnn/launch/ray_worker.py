"""One worker on a node of a Ray cluster. It trains as the local launcher does, in a process of its own, so that a crash
costs a cell and not the imports of seven seconds, and the actor can answer meanwhile."""

import contextlib
import hashlib
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

import vitcnn
from vitcnn.data.sources.cache import FetchError, cache_folder, read_about
from vitcnn.data.sources.fetch import fetch
from vitcnn.data.sources.spec import DatasetSpec
from vitcnn.errors import ConfigError, JobFailed
from vitcnn.launch.jobs import Job
from vitcnn.launch.local import LocalPool
from vitcnn.launch.pool import End
from vitcnn.launch.worker import Options
from vitcnn.source_hash import code_hash
from vitcnn.store.paths import StudyPaths, write_atomically
from vitcnn.store.status import read_json
from vitcnn.system.processes import apart

SourceFiles = Mapping[tuple[str | None, str], tuple[bytes, ...]]  # by study (None: this one) and cell id


@dataclass(frozen=True)
class Setup:
    """What a worker is told when it starts. Paths are absolute, of the launching machine. `marks`: files that exist
    where its folders are shared; `code`: of users' networks, by path below the folder of their modules."""

    paths: StudyPaths
    options: Options
    sources: frozenset[str]
    fresh: bool
    dataset: DatasetSpec
    content: str | None  # of a folder: the hash of its images
    here: Path
    marks: tuple[Path, ...]
    code: Mapping[str, bytes]
    environment: Mapping[str, str]
    version: str


@dataclass(frozen=True)
class Started:
    """Where a worker is. `node`: Ray's id; `shared`: it sees the launching machine's folders."""

    node: str
    host: str
    shared: bool


class Worker:
    """The actor, with threads: `train` may wait while `stop` and `progress` are answered. Errors are returned, since
    Ray wraps those that are raised."""

    def start(self, setup: Setup, sharing: Mapping[str, int]) -> Started | ConfigError:
        """`sharing`: by node, how many workers share the memory that one trains in."""
        os.environ.update(setup.environment)
        node, host = ray.get_runtime_context().get_node_id(), platform.node()
        try:
            self._start(setup, sharing.get(node, max(sharing.values(), default=1)))
        except ConfigError as error:
            return ConfigError(f"{host}: {error}")
        except OSError as error:
            return ConfigError(f"{host}: {error.filename}: {error.strerror}")
        return Started(node, host, self.shared)

    def _start(self, setup: Setup, workers: int) -> None:
        if version() != setup.version:
            raise ConfigError("another version of vitcnn; install the same on every node")
        self.shared = all(mark.exists() for mark in setup.marks)
        self.sources, self.paths = setup.sources, setup.paths
        own = cache_folder().absolute() / "ray"
        if not self.shared:
            folder = own / _key(setup.paths)
            self.paths = replace(setup.paths, results=folder / "results", runs=folder / "runs")
        if self.shared and setup.here.is_dir():
            os.chdir(setup.here)
        else:
            code = own / f"code-{_key(setup.code)}"
            code.mkdir(parents=True, exist_ok=True)
            for name, content in setup.code.items():
                write_atomically(code / name, content)
            os.chdir(code)
        vars(sys.modules["__main__"]).pop("__file__", None)  # Ray's script: each new process would import it, and Ray
        self.options = replace(setup.options, workers=workers)
        try:
            apart(_check, setup.dataset, setup.content, self.options, threads=self.options.threads)
        except JobFailed as error:
            raise ConfigError(str(error)) from None
        self.pool = LocalPool(self.paths, self.options, 1, setup.sources, setup.fresh)

    def train(self, job: Job, sources: SourceFiles) -> tuple[End, dict[str, bytes]]:
        """The end of the job and, where the folders are not shared, the files it left. `sources`: files it needs."""
        for (study, cell_id), contents in sources.items():
            for path, content in zip(source_files(cell_id, self.paths.of(study)), contents, strict=True):
                write_atomically(path, content)
        self.pool.schedule(job)
        while not (ended := self.pool.ended(1.0)):
            pass
        ((_, end),) = ended
        return end, {} if self.shared else self._left(job)

    def _left(self, job: Job) -> dict[str, bytes]:
        found = {}
        for name, path in left_files(job, self.paths, self.options, self.sources).items():
            with contextlib.suppress(FileNotFoundError):
                found[name] = path.read_bytes()
                path.unlink()
        return found

    def progress(self, job: Job) -> dict[str, dict[str, Any]]:
        """Of the job's cells, by id, as progress.json has it."""
        found = {cell.id: read_json(self.paths.cell(cell.id) / "progress.json") for cell in job}
        return {cell_id: progress for cell_id, progress in found.items() if progress}

    def stop(self) -> None:
        self.pool.stop()

    def close(self) -> None:
        self.pool.close()


def source_files(cell_id: str, paths: StudyPaths) -> tuple[Path, Path]:
    """Those of a source cell that the cells need which start from it."""
    return paths.weights(cell_id), paths.record(cell_id)


def left_files(job: Job, paths: StudyPaths, options: Options, sources: frozenset[str]) -> dict[str, Path]:
    """The files that a job leaves for others, by a name that does not depend on the folders; some may be missing."""
    files = {"labels": paths.labels}
    for cell in job:
        files[f"record {cell.id}"] = paths.record(cell.id)
        files[f"progress {cell.id}"] = paths.cell(cell.id) / "progress.json"
        if options.keep_weights or cell.id in sources:
            files[f"weights {cell.id}"] = paths.weights(cell.id)
    return files


def _key(of: object) -> str:
    return hashlib.sha256(repr(of).encode()).hexdigest()[:12]


def version() -> str:
    """A hash of vitcnn's own code: cells of one study must be trained by the same."""
    root = Path(vitcnn.__file__).parent
    return code_hash({file.relative_to(root).as_posix(): file for file in root.rglob("*.py")})


def _check(dataset: DatasetSpec, content: str | None, options: Options) -> None:
    """In a process with torch. Fetches the data set if this node's cache lacks it. Raises ConfigError if this node
    cannot train."""
    from vitcnn.training.device import pick_device

    pick_device(options.device)

    def there() -> bool:
        about = read_about(dataset.place(options.data_folder))
        return about is not None and about["info"].get("content") == content

    if dataset.generated or there():
        return
    try:
        fetch(dataset, options.data_folder)
    except FetchError as error:
        raise ConfigError(str(error)) from None
    if not there():
        raise ConfigError(f"{dataset.name}: its images differ from those of the machine that started the run")

"""The ways in which `scripts/bench_ray` trains short cells, and a scheduler without any."""

import io
import itertools
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from rich.console import Console

from vitcnn.launch.jobs import Job
from vitcnn.launch.open_study import OpenStudy, open_study
from vitcnn.launch.pool import End
from vitcnn.launch.run_study import run_study
from vitcnn.launch.scheduler import run_jobs
from vitcnn.launch.worker import Done, Options, work
from vitcnn.store.paths import StudyPaths
from vitcnn.study.cell import Cell
from vitcnn.system.processes import apart

TEXT = """
dataset: digits
sizes: [50]
seeds: {seeds}
models: {{linear: {{C: [1.0]}}}}
budget: {{images_seen: 64}}
"""
WORKERS = 100  # of the pool whose jobs take no time
OPTIONS = Options(device="cpu", tracking="off")


class NoWork:
    """A pool whose jobs end at once."""

    def __init__(self, *_: object):
        self.jobs: list[Job] = []

    @property
    def free(self) -> int:
        return WORKERS - len(self.jobs)

    def suits(self, job: Job) -> bool:
        return True

    def schedule(self, job: Job) -> None:
        self.jobs.append(job)

    def ended(self, seconds: float) -> list[tuple[Job, End]]:
        ended, self.jobs = self.jobs, []
        return [(job, Done({cell.id: "done" for cell in job}, [])) for job in ended]

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass


def opened(folder: Path, seeds: int) -> OpenStudy:
    """A study of that many cells in a folder of its own."""
    folder.mkdir(parents=True)
    (folder / "many.yaml").write_text(TEXT.format(seeds=seeds))
    return open_study(folder / "many.yaml", results=folder / "results", runs=folder / "runs")


def called(study: OpenStudy) -> list[float]:
    """Milliseconds between the records of cells that are trained one after the other, in a process like a worker's."""
    apart(_train, study.cells, study.paths, threads=1)
    return between(study)


def _train(cells: Sequence[Cell], paths: StudyPaths) -> None:
    for cell in cells:
        work((cell,), paths, OPTIONS)


def launched(study: OpenStudy, **how: object) -> list[float]:
    """As `called`, of a run."""
    folder = study.paths.results.parent
    where = {"results": folder / "results", "runs": folder / "runs", "console": Console(file=io.StringIO())}
    outcome = run_study(folder / "many.yaml", **where, device="cpu", workers=1, wandb="off", **how)
    if len(outcome.done) != len(study.cells):
        raise SystemExit(f"{len(outcome.done)} of {len(study.cells)} cells are done: {outcome.failed}")
    return between(study)


def between(study: OpenStudy) -> list[float]:
    times = sorted(path.stat().st_mtime_ns for path in study.paths.records.glob("*.json"))
    return [(after - before) / 1e6 for before, after in itertools.pairwise(times)]


def megabytes() -> float:
    return psutil.Process().memory_info().rss / 1e6


def driver(folder: Path, cells: int) -> dict[str, float]:
    """Seconds and megabytes of a scheduler whose jobs take no time."""
    before = megabytes()
    study = opened(folder, cells)
    jobs, own = [(cell,) for cell in study.cells], megabytes()
    for cell in study.cells:
        cell.id  # noqa: B018  computed once, when the study is opened by a run
    began, cpu = time.perf_counter(), sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    outcome = run_jobs(jobs, study.paths, OPTIONS, WORKERS, log=lambda _: None, start_pool=NoWork)
    wall, used = time.perf_counter() - began, sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - cpu
    assert len(outcome.done) == cells
    after = megabytes()
    numbers = {"wall": wall, "each": wall / cells * 1000, "cpu": used, "own": own - before, "added": after - own}
    return numbers | {"workers": WORKERS, "cells": cells}

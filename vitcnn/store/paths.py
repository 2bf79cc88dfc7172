"""Paths of a study's files, and atomic writing."""

import os
import secrets
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class StudyPaths:
    """The folders of one study."""

    study: str
    results: Path = Path("results")
    runs: Path = Path("runs")

    def of(self, study: str | None) -> "StudyPaths":
        """Of another study beside this one; None: of this one."""
        return replace(self, study=study or self.study)

    @property
    def report(self) -> Path:
        return self.results / self.study

    @property
    def records(self) -> Path:
        return self.report / "records"

    @property
    def failures(self) -> Path:
        """Of cells whose loss is not finite; they would fail again."""
        return self.report / "failures"

    @property
    def dataset(self) -> Path:
        """The `KeptInfo` of a data set that is not built in."""
        return self.report / "dataset.json"

    @property
    def labels(self) -> Path:
        """Of the test images."""
        return self.report / "test_labels.json"

    @property
    def run(self) -> Path:
        return self.runs / self.study

    def record(self, cell_id: str) -> Path:
        return self.records / f"{cell_id}.json"

    def failure(self, cell_id: str) -> Path:
        return self.failures / f"{cell_id}.json"

    def cell(self, cell_id: str) -> Path:
        return self.run / cell_id

    def lock(self, cell_id: str) -> Path:
        """Outside the cells' folders, which are deleted when a cell finishes."""
        return self.run / "locks" / cell_id

    def weights(self, cell_id: str) -> Path:
        return self.run / "weights" / f"{cell_id}.pt"


def write_atomically(path: Path, content: str | bytes | memoryview, durable: bool = True) -> None:
    """Writes a file completely or leaves it unchanged; `durable`: also across a power failure (costs some
    milliseconds). Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")  # machines may share a process id
    try:
        with scratch.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)

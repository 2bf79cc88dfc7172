"""The state of a study's cells from its files (done, running, stopped, failed, waiting), and progress files.

Files only; loads neither torch nor timm.
"""

import contextlib
import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vitcnn.errors import ConfigError, Positive
from vitcnn.store.paths import StudyPaths, write_atomically
from vitcnn.store.records import read_record
from vitcnn.study.cell import Cell

LITTER = 60  # seconds after which a scratch file counts as abandoned
SILENCE = 600  # seconds without progress after which a worker counts as gone


def check_writable(paths: StudyPaths) -> None:
    """Raises ConfigError if results or runs cannot be written to, before anything is trained."""
    for folder, option in ((paths.records, "--results"), (paths.run, "--runs")):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise ConfigError(
                f"{folder}: not writable ({error.strerror or error}); choose another folder with {option}"
            ) from None


def quarantine(paths: StudyPaths) -> list[str]:
    """Renames invalid records and failures (truncated, edited), so that their cells are trained again. Returns
    messages."""
    messages = []
    for scratch in paths.records.glob(".*.json.*"):  # of a process that was killed while it wrote
        with contextlib.suppress(FileNotFoundError):
            if time.time() - scratch.stat().st_mtime > LITTER:
                scratch.unlink()
    for path in sorted(paths.records.glob("*.json")):
        try:
            read_record(path)
        except ValueError as error:
            messages.append(f"{error}; {_quarantine(path)}")
    for path in sorted(paths.failures.glob("*.json")):
        if "error" not in (read_json(path) or {}):
            messages.append(f"{path}: has no `error`; {_quarantine(path)}")
    return messages


def _quarantine(path: Path) -> str:
    names = (f"{path.name}.broken{f'-{k}' if k else ''}" for k in itertools.count())
    aside = path.rename(next(there for name in names if not (there := path.with_name(name)).exists()))
    return f"quarantined as {aside.name}; the cell is trained again unless it has another record"


@dataclass(frozen=True)
class State:
    """The state of a cell; `detail`: progress of a running or stopped cell (step, accuracy, …), or the error."""

    cell: Cell
    kind: Literal["done", "running", "stopped", "failed", "waiting"]
    detail: dict[str, Any] = field(default_factory=dict)


def failures(cells: Iterable[Cell], paths: StudyPaths) -> dict[str, str]:
    """By id, the errors of the cells whose loss was not finite."""
    there = {path.stem: path for path in paths.failures.glob("*.json")}
    ids = [cell.id for cell in cells] if there else []
    return {i: (read_json(there[i]) or {}).get("error", "its file is damaged") for i in ids if i in there}


def states(cells: Iterable[Cell], paths: StudyPaths) -> list[State]:
    """From files alone. Records are not opened: a cell that has one is done."""
    done = {path.stem for path in paths.records.glob("*.json")}
    failed = {path.stem for path in paths.failures.glob("*.json")} - done
    folders = {path.name for path in paths.run.iterdir()} if paths.run.is_dir() else set()
    return [_state(cell, cell.id, done, failed, folders, paths) for cell in cells]


def to_train(found: Iterable[State]) -> list[Cell]:
    """The cells that `vitcnn run` trains: neither done nor failed for good."""
    return [state.cell for state in found if state.kind != "done" and not state.detail.get("final")]


def _state(cell: Cell, cell_id: str, done: set[str], failed: set[str], folders: set[str], paths: StudyPaths) -> State:
    if cell_id in done:
        return State(cell, "done")
    if cell_id in failed:
        return State(cell, "failed", (read_json(paths.failure(cell_id)) or {}) | {"final": True})
    if cell_id not in folders:
        return State(cell, "waiting")
    if (failure := read_json(paths.cell(cell_id) / "failure.json")) is not None:
        return State(cell, "failed", failure)
    progress = read_progress(paths.cell(cell_id))
    if progress is None:
        return State(cell, "waiting")
    return State(cell, "running" if _alive(progress) else "stopped", progress)


def _alive(progress: dict) -> bool:
    if abs(time.time() - progress["time"]) > SILENCE or progress.get("stopped"):
        return False
    return progress["host"] != host() or process_runs(progress["pid"])


def host() -> str:
    """Where process ids have a meaning: the machine, and the namespace of a container on it."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:  # no Linux
        namespace = ""
    return f"{os.uname().nodename} {namespace}".strip()


def process_runs(pid: int) -> bool:
    """On this machine."""
    try:
        with contextlib.suppress(PermissionError):  # another user's runs
            os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def read_json(path: Path) -> dict | None:
    """None if the file is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


class Progress(BaseModel):
    """Where a worker is, as progress.json has it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    time: float
    pid: Positive
    host: str
    step: int = Field(ge=0)
    steps: int = Field(0, ge=0)
    phase: str = "step"
    accuracy: float | None = None
    images_per_s: float | None = None
    stopped: bool = False


def read_progress(folder: Path) -> dict[str, Any] | None:
    """None if the file is missing or damaged."""
    try:
        return Progress.model_validate(read_json(folder / "progress.json")).model_dump()
    except ValidationError:
        return None


def write_progress(folder: Path, **what: Any) -> None:
    """Writes progress.json: step, steps, phase, accuracy, images_per_s … Skipped if it cannot be written."""
    about = {"time": time.time(), "pid": os.getpid(), "host": host()}
    with contextlib.suppress(OSError):  # a full disk; everything worth keeping is written elsewhere, with errors
        write_atomically(folder / "progress.json", json.dumps(what | about), durable=False)

"""Where a study stands, from its files: what is done, running, stopped, failed or waiting; and signs of life.

Files only; loads neither torch nor timm.
"""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vitcnn.errors import ConfigError
from vitcnn.store.paths import StudyPaths, write_atomically
from vitcnn.store.records import read_record
from vitcnn.study.cell import Cell

LITTER = 60  # seconds after which a file that is still being written is nobody's
SILENCE = 600  # seconds without a sign of life after which a worker counts as gone


def check_writable(paths: StudyPaths) -> None:
    """Raises ConfigError where results or runs cannot be written to, before anything is trained."""
    for folder, option in ((paths.records, "--results"), (paths.run, "--runs")):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise ConfigError(
                f"{folder}: cannot be written to ({error.strerror or error}); {option} chooses another folder"
            ) from None


def quarantine(paths: StudyPaths) -> list[str]:
    """Renames files among the records and failures that are none (cut off, edited), so that their cells are trained
    again; what is to be said of it."""
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
            messages.append(f"{path}: says no error; {_quarantine(path)}")
    return messages


def _quarantine(path: Path) -> str:
    aside = path.replace(path.with_name(f"{path.name}.broken"))
    return f"quarantined as {aside.name}, the cell is trained again if that was all there is of it"


@dataclass(frozen=True)
class State:
    """Where a cell stands, and for one that runs or stopped its progress: step, accuracy, images_per_s, error …"""

    cell: Cell
    kind: Literal["done", "running", "stopped", "failed", "waiting"]
    detail: dict[str, Any] = field(default_factory=dict)


def failures(cells: Iterable[Cell], paths: StudyPaths) -> dict[str, str]:
    """By id, the errors of the cells whose loss was no number."""
    there = {path.stem: path for path in paths.failures.glob("*.json")}
    ids = [cell.id for cell in cells] if there else []
    return {i: (read_json(there[i]) or {}).get("error", "its file is not whole") for i in ids if i in there}


def states(cells: Iterable[Cell], paths: StudyPaths) -> list[State]:
    """From files alone, whether a run is going on or not. Records are not opened: one that is there is done."""
    done = {path.stem for path in paths.records.glob("*.json")}
    failed = {path.stem for path in paths.failures.glob("*.json")} - done
    folders = {path.name for path in paths.run.iterdir()} if paths.run.is_dir() else set()
    return [_state(cell, cell.id, done, failed, folders, paths) for cell in cells]


def to_train(found: Iterable[State]) -> list[Cell]:
    """What `vitcnn run` trains: what is neither done nor failed for good."""
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
    progress = read_json(paths.cell(cell_id) / "progress.json")
    if progress is None or not {"time", "pid", "host"} <= progress.keys():
        return State(cell, "waiting")
    return State(cell, "running" if _alive(progress) else "stopped", progress)


def _alive(progress: dict) -> bool:
    if abs(time.time() - progress["time"]) > SILENCE or progress.get("stopped"):
        return False
    return progress["host"] != os.uname().nodename or process_runs(progress["pid"])


def process_runs(pid: int) -> bool:
    """On this machine."""
    try:
        with contextlib.suppress(PermissionError):  # another user's runs
            os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def read_json(path: Path) -> dict | None:
    """None where there is no such file, or no whole one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def write_progress(folder: Path, **what: Any) -> None:
    """Leaves a sign of life: step, steps, phase, accuracy, images_per_s … Where it cannot be written, there is none."""
    about = {"time": time.time(), "pid": os.getpid(), "host": os.uname().nodename}
    with contextlib.suppress(OSError):  # a full disk; what is worth keeping is written elsewhere, and complains
        write_atomically(folder / "progress.json", json.dumps(what | about), durable=False)

"""The state of a study as a table: models × sizes, running and failed cells, and the time left."""

import time
from collections import Counter, defaultdict
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from vitcnn.store.paths import StudyPaths
from vitcnn.store.status import State, read_json

KINDS = ("done", "running", "stopped", "failed", "waiting")
COLOUR = {"done": "green", "running": "cyan", "stopped": "yellow", "failed": "red", "waiting": "dim"}


def table(all_states: Sequence[State], paths: StudyPaths, workers: int | None = None) -> RenderableType:
    """A rich renderable. `workers`: for the time left; by default the processes at work."""
    parts: list[RenderableType] = [headline(all_states, paths, workers), _grid(all_states)]
    if busy := [s for s in all_states if s.kind in ("running", "stopped")]:
        parts.append(_busy(busy))
    for state in all_states:
        if state.kind == "failed":
            parts.append(Text(f"failed: {state.cell.title}: {state.detail.get('error')}", "red"))
    return Group(*parts)


def headline(all_states: Sequence[State], paths: StudyPaths, workers: int | None = None) -> Text:
    """How many cells are done, running, stopped, failed and waiting, and the time left."""
    counts = Counter(state.kind for state in all_states)
    out = Text.assemble(
        (f"{paths.study}: ", "bold"),
        *((f"{counts[kind]} {kind}  ", COLOUR[kind]) for kind in KINDS if counts[kind]),
        f"of {len(all_states)} cells",
    )
    at_work = {(s.detail["host"], s.detail["pid"]) for s in all_states if s.kind == "running"}  # lanes share one
    left = seconds_left(all_states, speeds(all_states, paths), workers or len(at_work))
    if left is not None and counts["done"] < len(all_states):
        out.append(f"   about {duration(left)} left", "bold")
    return out


def _grid(all_states: Sequence[State]) -> Table:
    cells: dict[tuple[str, int], list[str]] = defaultdict(list)
    for state in all_states:
        name = state.cell.model + (" (long)" if state.cell.role == "budget-check" else "")
        cells[name, state.cell.n].append(state.kind)
    names = list(dict.fromkeys(name for name, _ in cells))
    sizes = sorted({n for _, n in cells})
    out = Table("model", *(f"n={n:,}" for n in sizes), title="cells done", title_justify="left")
    for name in names:
        row = []
        for n in sizes:
            kinds = Counter(cells[name, n])
            worst = next((k for k in ("failed", "running", "stopped", "waiting") if kinds[k]), "done")
            row.append(f"[{COLOUR[worst]}]{kinds['done']}/{kinds.total()}[/]" if kinds else "")
        out.add_row(escape(name), *row)
    return out


def _busy(busy: Sequence[State]) -> Table:
    out = Table("cell", "", "step", "validation accuracy", "images/s")
    for state in busy:
        p = state.detail
        accuracy = "" if p.get("accuracy") is None else f"{p['accuracy']:.1%}"
        speed = "" if not p.get("images_per_s") else f"{p['images_per_s']:.0f}"
        steps = f"{p['step']:,} of {p['steps']:,}" if p.get("steps") else ""
        out.add_row(escape(state.cell.title), Text(state.kind, COLOUR[state.kind]), steps, accuracy, speed)
    return out


def speeds(all_states: Sequence[State], paths: StudyPaths) -> dict[str, float]:
    """Images/s of each model: of a running cell if there is one, else of a finished record (from any machine)."""
    out: dict[str, float] = {}
    for state in all_states:
        if state.kind == "running" and (speed := state.detail.get("images_per_s")):
            out[state.cell.model] = speed
    for state in all_states:
        if state.kind == "done" and not state.cell.is_linear and state.cell.model not in out:
            record = read_json(paths.record(state.cell.id)) or {}
            if speed := record.get("cost", {}).get("images_per_s"):
                out[state.cell.model] = speed
    return out


def seconds_left(all_states: Sequence[State], speed: dict[str, float], workers: int) -> float | None:
    """None if no speed is known or no worker is running. A model without a speed counts as the mean of the others."""
    if not speed or not workers:
        return None
    mean, left, now = sum(speed.values()) / len(speed), 0.0, time.time()
    for state in all_states:
        if state.kind == "done" or state.cell.is_linear or state.detail.get("final"):
            continue
        share = state.detail.get("step", 0) / max(1, state.cell.steps)
        pace = speed.get(state.cell.model, mean)
        seconds = state.cell.images_seen * (1 - share) / pace
        if state.kind == "running":
            seconds = max(0.0, seconds - (now - state.detail["time"]))
        left += seconds
    return left / workers


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"

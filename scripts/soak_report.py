"""What `scripts/soak` compares and writes."""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch

from vitcnn.inspect.benchmark import machine
from vitcnn.report import markdown
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import read_record
from vitcnn.study.cell import Cell
from vitcnn.training.provenance import made_by

PHASES = ("start", "step", "validation", "checkpoint", "scoring", "record")
WHO = ("worker", "launcher", "both")
STOPPED = {"launcher": "its launcher", "all": "all its processes", "nothing": "nothing"}


def outcome(cell: Cell, paths: StudyPaths) -> tuple:
    record = read_record(paths.record(cell.id))
    return record.test.bits, record.weights, record.curve, record.validation, record.train


def same(cell: Cell, paths: StudyPaths, expected: StudyPaths) -> str | None:
    """What differs; None if nothing does."""
    try:
        one, other = read_record(paths.record(cell.id)), read_record(expected.record(cell.id))
    except (OSError, ValueError) as error:
        return str(error)
    if outcome(cell, paths) == outcome(cell, expected):
        return None
    return f"{cell.title}: another result than the uninterrupted one ({one.weights}, {other.weights})"


def report(
    command: str,
    kills: Counter[tuple[str, str]],
    fences: Counter[tuple[str, bool]],
    ends: Sequence[float],
    found: Mapping[str, int],
) -> str:
    """`found`: numbers of cells, rounds, compared records, of those that differ, and of cells trained twice."""
    rows = [[phase, *(str(kills[who, phase]) for who in WHO)] for phase in PHASES]
    missed = [phase for phase in PHASES if not any(p == phase for _, p in kills)]
    both = [[text, *(str(fences[what, own]) for own in (False, True))] for what, text in STOPPED.items()]
    provenance, slowest = made_by(torch.device("cpu")), max(ends, default=0.0)
    return (
        f"# Kills survived\n\nWritten by `{command}`: "
        f"{machine(torch.device('cpu'))}, {provenance['date'][:10]}, torch {provenance['torch']}. "
        f"{kills.total()} times `kill -9` in {found['rounds']} rounds of {found['cells']} cells; {found['compared']} "
        f"records compared with those of an uninterrupted run (test bits, weight hashes, curves): {found['differ']} "
        f"differ. Cells trained by two processes at once: {found['doubled']}.\n\n"
        f"Kills, by what the cell was doing and by who was killed:\n\n{markdown.table(['phase', *WHO], rows)}\n"
        + (f"Never hit: {', '.join(missed)}.\n" if missed else "Every phase was hit.\n")
        + "\nA second run of the same study was started while the first was stopped (SIGSTOP), and the first then "
        f"continued:\n\n{markdown.table(['stopped', 'same process ids', 'another process-id namespace'], both)}\n"
        f"Asked to end (SIGTERM) {len(ends)} times in between: the slowest end took {slowest:.1f} s.\n"
    )

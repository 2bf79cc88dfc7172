"""Which waiting cells can be trained: cells with `init_from` need the weights of their source cell."""

from collections.abc import Sequence

from vitcnn.errors import ConfigError
from vitcnn.store.paths import StudyPaths
from vitcnn.study.cell import Cell


def with_sources(waiting: Sequence[Cell], paths: StudyPaths) -> tuple[list[Cell], list[Cell]]:
    """(cells that can be trained, cells whose source cell failed for good). Raises ConfigError if the weights of a
    source cell are missing and no waiting cell will produce them."""
    coming = {cell.id for cell in waiting}
    lost: set[str] = set()
    kept_none: list[Cell] = []
    untrained: list[Cell] = []
    for cell in waiting:
        source_paths = paths.of(cell.init_from_study)
        here = not cell.init_from_study
        if here and cell.init_from in lost:
            lost.add(cell.id)
        elif not cell.init_from or (here and cell.init_from in coming) or source_paths.weights(cell.init_from).exists():
            continue
        elif source_paths.failure(cell.init_from).exists():
            lost.add(cell.id)
        else:
            (kept_none if source_paths.record(cell.init_from).exists() else untrained).append(cell)
    if untrained:
        studies = sorted({paths.of(cell.init_from_study).study for cell in untrained})
        raise ConfigError(
            f"{_describe(untrained)} of {', '.join(studies)}, which {'are' if len(untrained) > 1 else 'is'} not "
            "trained yet: `vitcnn run` that study first, with --keep-weights"
        )
    if kept_none:
        records = sorted({str(paths.of(cell.init_from_study).record(cell.init_from)) for cell in kept_none})
        again = " by a run of that study with --keep-weights" if any(cell.init_from_study for cell in kept_none) else ""
        raise ConfigError(
            f"{_describe(kept_none)}, which were not kept; delete these records to train the cells again{again}:\n  "
            + "\n  ".join(records)
        )
    return [cell for cell in waiting if cell.id not in lost], [cell for cell in waiting if cell.id in lost]


def _describe(cells: Sequence[Cell]) -> str:
    if len(cells) == 1:
        return f"{cells[0].title} needs the weights of cell {cells[0].init_from}"
    return f"{len(cells)} cells ({cells[0].title} and others) need the weights of cells"

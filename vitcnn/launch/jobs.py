"""Groups of cells that one worker trains in parallel."""

from collections.abc import Sequence

from vitcnn.errors import evenly
from vitcnn.study.cell import Cell

LANES = 16  # default number of lanes on a GPU

Job = tuple[Cell, ...]


def make_jobs(waiting: Sequence[Cell], lanes: str, device: str) -> list[Job]:
    """`lanes`: auto, or the most cells trained in parallel. On a CPU auto is 1, because cells share its cores."""
    most = (LANES if device == "cuda" else 1) if lanes == "auto" else int(lanes)
    return jobs(waiting, most)


def jobs(cells: Sequence[Cell], lanes: int) -> list[Job]:
    """Groups cells of one model on the same images with the same number of steps, whatever their n, seed and recipe,
    into jobs of at most `lanes`, ordered by each group's first cell. Logistic regression is always alone."""
    groups: dict[object, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.id if lanes == 1 or cell.is_linear else _shared(cell), []).append(cell)
    return [tuple(part) for group in groups.values() for part in evenly(group, lanes)]


def _shared(cell: Cell) -> str:
    """A key that is equal for cells that may be trained in parallel. Cells with `init_from` may have to wait for their
    source cells, so they form groups of their own."""
    same = {"dataset", "validation", "arch", "resolution", "content"}
    return "\n".join(
        map(str, (cell.model_dump_json(include=same), cell.steps, cell.recipe.batch_size, bool(cell.init_from)))
    )

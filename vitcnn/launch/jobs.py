"""Which cells a worker trains as one program."""

from collections.abc import Collection, Sequence

from vitcnn.base import evenly
from vitcnn.cell import Cell

MOST = 32  # cells of a cohort, where nobody says otherwise: what is finished comes in smaller portions
OWN = {"lr", "weight_decay", "augment", "init"}  # of a recipe: what may differ within a cohort

Job = tuple[Cell, ...]


def jobs(cells: Sequence[Cell], most: int, alone: Collection[str] = ()) -> list[Job]:
    """Groups cells that can train as one program (same network, data set and number of steps, whatever their n, seed
    and learning rate) into jobs of at most `most`, ordered by each group's first cell. Alone in theirs: entrants named
    in `alone`, cells that begin with another's weights, and what is not trained by gradient descent."""
    groups: dict[object, list[Cell]] = {}
    for cell in cells:
        single = most == 1 or cell.entrant in alone or cell.start or not cell.recipe
        groups.setdefault(cell.id if single else _program(cell), []).append(cell)
    return [tuple(part) for group in groups.values() for part in evenly(group, most)]


def _program(cell: Cell) -> str:
    """The same for cells that one program can train."""
    same = {"dataset", "validation", "model", "resolution", "content", "shuffle"}
    recipe = cell.recipe.model_dump_json(exclude=OWN)
    return "\n".join([cell.model_dump_json(include=same), recipe, str(cell.steps)])

"""Which other cell's trained weights a cell begins with."""

from collections.abc import Sequence

from vitcnn.base import ConfigError, suggest
from vitcnn.cell import Cell
from vitcnn.config import Entrant
from vitcnn.data.cache import Info
from vitcnn.entrants import Imported
from vitcnn.networks import CNNAttention, Linear
from vitcnn.records import Places


def start_above(cell: Cell, name: str | None, above: Sequence[Cell]) -> str | None:
    """The id of the cell that `cell` begins with: of the entrant `name`, with the same shuffle; `above`: the cells of
    the same n and seed."""
    if name is None:
        return None
    if cell.recipe is None:
        raise ConfigError(f"entrants.{cell.entrant}.start: logistic regression begins with nobody's weights")
    where = f"entrants.{cell.entrant}.start"
    found = [c for c in above if c.entrant == name and c.shuffle == cell.shuffle]
    if not found:
        names = {c.entrant for c in above if c.recipe}
        raise ConfigError(f"{where}: no network further up is called {name!r}{suggest(name, names)}")
    if cell.role == "search":
        raise ConfigError(f"{where}: in a search {name!r} has many cells at one n; leave out `grid` or `start`")
    rewritten = isinstance(cell.model, CNNAttention) and found[0].model.model == "cnn"
    wanted = found[0].model.model_dump(exclude={"model"} if rewritten else set())
    own = cell.model.model_dump()
    if any(own.get(key) != value for key, value in wanted.items()):
        raise ConfigError(f"{where}: {name!r} is another network; its weights do not fit {cell.entrant!r}")
    return found[0].id


def starters(entrant: Entrant, seeds: Sequence[int], data: Info, before: Sequence[Cell], its: Info) -> dict[int, Cell]:
    """By seed, the cells whose weights `entrant` begins with; `before`, `its`: another study's cells and data. Raises
    ConfigError where there are none, or not of this network."""
    where, how = f"entrants.{entrant.name}.pretrain", entrant.pretrain
    if isinstance(entrant.model, Linear | Imported | CNNAttention):
        raise ConfigError(f"{where}: {entrant.model.model} cannot begin with another study's weights")
    same = [c for c in before if c.model == entrant.model and how.entrant in (None, c.entrant) and c.role == "main"]
    if not same:
        named = f"is called {how.entrant!r} and " if how.entrant else ""
        raise ConfigError(f"{where}: no entrant of {how.study} {named}is the network of {entrant.name!r}")
    if len({c.entrant for c in same}) > 1 or len({c.shuffle for c in same}) > 1:
        raise ConfigError(
            f"{where}: {how.study} has several of that network; say which `entrant`, in a study of one setting"
        )
    for key, wanted in (("n", how.n), *(("seed", seed) for seed in seeds)):
        known = sorted({getattr(c, key) for c in same})
        if wanted not in known:
            raise ConfigError(
                f"{where}: {how.study} has no {key} = {wanted:,}; known: {', '.join(f'{v:,}' for v in known)}"
            )
    if its.channels != data.channels:
        raise ConfigError(
            f"{where}: images of {its.title} are of {its.channels} channel{'s' * (its.channels > 1)}, those of "
            f"{data.title} of {data.channels}"
        )
    return {c.seed: c for c in same if c.n == how.n}


def with_starters(waiting: Sequence[Cell], places: Places) -> tuple[list[Cell], list[Cell]]:
    """Those that can be trained, and those whose starter failed for good. Raises ConfigError where a starter's weights
    are missing and no cell that is waiting will leave them."""
    coming = {cell.id for cell in waiting}
    lost: set[str] = set()
    for cell in waiting:
        its = places.of(cell.start_study)
        if cell.start in lost:
            lost.add(cell.id)
        elif not cell.start or cell.start in coming or its.weights(cell.start).exists():
            continue
        elif its.failure(cell.start).exists():
            lost.add(cell.id)
        elif its.record(cell.start).exists():
            again = " by a run with --keep-weights" if cell.start_study else ""
            raise ConfigError(
                f"{cell.title} begins with the weights of cell {cell.start}, which is done and kept none; delete "
                f"{its.record(cell.start)}, and it is trained again{again}"
            )
        else:
            raise ConfigError(
                f"{cell.title} begins with the weights of cell {cell.start} of {its.study}, which is not trained "
                "yet: `vitcnn run` that study first, with --keep-weights"
            )
    return [cell for cell in waiting if cell.id not in lost], [cell for cell in waiting if cell.id in lost]

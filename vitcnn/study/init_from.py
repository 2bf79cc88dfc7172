"""Which other cell's trained weights a cell begins with."""

from collections.abc import Sequence

from vitcnn.data.sources.cache import Info
from vitcnn.errors import ConfigError, suggest
from vitcnn.models.config import CNNAttention, Linear
from vitcnn.models.registry import Imported
from vitcnn.study.cell import Cell
from vitcnn.study.schema import Study, StudyModel


def source_above(cell: Cell, name: str | None, above: Sequence[Cell]) -> str | None:
    """The id of the cell that `cell` begins with: of the model `name`, with the same permutation; `above`: the cells of
    the same n and seed."""
    if name is None:
        return None
    if cell.is_linear:
        raise ConfigError(f"models.{cell.model}.init_from: logistic regression begins with nobody's weights")
    where = f"models.{cell.model}.init_from"
    found = [c for c in above if c.model == name and c.permutation == cell.permutation]
    if not found:
        names = {c.model for c in above if not c.is_linear}
        known = suggest(name, names) if names else "; none stands above it"
        raise ConfigError(f"{where}: no network further up is called {name!r}{known}")
    if cell.role == "search":
        raise ConfigError(f"{where}: in a search {name!r} has many cells at one n; leave out `grid` or `init_from`")
    rewritten = isinstance(cell.arch, CNNAttention) and found[0].arch.name == "cnn"
    wanted = found[0].arch.model_dump(exclude={"name"} if rewritten else set())
    own = cell.arch.model_dump()
    if any(own.get(key) != value for key, value in wanted.items()):
        raise ConfigError(f"{where}: {name!r} is another network; its weights do not fit {cell.model!r}")
    return found[0].id


def source_cells(
    model: StudyModel, study: Study, data: Info, before: Sequence[Cell], other_data: Info
) -> dict[int, Cell]:
    """By seed, the cells whose weights `model` of `study` begins with; `before`, `its`: another study's cells and
    data. Raises ConfigError where there are none, or not of this network, or where they may have seen this study's
    validation images."""
    where, how = f"models.{model.name}.pretrain", model.pretrain
    if isinstance(model.arch, Linear | Imported | CNNAttention):
        raise ConfigError(f"{where}: {model.arch.name} cannot begin with another study's weights")
    same = [c for c in before if c.arch == model.arch and how.model in (None, c.model) and c.role == "main"]
    if not same:
        named = f"is called {how.model!r} and " if how.model else ""
        raise ConfigError(f"{where}: no model of {how.study} {named}is the network of {model.name!r}")
    if len({c.model for c in same}) > 1 or len({c.permutation for c in same}) > 1:
        raise ConfigError(
            f"{where}: {how.study} has several of that network; say which `model`, in a study of one setting"
        )
    for key, wanted in (("n", how.n), *(("seed", seed) for seed in study.seeds)):
        known = sorted({getattr(c, key) for c in same})
        if wanted not in known:
            raise ConfigError(
                f"{where}: {how.study} has no {key} = {wanted:,}; known: {', '.join(f'{v:,}' for v in known)}"
            )
    _check_held_out(where, study, data, how.study, other_data, same[0].validation)
    if other_data.channels != data.channels:
        raise ConfigError(
            f"{where}: images of {study.before[how.study].dataset_spec.title} are of {other_data.channels} "
            f"channel{'s' * (other_data.channels > 1)}, those of {study.dataset_spec.title} of {data.channels}"
        )
    return {c.seed: c for c in same if c.n == how.n}


def _check_held_out(where: str, study: Study, data: Info, file: str, other_data: Info, kept: int) -> None:
    """Raises ConfigError where validation images of `study` may be among the training images of the one of `file`,
    which keeps `kept` for validation; fewer of one data set are among more."""
    own, other = study.dataset_spec, study.before[file].dataset_spec
    same_files = other_data.content is not None and other_data.content == data.content
    if other.generated or not (same_files or other.images_key == own.images_key):
        return
    if other.name != own.name and not same_files:
        raise ConfigError(
            f"{where}: {file} calls these images {other.name}, this study {own.name}; give both the same name"
        )
    if study.validation > kept:
        raise ConfigError(
            f"{where}: {file} keeps {kept:,} images of {own.name} for validation, this study {study.validation:,}: it "
            "was trained on some of them; give both the same `validation`"
        )

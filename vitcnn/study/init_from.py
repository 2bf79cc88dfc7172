"""`init_from` and `pretrain`: which trained weights a cell starts from."""

from collections.abc import Sequence

from vitcnn.data.sources.cache import Info
from vitcnn.errors import ConfigError, suggest
from vitcnn.models.config import CNNAttention, Linear
from vitcnn.models.registry import Imported
from vitcnn.study.cell import Cell
from vitcnn.study.schema import Study, StudyModel


def source_above(cell: Cell, name: str | None, above: Sequence[Cell]) -> str | None:
    """The id of the source cell of `cell`: of model `name`, with the same permutation and budget. `above`: cells of the
    same n and seed."""
    if name is None:
        return None
    if cell.is_linear:
        raise ConfigError(f"models.{cell.model}.init_from: logistic regression does not support `init_from`")
    where = f"models.{cell.model}.init_from"
    place = (name, cell.permutation, cell.budget)
    found = [c for c in above if (c.model, c.permutation, c.budget) == place]
    if not found:
        names = {c.model for c in above if not c.is_linear}
        known = suggest(name, names) if names else "; there is none above it"
        raise ConfigError(f"{where}: no network above it is called {name!r}{known}")
    if cell.role == "search":
        raise ConfigError(f"{where}: a search trains many cells of {name!r} at one n; remove `grid` or `init_from`")
    rewritten = isinstance(cell.arch, CNNAttention) and found[0].arch.name == "cnn"
    wanted = found[0].arch.model_dump(exclude={"name"} if rewritten else set())
    own = cell.arch.model_dump()
    if any(own.get(key) != value for key, value in wanted.items()):
        raise ConfigError(f"{where}: {name!r} is a different network; its weights do not fit {cell.model!r}")
    return found[0].id


def source_cells(
    model: StudyModel, study: Study, data: Info, before: Sequence[Cell], other_data: Info
) -> dict[int, Cell]:
    """The source cells of `model` by seed. `before`, `other_data`: the cells and the data set of the other study.
    Raises ConfigError if there is none of this network, or if one may have been trained on this study's validation
    images."""
    where, how = f"models.{model.name}.pretrain", model.pretrain
    if isinstance(model.arch, Linear | Imported | CNNAttention):
        raise ConfigError(f"{where}: {model.arch.name} does not support `pretrain`")
    same = [c for c in before if c.arch == model.arch and how.model in (None, c.model) and c.role == "main"]
    if not same:
        named = f"is called {how.model!r} and " if how.model else ""
        raise ConfigError(f"{where}: no model of {how.study} {named}has the same network as {model.name!r}")
    if len({(c.model, c.permutation, c.budget) for c in same}) > 1:
        raise ConfigError(
            f"{where}: {how.study} has several models or settings of that network; "
            "name the `model`, in a study with one permutation and budget"
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
            f"{where}: images of {study.before[how.study].dataset_spec.title} have {other_data.channels} "
            f"channel{'s' * (other_data.channels > 1)}, those of {study.dataset_spec.title} {data.channels}"
        )
    return {c.seed: c for c in same if c.n == how.n}


def _check_held_out(where: str, study: Study, data: Info, file: str, other_data: Info, kept: int) -> None:
    """Raises ConfigError if validation images of `study` may be training images of the study in `file`, which holds out
    `kept` images. Of one data set, a smaller validation set is contained in a larger one."""
    own, other = study.dataset_spec, study.before[file].dataset_spec
    same_files = other_data.content is not None and other_data.content == data.content
    if other.generated or not (same_files or other.images_key == own.images_key):
        return
    if other.name != own.name and not same_files:
        raise ConfigError(
            f"{where}: {file} names this data set {other.name}, this study {own.name}; use the same name in both"
        )
    if study.validation > kept:
        raise ConfigError(
            f"{where}: {file} holds out {kept:,} images of {own.name} for validation, this study "
            f"{study.validation:,}, so it was trained on some of them; use the same `validation` in both"
        )

"""The schema of a study: one YAML file, read into frozen models that reject unknown keys.

dataset: digits
sizes: [50, 200, 1000]
seeds: 3                                  # or a list
models: {vit: {}, deep: {arch: vit, depth: 8}, cnn: {}, linear: {}}
budget: {images_seen: 20_000}             # or {epochs: 50}, or a list of budgets
recipe: {augment: "shift:1"}              # for every model
recipes: ../results/digits/search/recipes.yaml   # found by a search, or a list of them
grid: {lr: [0.001, 0.003]}                # makes the study a search: one cell a value (or several grids)
permutation: {patches: 1, pixels: 0.5}          # or a list of such settings
"""

import itertools
import math
import reprlib
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from vitcnn.data.permutation import Permutation
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.data.sources.spec import DatasetSpec
from vitcnn.errors import ConfigError, Frozen, Positive, suggest
from vitcnn.models.config import Linear
from vitcnn.models.registry import Arch, kind
from vitcnn.study.budget import Budget, BudgetCheck, Pretrain, ascending, check_longer
from vitcnn.study.found import FoundRecipe
from vitcnn.study.recipe import Recipe

MOST_CELLS, MOST_SEEDS = 100_000, 10_000


class StudyModel(Frozen):
    """One model in the comparison, under the name that tables and figures use."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][^$\p{Cc}\u2028\u2029]*$", max_length=80)]
    arch: Arch
    recipe: dict[str, Any] = Field(default={})
    init_from: str | None = None  # a model above: each cell starts from the trained weights of that model's cell
    pretrain: Pretrain | None = None  # each cell starts from a cell of another study, of the same seed
    permuted: bool = True  # False: its cells are trained once, without `permutation`, and stand in every setting

    @property
    def is_linear(self) -> bool:
        return isinstance(self.arch, Linear)


def by_name(models: Any) -> Any:
    """`[vit, {deep: {depth: 8}}]` as one mapping from names to options; anything else is returned unchanged.

    Raises ValueError if a name appears twice.
    """
    if not isinstance(models, list) or not all(isinstance(item, str | dict) for item in models):
        return models
    pairs = [pair for item in models for pair in (item.items() if isinstance(item, dict) else [(item, None)])]
    _once(str(name) for name, _ in pairs)
    return dict(pairs)


def several(value: Any) -> Any:
    """A string or None as a list; anything else unchanged."""
    return [value] if isinstance(value, str) else [] if value is None else value


def _once(values: Iterable[Any]) -> None:
    if twice := sorted(value for value, count in Counter(values).items() if count > 1):
        raise ValueError(f"{', '.join(map(str, twice[:10]))} appears more than once")


class Trainer(Frozen):
    """How a network is trained, under Lightning's names. Not part of a cell's id."""

    devices: Annotated[int, Field(gt=0, le=64)] = 1  # that share each of its batches
    strategy: Literal["ddp"] = "ddp"  # one process a device, averaged gradients


class Study(Frozen):
    """One YAML file of `configs/`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$", max_length=80)]
    dataset: str
    sizes: Annotated[tuple[Positive, ...], Field(min_length=1)]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    models: Annotated[tuple[StudyModel, ...], Field(min_length=1)]
    budget: Annotated[tuple[Budget, ...], Field(min_length=1)]  # several: every cell once at each, the smallest first
    resolution: Positive | None = None  # pixels a side that a folder's images are kept at; None: see configs/README.md
    validation: Positive | None = None  # images; None: the data set's own number
    recipe: Recipe = Recipe()
    recipes: tuple[str, ...] = ()  # a file that `vitcnn select` wrote, relative to this one, or several
    grid: tuple[dict[str, Annotated[list[Any], Field(min_length=1)]], ...] = ()  # several: the points of each
    trainer: Trainer = Trainer()
    pair: tuple[str, str] = ("cnn", "vit")  # the gap is first minus second
    budget_check: BudgetCheck | None = None
    permutation: tuple[Permutation, ...] = ()  # several: every cell is trained at each
    chosen: dict[str, tuple[FoundRecipe, ...]] = Field(default={})  # the contents of `recipes`, read in by load_study
    search: str | None = None  # the search that `recipes` came from
    before: dict[str, "Study"] = Field(default={})  # the studies that `pretrain` names, by file, read in by load_study

    @cached_property
    def dataset_spec(self) -> DatasetSpec:
        """Of `dataset` at `resolution`. Raises ConfigError if this data set has no choice of resolution."""
        return parse_dataset(self.dataset, self.resolution)

    def found(self, model: StudyModel) -> tuple[FoundRecipe, ...]:
        """What `recipes` has for a model, by its name or else its architecture's; empty for none."""
        return self.chosen.get(model.name) or self.chosen.get(model.arch.name) or ()

    @field_validator("dataset")
    @classmethod
    def _one_name(cls, value: str) -> str:
        try:
            return parse_dataset(value).name
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @field_validator("recipes", mode="before")
    @classmethod
    def _files(cls, value: Any) -> Any:
        return several(value)

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds(cls, value: Any) -> Any:
        if not isinstance(value, int) or isinstance(value, bool):
            return value
        if not 1 <= value <= MOST_SEEDS:
            raise ValueError(f"give a list of seeds, or their number: 1 to {MOST_SEEDS:,}, not {value:,}")
        return tuple(range(value))

    @field_validator("sizes", "seeds")
    @classmethod
    def _sorted_once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        _once(value)
        return tuple(sorted(value))

    @field_validator("budget", mode="before")
    @classmethod
    def _budgets(cls, value: Any) -> Any:
        if not isinstance(value, dict | list | tuple | Budget):
            raise ValueError(f"a budget such as {{images_seen: 20_000}}, or a list of them, not {reprlib.repr(value)}")
        return (value,) if isinstance(value, dict | Budget) else value

    @field_validator("budget")
    @classmethod
    def _of_one_kind(cls, value: tuple[Budget, ...]) -> tuple[Budget, ...]:
        return ascending(value)

    @field_validator("permutation", mode="before")
    @classmethod
    def _settings(cls, value: Any) -> Any:
        if value is not None and not isinstance(value, dict | list | tuple):
            raise ValueError(f"give a setting such as {{patches: 1}}, or a list of them, not {reprlib.repr(value)}")
        return (value,) if isinstance(value, dict) else value or ()

    @field_validator("permutation")
    @classmethod
    def _settings_once(cls, value: tuple[Permutation, ...]) -> tuple[Permutation, ...]:
        if len(set(value)) < len(value):
            raise ValueError("the same setting appears more than once")
        return value

    @field_validator("models", mode="before")
    @classmethod
    def _models(cls, value: Any) -> Any:
        value = by_name(value)
        if isinstance(value, tuple):  # made in Python
            return value
        if not isinstance(value, dict):
            raise ValueError(f"give a list of names, or names with options, not {reprlib.repr(value)}")
        models = []
        for name, options in value.items():
            if not isinstance(name, str):
                raise ValueError(f"{name!r} is not a valid name; write it in quotes")
            if not isinstance(options or {}, dict):
                raise ValueError(f"{name}: options must be a mapping of keys to values, not {reprlib.repr(options)}")
            options = dict(options or {})
            own = {key: options.pop(key) for key in ("recipe", "init_from", "pretrain", "permuted") if key in options}
            options["name"] = options.pop("arch", name)
            kind(options)
            models.append({"name": name, "arch": options, **own})
        return tuple(models)

    @field_validator("grid", mode="before")
    @classmethod
    def _one_grid(cls, value: Any) -> Any:
        return (value,) if isinstance(value, dict) and value else value or ()

    @field_validator("grid")
    @classmethod
    def _grid(cls, value: tuple[dict[str, list], ...]) -> tuple[dict[str, list], ...]:
        for key in itertools.chain(*value):
            if key not in Recipe.model_fields:
                raise ValueError(f"unknown recipe field {key!r}{suggest(key, Recipe.model_fields)}")
        return value

    @property
    def searched(self) -> list[str]:
        """The recipe fields that a search varies."""
        return list(dict.fromkeys(itertools.chain(*self.grid)))

    @field_validator("pair")
    @classmethod
    def _two(cls, value: tuple[str, str]) -> tuple[str, str]:
        if value[0] == value[1]:
            raise ValueError(f"give two different models, not {value[0]!r} twice")
        return value

    @model_validator(mode="after")
    def _begins_once(self) -> "Study":
        for model in self.models:
            if model.init_from and model.pretrain:
                raise ValueError(f"models.{model.name}: give either `init_from` or `pretrain`")
        return self

    @model_validator(mode="after")
    def _check_of_a_budget(self) -> "Study":
        if len(self.budget) > 1 and self.grid:
            raise ValueError("budget: a search (`grid`) takes one budget, not a list")
        check_longer(self.budget, self.budget_check)
        return self

    @model_validator(mode="after")
    def _permuted(self) -> "Study":
        networks = [model for model in self.models if not model.is_linear]
        for model in self.models:
            if not self.permutation and "permuted" in model.model_fields_set:
                raise ValueError(f"models.{model.name}.permuted: the study has no `permutation`")
        if self.permutation and networks and not any(model.permuted for model in networks):
            raise ValueError("permutation: no model is trained under it; leave it out, or a `permuted: false`")
        return self

    @model_validator(mode="after")
    def _not_too_many(self) -> "Study":
        count = len(self.sizes) * len(self.seeds) * len(self.models) * len(self.budget)
        count *= max(1, len(self.permutation))
        count *= max(1, sum(math.prod(map(len, grid.values())) for grid in self.grid))
        if count > MOST_CELLS:
            raise ValueError(
                f"the study has {count:,} cells, more than {MOST_CELLS:,}; use fewer sizes, seeds or trials"
            )
        return self

"""A study becomes cells. A cell is what is trained; its id hashes what decides the result, and nothing else."""

import hashlib
import itertools
import json
import math
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any, Literal

from pydantic import ValidationError

from vitcnn.base import ConfigError, Frozen, near
from vitcnn.config import Budget, Entrant, Pretrain, Recipe, Shuffle, Study, parse_augment, write_out
from vitcnn.data.cache import Info
from vitcnn.data.fetch import about_data
from vitcnn.data.shuffle import order
from vitcnn.entrants import Imported, Model, Timm
from vitcnn.networks import CNNAttention

Role = Literal["main", "search", "budget-check"]


LABELS = {"study", "entrant", "role", "variant", "start_study"}
WAY = {"dataset", "resolution"}  # of a folder: its content stands for them, wherever it lies


class Cell(Frozen):
    """One (entrant, n, seed) with its recipe and budget; the unit of work. What stands in `LABELS` is for people."""

    dataset: str
    validation: int
    n: int
    seed: int
    model: Model
    recipe: Recipe | None = None  # None: the entrant is not trained by gradient descent (linear)
    budget: Budget | None = None
    study: str = ""
    entrant: str = ""
    role: Role = "main"
    variant: str = ""  # in a search, the point of the grid
    resolution: int | None = None  # pixels that images are kept at; None: the data set's own
    content: str | None = None  # of a folder
    shuffle: Shuffle | None = None
    start: str | None = None  # id of the cell whose trained weights it begins with
    start_study: str | None = None  # where that is another study's; then all but the head begin so

    @cached_property
    def id(self) -> str:
        """12 hexadecimal digits; fields at their default are left out, so a new option does not orphan old records."""
        scientific = self.model_dump(
            mode="json", exclude_defaults=True, exclude=LABELS | (WAY if self.content else set())
        )
        scientific["model"]["model"] = self.model.model
        if isinstance(self.model, Timm):
            scientific["model"].pop("weights", None)  # their hash stands for the file
        text = json.dumps(scientific, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def model_copy(self, **how: Any) -> "Cell":
        """A changed cell has an id of its own."""
        copied = super().model_copy(**how)
        copied.__dict__.pop("id", None)
        return copied

    @property
    def steps(self) -> int:
        """Optimiser steps; 0 where nothing is trained by gradient descent."""
        return self.budget.steps(self.n, self.recipe.batch_size) if self.budget and self.recipe else 0

    @property
    def images_seen(self) -> int:
        """The budget in whole batches; 0 where nothing is trained by gradient descent."""
        return self.steps * self.recipe.batch_size if self.recipe else 0

    @property
    def title(self) -> str:
        """`vit-n500-s0`: what a person calls it."""
        more = "-long" if self.role == "budget-check" else f" {self.variant}" if self.variant else ""
        more += f" ({self.shuffle})" if self.shuffle else ""
        return f"{self.entrant}-n{self.n}-s{self.seed}{more}"


def cells(study: Study, data: Info | None = None) -> list[Cell]:
    """All cells of a study, small n first within a seed. Raises ConfigError before anything is trained.

    `data`: what is known of the data set; by default, what the cache knows.
    """
    data = data or about_data(study.dataset, resolution=study.resolution)
    _check_sizes(study, data, study.validation or data.validation)
    _check_pair(study)
    _check_shuffle(study, data)
    before = {file: cells(other) for file, other in study.before.items()}
    out = []
    for seed, n in itertools.product(study.seeds, study.sizes):
        here: list[Cell] = []
        for entrant in study.entrants:
            for recipe, variant in _recipes(study, entrant, n):
                for shuffle in study.shuffle if recipe and study.shuffle else (None,):  # the linear floor cannot care
                    cell = _cell(study, data, entrant, n, seed, recipe, variant, shuffle)
                    if entrant.pretrain:
                        begun = _pretrained(cell, entrant.pretrain, before[entrant.pretrain.study], data)
                    else:
                        begun = {"start": _start(cell, entrant.start, here)}
                    here.append(cell.model_copy(update=begun))
        out += here
    if check := study.budget_check:
        ends = {study.sizes[0], study.sizes[-1]}
        for cell in [c for c in out if c.entrant in study.pair and c.n in ends and c.seed in check.seeds and c.budget]:
            longer = {"budget": cell.budget.times(check.factor), "role": "budget-check"}
            out.append(cell.model_copy(update=longer))
    seen: dict[str, Cell] = {}
    for cell in out:
        if (other := seen.setdefault(cell.id, cell)) is not cell:
            raise ConfigError(f"{cell.title} and {other.title} are the same cell: same model, same recipe")
    return out


def _check_sizes(study: Study, data: Info, validation: int) -> None:
    if validation >= data.train:
        raise ConfigError(f"validation: {validation:,} images of {data.train:,} leave none to train on")
    if validation < data.classes:
        raise ConfigError(f"validation: {validation:,} images are fewer than the {data.classes} classes")
    room = data.train - validation
    for n in study.sizes:
        if n > room:
            raise ConfigError(
                f"sizes: {n:,} images asked for, {room:,} are there ({study.dataset} has {data.train:,} training "
                f"images, {validation:,} of them kept for validation)"
            )
        if n < data.classes:
            raise ConfigError(f"sizes: {n:,} images are fewer than one for each of the {data.classes} classes")


def _check_pair(study: Study) -> None:
    check, names = study.budget_check, {entrant.name: entrant.model.model for entrant in study.entrants}
    if not check:
        return
    for name in study.pair:
        if name not in names:
            raise ConfigError(f"pair: no entrant is called {name!r}{near(name, names)}")
        if names[name] == "linear":
            raise ConfigError(f"budget_check: {name!r} is not trained by gradient descent; there is nothing to prolong")
    if extra := sorted(set(check.seeds) - set(study.seeds)):
        raise ConfigError(f"budget_check.seeds: {extra} are not among the study's seeds {list(study.seeds)}")


def _check_shuffle(study: Study, data: Info) -> None:
    orders = [order(data.size, shuffle).tobytes() for shuffle in study.shuffle]
    for shuffle, moved in zip(study.shuffle, orders, strict=True):
        if orders.count(moved) > 1:
            raise ConfigError(f"shuffle: two settings put every pixel in the same place, one of them {shuffle}")
    if study.grid and len(study.shuffle) > 1:
        raise ConfigError("shuffle: a search is made at one setting; the recipes that it finds serve all")


def _recipes(study: Study, entrant: Entrant, n: int) -> list[tuple[Recipe | None, str]]:
    """The recipes an entrant is trained with at n: one, or in a search every point of the grid, named."""
    if entrant.model.model == "linear":
        if entrant.recipe:
            raise ConfigError(f"entrants.{entrant.name}.recipe: logistic regression has none; it chooses its C itself")
        return [(None, "")]
    base: dict[str, Any] = study.recipe.model_dump(exclude_defaults=True)
    if study.recipes:
        found = nearest(study.chosen.get(entrant.name) or study.chosen.get(entrant.model.model), n, entrant.name, study)
        for key, value in study.recipe.model_dump(exclude_unset=True).items():
            if key in found and found[key] != value:
                raise ConfigError(
                    f"recipe.{key}: {value!r} is asked for, but {study.recipes} gives {entrant.name!r} {found[key]!r}; "
                    f"set entrants.{entrant.name}.recipe.{key}, or leave out `recipes`"
                )
        base |= found
    base |= entrant.recipe
    points = [
        dict(zip(grid, values, strict=True)) for grid in study.grid for values in itertools.product(*grid.values())
    ]
    recipes = [_recipe(entrant.name, base | point) for point in points or [{}]]
    return [(recipe, " ".join(f"{key}={getattr(recipe, key)}" for key in study.searched)) for recipe in recipes]


def nearest(by_size: dict[int, dict] | None, n: int, name: str, study: Study) -> dict[str, Any]:
    """The recipe found at the size nearest to n in log n."""
    if not by_size:
        raise ConfigError(f"recipes: {study.recipes} has none for {name!r}{near(name, study.chosen)}")
    return by_size[min(by_size, key=lambda size: abs(math.log(size / n)))]


def _recipe(name: str, fields: dict[str, Any]) -> Recipe:
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = f"unknown recipe field {key!r}{near(key, Recipe.model_fields)}"
        raise ConfigError(f"entrant {name!r}, recipe {key}: {message}") from None


def _cell(
    study: Study,
    data: Info,
    entrant: Entrant,
    n: int,
    seed: int,
    recipe: Recipe | None,
    variant: str,
    shuffle: Shuffle | None,
) -> Cell:
    if recipe:  # named sets are written out: what a record says was done must not change with what `basic` means
        augment = write_out(recipe.augment, data.size, data.flip)
        if parse_augment(augment).flip and not data.flip:
            raise ConfigError(f"augment: {recipe.augment!r}: a mirrored image of {data.name} is not of the same class")
        recipe = recipe.model_copy(update={"augment": augment})
    return Cell(
        dataset=study.dataset,
        validation=study.validation or data.validation,
        n=n,
        seed=seed,
        model=entrant.model,
        recipe=recipe,
        budget=study.budget if recipe else None,
        study=study.name,
        entrant=entrant.name,
        role="search" if study.grid else "main",
        variant=variant,
        resolution=study.resolution,
        content=data.content,
        shuffle=shuffle,
    )


def _start(cell: Cell, name: str | None, above: Sequence[Cell]) -> str | None:
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
        raise ConfigError(f"{where}: no network further up is called {name!r}{near(name, names)}")
    if cell.role == "search":
        raise ConfigError(f"{where}: in a search {name!r} has many cells at one n; leave out `grid` or `start`")
    rewritten = isinstance(cell.model, CNNAttention) and found[0].model.model == "cnn"
    wanted = found[0].model.model_dump(exclude={"model"} if rewritten else set())
    own = cell.model.model_dump()
    if any(own.get(key) != value for key, value in wanted.items()):
        raise ConfigError(f"{where}: {name!r} is another network; its weights do not fit {cell.entrant!r}")
    return found[0].id


def _pretrained(cell: Cell, how: Pretrain, before: Sequence[Cell], data: Info) -> dict[str, str]:
    """The cell of another study, of the same seed, whose weights `cell` begins with. Raises ConfigError."""
    where = f"entrants.{cell.entrant}.pretrain"
    if cell.recipe is None or isinstance(cell.model, Imported | CNNAttention):
        raise ConfigError(f"{where}: {cell.model.model} cannot begin with another study's weights")
    same = [c for c in before if c.model == cell.model and how.entrant in (None, c.entrant) and c.role == "main"]
    if not same:
        named = f"is called {how.entrant!r} and " if how.entrant else ""
        raise ConfigError(f"{where}: no entrant of {how.study} {named}is the network of {cell.entrant!r}")
    if len({c.entrant for c in same}) > 1 or len({c.shuffle for c in same}) > 1:
        raise ConfigError(
            f"{where}: {how.study} has several of that network; say which `entrant`, in a study of one setting"
        )
    for key, wanted in (("n", how.n), ("seed", cell.seed)):
        known = sorted({getattr(c, key) for c in same})
        if wanted not in known:
            raise ConfigError(
                f"{where}: {how.study} has no {key} = {wanted:,}; known: {', '.join(f'{v:,}' for v in known)}"
            )
    if (channels := about_data(same[0].dataset).channels) != data.channels:
        raise ConfigError(
            f"{where}: images of {same[0].dataset} are of {channels} channel{'s' * (channels > 1)}, those of "
            f"{data.name} of {data.channels}"
        )
    (found,) = [c for c in same if (c.n, c.seed) == (how.n, cell.seed)]
    return {"start": found.id, "start_study": found.study}


def describe_budget(cells: Sequence[Cell]) -> str:
    """`100,096 images seen: 400.4 epochs at n = 250, 2.0 at n = 50,000`; the budget check is left out."""
    seen: dict[int, set[int]] = {}
    for cell in cells:
        if cell.recipe and cell.role != "budget-check":
            seen.setdefault(cell.n, set()).add(cell.images_seen)
    if not seen:
        return "nothing is trained by gradient descent"
    small, large = min(seen), max(seen)
    epochs = [
        f"{_span([v / n for v in seen[n]], ',.1f')} {'epochs ' if n == small else ''}at n = {n:,}"
        for n in sorted({small, large})
    ]
    return f"{_span(seen[small] | seen[large], ',')} images seen: {', '.join(epochs)}"


def _span(values: Collection[float], form: str) -> str:
    return " to ".join(dict.fromkeys(f"{v:{form}}" for v in (min(values), max(values))))

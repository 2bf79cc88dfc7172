"""A study becomes cells."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from vitcnn.data.augment.spec import augment_for
from vitcnn.data.permutation import Permutation, order
from vitcnn.data.sources.cache import Info
from vitcnn.data.sources.fetch import about_data
from vitcnn.errors import ConfigError, suggest
from vitcnn.study.budget import Budget
from vitcnn.study.cell import Cell
from vitcnn.study.found import nearest
from vitcnn.study.init_from import source_above, source_cells
from vitcnn.study.recipe import Recipe
from vitcnn.study.schema import Study, StudyModel


def cells(study: Study, data: Info | None = None, before: Mapping[str, Info] | None = None) -> list[Cell]:
    """All cells of a study, small n first within a seed. Raises ConfigError before anything is trained.

    `data`: the data set; `before`: those of the studies that `pretrain` names, by file. Default: from the cache.
    """
    data = data or about_data(study.dataset_spec)
    if study.validation is None:
        study = study.model_copy(update={"validation": data.validation})
    _check_sizes(study, data)
    _check_pair(study)
    _check_permutation(study, data)
    sources = _source_cells(study, data, before or {})
    out = []
    for seed, n in itertools.product(study.seeds, study.sizes):
        here: list[Cell] = []
        for model in study.models:
            for training in _trainings(study, data, model, n):
                cell = _cell(study, data, model, n, seed, training)
                if model.pretrain:
                    source = sources[model.name][seed]
                    init = {"init_from": source.id, "init_from_study": source.study}
                else:
                    init = {"init_from": source_above(cell, model.init_from, here)}
                here.append(cell.model_copy(update=init))
        out += here
    if check := study.budget_check:
        ends = {study.sizes[0], study.sizes[-1]}
        longer: dict[str | None, str] = {}  # by the id of the shorter cell
        for cell in [c for c in out if c.model in study.pair and c.n in ends and c.seed in check.seeds]:
            more = {"budget": cell.budget.times(check.factor), "role": "budget-check"}
            prolonged = cell.model_copy(update=more | {"init_from": longer.get(cell.init_from, cell.init_from)})
            longer[cell.id] = prolonged.id
            out.append(prolonged)
    _check_budgets(out)
    seen: dict[str, Cell] = {}
    for cell in out:
        if (other := seen.setdefault(cell.id, cell)) is not cell:
            raise ConfigError(f"{cell.title} and {other.title} are the same cell: same model and same recipe")
    return out


def _source_cells(study: Study, data: Info, before: Mapping[str, Info]) -> dict[str, dict[int, Cell]]:
    """The source cells in other studies, by model and seed."""
    known = {f: before.get(f) or about_data(s.dataset_spec) for f, s in study.before.items()}
    other_cells = {file: cells(other, known[file]) for file, other in study.before.items()}
    return {
        e.name: source_cells(e, study, data, other_cells[e.pretrain.study], known[e.pretrain.study])
        for e in study.models
        if e.pretrain
    }


def _check_sizes(study: Study, data: Info) -> None:
    validation = study.validation
    if validation >= data.train:
        raise ConfigError(f"validation: {validation:,} of {data.train:,} images leave none to train on")
    if validation < data.classes:
        raise ConfigError(f"validation: {validation:,} images are fewer than the {data.classes} classes")
    if data.made and data.test < data.classes:
        raise ConfigError(f"dataset: test={data.test:,} images are fewer than the {data.classes} classes")
    room = data.train - validation
    for n in study.sizes:
        if n > room:
            raise ConfigError(
                f"sizes: {n:,} images requested, {room:,} available ({study.dataset} has {data.train:,} training "
                f"images, {validation:,} of them held out for validation)"
            )
        if n < data.classes:
            raise ConfigError(f"sizes: {n:,} images are fewer than one for each of the {data.classes} classes")


def _check_pair(study: Study) -> None:
    check, names = study.budget_check, {model.name: model for model in study.models}
    for name in study.pair if check or "pair" in study.model_fields_set else ():
        if name not in names:
            raise ConfigError(f"pair: no model is called {name!r}{suggest(name, names)}")
    if not check:
        return
    for name in study.pair:
        if names[name].is_linear:
            raise ConfigError(f"budget_check: {name!r} is not trained by gradient descent, so its budget cannot change")
    if extra := sorted(set(check.seeds) - set(study.seeds)):
        raise ConfigError(f"budget_check.seeds: {extra} are not among the study's seeds {list(study.seeds)}")


def _check_budgets(made: Sequence[Cell]) -> None:
    """Raises ConfigError where two budgets are the same number of steps."""
    steps: dict[tuple, Budget] = {}
    for cell in made:
        if cell.role == "main" and cell.budget:
            where = (cell.model, cell.n, cell.permutation, cell.seed, cell.steps)
            if (other := steps.setdefault(where, cell.budget)) != cell.budget:
                where = f"{cell.steps:,} steps of {cell.model} at n = {cell.n:,}"
                raise ConfigError(f"budget: {other} and {cell.budget} are the same {where}")


def _check_permutation(study: Study, data: Info) -> None:
    orders = [order(data.size, permutation).tobytes() for permutation in study.permutation]
    for permutation, moved in zip(study.permutation, orders, strict=True):
        if orders.count(moved) > 1:
            raise ConfigError(f"permutation: two settings give the same permutation; one is {permutation}")
    if study.grid and len(study.permutation) > 1:
        raise ConfigError("permutation: a search takes one setting; its recipes apply to all")


def _trainings(study: Study, data: Info, model: StudyModel, n: int) -> list[dict[str, Any]]:
    """The training fields (recipe, budget, …) of each cell of a model at one n and seed. Logistic regression has one
    cell and none of these fields; permutations do not affect it."""
    if model.is_linear:
        if model.recipe:
            raise ConfigError(
                f"models.{model.name}.recipe: logistic regression has no recipe; C is chosen on validation"
            )
        return [{}]
    permutations = study.permutation if model.permuted and study.permutation else (None,)
    return [
        {
            "recipe": _written_out(data, model, recipe, budget),
            "budget": budget,
            "variant": str(budget) if len(study.budget) > 1 else variant,
            "permutation": permutation,
        }
        for permutation, budget in itertools.product(permutations, study.budget)
        for recipe, variant in _recipes(study, model, n, budget, permutation)
    ]


def _recipes(
    study: Study, model: StudyModel, n: int, budget: Budget, permutation: Permutation | None
) -> list[tuple[Recipe, str]]:
    """The recipes a network is trained with at one place: one, or in a search every point of the grid, named."""
    base: dict[str, Any] = study.recipe.model_dump(exclude_defaults=True)
    if study.recipes:
        if not (known := study.found(model)):
            hint = suggest(model.name, study.chosen)
            raise ConfigError(f"recipes: {', '.join(study.recipes)} has none for {model.name!r}{hint}")
        found = nearest(known, n, budget.images(n), permutation)
        for key, value in study.recipe.model_dump(exclude_unset=True).items():
            if key in found and found[key] != value:
                raise ConfigError(
                    f"recipe.{key}: the study sets {value!r}, but {', '.join(study.recipes)} gives {model.name!r} "
                    f"{found[key]!r}; set models.{model.name}.recipe.{key}, or remove `recipes`"
                )
        base |= found
    base |= model.recipe
    points = [
        dict(zip(grid, values, strict=True)) for grid in study.grid for values in itertools.product(*grid.values())
    ]
    recipes = [_recipe(model.name, base | point) for point in points or [{}]]
    return [(recipe, " ".join(f"{key}={getattr(recipe, key)}" for key in study.searched)) for recipe in recipes]


def _recipe(name: str, fields: dict[str, Any]) -> Recipe:
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = f"unknown recipe field {key!r}{suggest(key, Recipe.model_fields)}"
        raise ConfigError(f"model {name!r}, recipe {key}: {message}") from None


def _written_out(data: Info, model: StudyModel, recipe: Recipe, budget: Budget) -> Recipe:
    """Writes out named augmentation sets, so that a record keeps its meaning if `basic` is ever redefined."""
    if budget.images_seen and recipe.batch_size > budget.images_seen:
        raise ConfigError(
            f"model {model.name!r}: recipe.batch_size: a batch of {recipe.batch_size:,} images exceeds "
            f"budget.images_seen, {budget.images_seen:,}"
        )
    return recipe.model_copy(update={"augment": augment_for(recipe.augment, data.size, data.flip, data.name)})


def _cell(study: Study, data: Info, model: StudyModel, n: int, seed: int, training: dict[str, Any]) -> Cell:
    return Cell(
        dataset=study.dataset,
        validation=study.validation,
        n=n,
        seed=seed,
        arch=model.arch,
        study=study.name,
        model=model.name,
        role="search" if study.grid else "main",
        resolution=study.resolution,
        content=data.content,
        **training,
    )


def describe_budgets(cells: Sequence[Cell]) -> str:
    """As `describe_budget`, of each budget."""
    budgets = dict.fromkeys(c.budget for c in cells if c.role != "budget-check" and c.budget)
    each = [[c for c in cells if c.budget == b] for b in budgets]
    return "; ".join(map(describe_budget, each or [cells]))


def describe_budget(cells: Sequence[Cell]) -> str:
    """`100,096 images seen: 400.4 epochs at n = 250, 2.0 at n = 50,000`; the budget check is left out."""
    seen: dict[int, set[int]] = {}
    for cell in cells:
        if not cell.is_linear and cell.role != "budget-check":
            seen.setdefault(cell.n, set()).add(cell.images_seen)
    if not seen:
        return "nothing is trained by gradient descent"
    small, large = min(seen), max(seen)
    epochs = [
        f"{span([v / n for v in seen[n]], ',.1f')} {'epochs ' if n == small else ''}at n = {n:,}"
        for n in sorted({small, large})
    ]
    return f"{span(seen[small] | seen[large], ',')} images seen: {', '.join(epochs)}"


def span(values: Collection[float], form: str) -> str:
    """`5,120 to 200,064`, or one number where all are the same."""
    return " to ".join(dict.fromkeys(f"{v:{form}}" for v in (min(values), max(values))))

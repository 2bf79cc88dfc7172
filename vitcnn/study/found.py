"""Recipes that searches found, read from the files that `vitcnn select` writes."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from vitcnn.data.permutation import Permutation
from vitcnn.errors import ConfigError, Frozen, Positive
from vitcnn.study import yaml_file
from vitcnn.study.budget import Budget


class FoundRecipe(Frozen):
    """A recipe, and the n, budget and permutation that it was found at."""

    n: Annotated[Positive, Field(strict=True)]
    recipe: dict[str, Any]
    budget: Budget | None = None
    permutation: Permutation | None = None

    @property
    def images_seen(self) -> float | None:
        return self.budget.images(self.n) if self.budget else None


def read_found(paths: Sequence[Path]) -> tuple[dict[str, tuple[FoundRecipe, ...]], list[tuple[str, str | None]]]:
    """(the recipes found for each model, (name of each search, its data set if the file has it)). Raises ConfigError if
    a file was not written by `vitcnn select`, or two have a recipe for the same model and conditions."""
    found: dict[str, tuple[FoundRecipe, ...]] = {}
    searches = []
    for path in paths:
        here, search = _read(path)
        searches.append(search)
        for name, recipes in here.items():
            before = [(f.n, f.budget, f.permutation) for f in found.get(name, ())]
            if twice := [f"{f.n}" for f in recipes if (f.n, f.budget, f.permutation) in before]:
                raise ConfigError(
                    f"recipes: {path}: another of these files also has {name!r} at n = {', '.join(twice)}, of the same "
                    "budget and permutation"
                )
            found[name] = (*found.get(name, ()), *recipes)
    return found, searches


def _read(path: Path) -> tuple[dict[str, list[FoundRecipe]], tuple[str, str | None]]:
    try:
        text = yaml_file.read(path)
        where = {key: text[key] for key in ("budget", "permutation") if key in text}
        models = {
            name: [FoundRecipe(n=n, recipe=recipe, **where) for n, recipe in by_size.items()]
            for name, by_size in text["models"].items()
        }
        if not isinstance(text["search"], str):
            raise TypeError
        return models, (text["search"], text.get("dataset"))
    except OSError as error:
        raise ConfigError(
            f"recipes: {path}: {error.strerror or error}; `vitcnn select SEARCH.yaml` creates it"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"recipes: {path}: not a file written by `vitcnn select`") from None


def nearest(
    found: Sequence[FoundRecipe], n: int, images_seen: float, permutation: Permutation | None
) -> dict[str, Any]:
    """The recipe found closest to these conditions. First those of the same permutation count, else those of none; of
    them those at the nearest n, then at the nearest budget; both on a log scale (ties: the smaller)."""
    for wanted in (permutation, None):
        if same := [f for f in found if f.permutation == wanted]:
            found = same
            break

    def distance(one: FoundRecipe) -> tuple[float, ...]:
        seen = one.images_seen
        return _log(one.n, n), one.n, _log(seen, images_seen) if seen else math.inf, seen or 0

    return min(found, key=distance).recipe


def _log(a: float, b: float) -> float:
    return round(abs(math.log(a / b)), 9)

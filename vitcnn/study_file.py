"""Reading a study: YAML and `key=value` overrides in, a Study out, or one sentence that says what to change."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from vitcnn.base import ConfigError, near
from vitcnn.config import Budget, BudgetCheck, Recipe, Shuffle, Study, by_name
from vitcnn.entrants import MODELS


def load_study(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Study:
    """Reads a study; `overrides` are `key=value` with dots for nesting (`recipe.lr=1e-3`, `sizes=[50,100]`).

    Raises ConfigError, with the file's name and what to change, for anything that is not a study.
    """
    path = Path(path)
    try:
        text = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: no valid YAML: {error}") from None
    if not isinstance(text, dict):
        raise ConfigError(f"{path}: a study is a mapping of keys to values; found {type(text).__name__}")
    text.setdefault("name", path.stem)
    try:
        text["entrants"] = by_name(text.get("entrants"))
        for override in overrides:
            _override(text, override)
        text["entrants"] = by_name(text["entrants"])
    except ValueError as error:
        raise ConfigError(f"{path}: entrants: {error}") from None
    for key in ("chosen", "search"):
        if key in text:
            raise ConfigError(f"{path}: {key!r} is filled in from the file that `recipes` names")
    if isinstance(text.get("recipes"), str):
        text["chosen"], text["search"] = _read_recipes(path.parent / text["recipes"])
    try:
        return Study.model_validate(text)
    except ValidationError as error:
        errors = error.errors()
        deeper = {e["loc"][0] for e in errors if len(e["loc"]) > 1}
        names = list(text["entrants"] if isinstance(text["entrants"], dict) else ())
        told = [_explain(e, names) for e in errors if not (e["type"] == "too_short" and e["loc"][0] in deeper)]
        raise ConfigError(f"{path}: " + "\n".join(told)) from None


def _override(text: dict, override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{override!r} is no override; write key=value, for instance seeds=1 or recipe.lr=1e-3")
    *parents, last = key.split(".")
    for parent in parents:
        if isinstance(text, dict) and text.get(parent) is None:
            text[parent] = {}
        text = text[parent] if isinstance(text, dict) else None
        if text is None:
            raise ConfigError(f"{override!r}: {parent!r} holds no keys")
    if not isinstance(text, dict):
        raise ConfigError(f"{override!r}: {'.'.join(parents)!r} holds no keys")
    try:
        text[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"{override!r}: no valid YAML: {error}") from None


def _read_recipes(path: Path) -> tuple[dict, str]:
    try:
        text = yaml.safe_load(path.read_text(encoding="utf-8"))
        return text["entrants"], text["search"]
    except OSError as error:
        raise ConfigError(
            f"recipes: {path}: {error.strerror or error}; `vitcnn select SEARCH.yaml` writes it"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
        raise ConfigError(f"recipes: {path}: not a file that `vitcnn select` wrote") from None


_KEYS = {"recipe": Recipe, "budget": Budget, "budget_check": BudgetCheck, "shuffle": Shuffle}


def _explain(error: dict, names: list) -> str:
    """One pydantic error as a sentence: where, what, and the nearest known key. `names`: of the entrants."""
    where, owner = [str(part) for part in error["loc"]], None
    if where[:1] == ["entrants"] and len(where) > 2 and isinstance(error["loc"][1], int):
        if where[2] == "model" and len(where) > 3:
            owner = MODELS[where[3]]
        where = ["entrants", str(names[error["loc"][1]]), *where[4 if where[2] == "model" else 2 :]]
    if error["type"] == "extra_forbidden":
        *parents, key = where
        owner = owner or next((_KEYS[part] for part in reversed(parents) if part in _KEYS), Study)
        known = set(owner.model_fields) - {"chosen", "search", "weights_sha256", "source_sha256"}
        known |= {"recipe", "start"} if owner in MODELS.values() else set()
        return f"unknown key {key!r}{' in ' + '.'.join(parents) if parents else ''}{near(key, known)}"
    message = error["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list, such as [1, 2]")
    given = "" if error["type"] in ("missing", "value_error") else f" (got {error['input']!r})"
    return f"{'.'.join(where)}: {message}{given}" if where else message + given

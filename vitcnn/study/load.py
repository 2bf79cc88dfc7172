"""Loads a study from YAML and `key=value` overrides; errors say what to change."""

import os
import re
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vitcnn.data.permutation import Permutation
from vitcnn.errors import ConfigError, suggest
from vitcnn.models.registry import ARCHS
from vitcnn.source_hash import Trust
from vitcnn.study import yaml_file
from vitcnn.study.budget import Budget, BudgetCheck, Pretrain
from vitcnn.study.found import read_found
from vitcnn.study.recipe import Recipe
from vitcnn.study.schema import Study, Trainer, by_name, several


def load_study(path: str | Path, overrides: Sequence[str] = (), allow_import: Sequence[str] = ()) -> Study:
    """Reads a study; `overrides` are `key=value` with dots for nesting (`recipe.lr=1e-3`, `sizes=[50,100]`). Its
    `import:` networks may be run if they lie beside the file or in the current folder, or in modules of `allow_import`.

    Raises ConfigError, with the file name and what to change, if it is not a valid study.
    """
    study, here = _study(Path(path), overrides, tuple(allow_import)), Path(path).parent
    files = dict.fromkeys(model.pretrain.study for model in study.models if model.pretrain)
    if bad := [file for file in files if "\0" in file]:
        raise ConfigError(f"{path}: pretrain: {bad[0]!r} is not a valid file name")
    if own := [file for file in files if (here / file).resolve() == Path(path).resolve()]:
        raise ConfigError(f"{path}: pretrain: {own[0]} is this study itself; name an earlier one")
    return study.model_copy(update={"before": {file: _earlier(here / file) for file in files}}) if files else study


def _earlier(path: Path) -> Study:
    """Loads a study that another one's `pretrain` names."""
    try:
        study = _study(path)
    except ConfigError as error:
        raise ConfigError(f"pretrain: {error}") from None
    if study.grid or any(model.pretrain for model in study.models):
        raise ConfigError(
            f"pretrain: {path}: a search, or a study with `pretrain` of its own; neither can be a source of weights"
        )
    return study


def _study(path: Path, overrides: Sequence[str] = (), allow_import: tuple[str, ...] = ()) -> Study:
    """As `load_study`, but without loading the studies that it names."""
    try:
        text = yaml_file.read(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; expected a YAML file") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(text, dict):
        raise ConfigError(f"{path}: expected a mapping of keys to values, found {type(text).__name__}")
    text.setdefault("name", _name_of(path))
    try:
        text["models"] = by_name(text.get("models"))
        for override in overrides:
            _override(text, override)
        text["models"] = by_name(text["models"])
    except ValueError as error:
        raise ConfigError(f"{path}: models: {error}") from None
    if text["models"] is None:
        if "entrants" in text:
            raise ConfigError(f"{path}: unknown key 'entrants'{suggest('entrants', Study.model_fields)}")
        raise ConfigError(f"{path}: models: is missing; give a list of names, such as [vit, cnn, linear]")
    for key, by in (("chosen", "recipes"), ("search", "recipes"), ("before", "pretrain")):
        if key in text:
            raise ConfigError(f"{path}: {key!r} cannot be set; it is filled in from the file that `{by}` names")
    if found := _truth(text):
        raise ConfigError(f"{path}: {found}")
    files = several(text.get("recipes"))
    searches: list[tuple[str, str | None]] = []
    if files and isinstance(files, list) and all(isinstance(file, str) for file in files):
        text["chosen"], searches = read_found([path.parent / file for file in files])
    try:
        study = Study.model_validate(text, context=Trust(path.parent, allow_import))
    except ValidationError as error:
        errors = error.errors()
        deeper = {e["loc"][0] for e in errors if len(e["loc"]) > 1 and e["type"] != "too_short"}
        names = list(text["models"] if isinstance(text["models"], dict) else ())
        messages = [_explain(e, names) for e in errors if not (e["type"] == "too_short" and e["loc"][0] in deeper)]
        more = [f"… and {len(messages) - 10} more mistakes"] if len(messages) > 10 else []
        raise ConfigError(f"{path}: " + "\n".join(messages[:10] + more)) from None
    searched = [name if of in (None, study.dataset) else f"{name}, made on {of}" for name, of in searches]
    return study.model_copy(update={"search": ", ".join(searched)}) if searched else study


def _name_of(path: Path) -> str:
    """The file's, after the folders below `configs` that it lies in: `configs/cifar10/reference.yaml` is called
    `cifar10/reference`."""
    folders = Path(os.path.abspath(path)).parts[:-1]
    below = folders[len(folders) - folders[::-1].index("configs") :] if "configs" in folders else ()
    return "/".join([*below, path.stem])


def _truth(value: Any, *keys: str) -> str | None:
    """An error message for misplaced booleans, or None. True would be read as 1 where a number is meant, and in
    `options` the strings yes and no would count as true. Only `pretrained` and `options` may be true or false."""
    if "options" in keys and isinstance(value, str) and value.lower() in ("yes", "no", "on", "off"):
        return f"{'.'.join(keys)}: {value} is a string; write true or false"
    if isinstance(value, bool) and "options" not in keys and keys[-1:] not in (("pretrained",), ("permuted",)):
        return f"{'.'.join(keys)}: true and false are not valid values (for strings, add quotes)"
    if not isinstance(value, dict | list):
        return None
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    return next((found for key, part in inside if (found := _truth(part, *keys, str(key)))), None)


def _override(text: dict, override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(
            f"{override!r} is not a valid override; write key=value, for instance seeds=1 or recipe.lr=1e-3"
        )
    *parents, last = key.split(".")
    for parent in parents:
        if isinstance(text, dict) and text.get(parent) is None:
            text[parent] = {}
        text = text[parent] if isinstance(text, dict) else None
        if text is None:
            raise ConfigError(f"{override!r}: {parent!r} has no keys")
    if not isinstance(text, dict):
        raise ConfigError(f"{override!r}: {'.'.join(parents)!r} has no keys")
    try:
        text[last] = yaml_file.parse(value)
    except ValueError as error:
        raise ConfigError(f"{override!r}: {error}") from None


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_PLAINLY = {"too_short": "give at least one", "missing": "is missing"}
_NAME = (
    "not a valid name: use letters, digits, '.', '_' and '-', with '/' between folders; each part begins with a letter "
    "or a digit (default: the file's name)"
)
_MODEL = (
    "not a valid name: a model's name begins with a letter or digit (A-Z, a-z, 0-9), without $ or control characters"
)
_KEYS = {
    "recipe": Recipe,
    "budget": Budget,
    "budget_check": BudgetCheck,
    "permutation": Permutation,
    "pretrain": Pretrain,
    "trainer": Trainer,
}


def _explain(error: dict, names: list) -> str:
    """Formats one pydantic error: location, message, and the nearest known key. `names`: of the models."""
    where, owner = [str(part) for part in error["loc"]], None
    if where[:1] == ["models"] and len(where) > 2 and isinstance(error["loc"][1], int):
        if where[2] == "arch" and len(where) > 3:
            owner = ARCHS[where[3]]
        where = ["models", str(names[error["loc"][1]]), *where[4 if where[2] == "arch" else 2 :]]
    elif (where[:1] == ["grid"] and len(where) > 2) or (where[:1] == ["budget"] and len(where) > 1):
        where.pop(1)  # the index in a list; most studies have one
    if error["type"] == "extra_forbidden":
        *parents, key = where
        owner = owner or next((_KEYS[part] for part in reversed(parents) if part in _KEYS), Study)
        known = set(owner.model_fields) - {"chosen", "search", "before", "weights_sha256", "source_sha256"}
        known |= {"recipe", "init_from", "pretrain", "permuted"} if owner in ARCHS.values() else set()
        return f"unknown key {key!r}{' in ' + '.'.join(parents) if parents else ''}{suggest(key, known)}"
    message = error["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list, such as [1, 2]")
    message = re.sub(r"a valid dictionary( or instance of \w+)?", "a mapping of keys to values", message)
    message = _PLAINLY.get(error["type"], message)
    if error["type"] == "string_pattern_mismatch" and where[-1] == "name":
        message = _NAME if len(where) == 1 else _MODEL
    given = "" if error["type"] in ("missing", "value_error") else f" (got {_SHORT.repr(error['input'])})"
    return f"{'.'.join(where)}: {message}{given}" if where else message + given

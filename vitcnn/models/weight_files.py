"""A state dict in a file of another program's: which of its parts are the weights of a network."""

import re
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor

UNREADABLE = "not a weights file of torch.save or safetensors"
ADVICE = "save the network's state_dict()"
DEPTH = 3  # dictionaries inside dictionaries
TIMMS = ("state_dict_ema", "model_ema", "state_dict", "model")  # in its order


class Weights(NamedTuple):
    """Tensors by the network's names; `where`: the part of the file they are from, in words, "" if it is the whole."""

    tensors: dict[str, Tensor]
    where: str


def read_weights(file: Path, names: Collection[str]) -> Weights:
    """Of all dictionaries of tensors in the file, and all prefixes of their names (`model.` of Lightning, `module.`),
    the one that has most of `names`, the keys of the network's state dict; of equal ones a moving average. If none has
    half of them, the one that timm takes, for timm to rename. Raises ValueError if there are no tensors."""
    content = _load(file)
    parts = dict(_parts(content))
    if not parts:
        kinds = ", ".join(_foreign(file)) or type(content).__name__
        raise ValueError(f"no dictionary of tensors in it, but {kinds}; {ADVICE}")
    known = set(names)
    found = [
        (count, _is_average(path, prefix), path, prefix)
        for path, tensors in parts.items()
        for prefix, count in _prefixes(tensors, known).items()
    ]
    count, _, path, prefix = max(found, key=lambda one: one[:2], default=(0, False, (), ""))
    if 2 * count < len(known):
        order = [*((name,) for name in TIMMS), (), *sorted(parts, key=lambda p: -len(parts[p]))]
        path = next(path for path in order if path in parts)
        return Weights(timm.models.clean_state_dict(parts[path]), _where(path, ""))
    tensors = {key.removeprefix(prefix): v for key, v in parts[path].items() if key.startswith(prefix)}
    return Weights(tensors, _where(path, prefix))


def _load(file: Path) -> Any:
    """Runs no code of the file's: what is neither tensor nor plain value becomes an empty stand-in."""
    foreign = _foreign(file)
    stand_ins = [(_Number if name.startswith("numpy.") else _Object, name) for name in foreign]
    try:
        if file.suffix == ".safetensors":
            return timm.models.load_state_dict(str(file))
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a file of another kind makes torch or safetensors raise
        reason = UNREADABLE
        if foreign:
            reason = f"it cannot be read, because it holds {', '.join(foreign)}; {ADVICE}"
        raise ValueError(reason) from error


class _Number:
    """Stands for a scalar or an array of NumPy's."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


class _Object:
    """Stands for any other object, also for a dictionary, which torch fills only if it is one of Python's own."""

    def __new__(cls, *_: Any) -> OrderedDict:
        return OrderedDict()


def _foreign(file: Path) -> list[str]:
    """The classes and functions that a file of torch.save names and torch does not load by itself."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except Exception:  # a file of an early torch, or of something else
        return []


def _parts(content: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every dictionary of tensors, by its keys from the outside."""
    if not isinstance(content, Mapping):
        return
    if tensors := {key: v for key, v in content.items() if isinstance(key, str) and isinstance(v, Tensor)}:
        yield path, tensors
    if len(path) < DEPTH:
        for key, value in content.items():
            yield from _parts(value, (*path, str(key)))


def _prefixes(tensors: Collection[str], known: set[str]) -> dict[str, int]:
    """How many of the known names there are behind each prefix."""
    out: dict[str, int] = {}
    for key in tensors:
        starts = [0, *(match.end() for match in re.finditer(r"\.", key))]
        for start in starts:
            if key[start:] in known:
                out[key[:start]] = out.get(key[:start], 0) + 1
    return out


def _is_average(path: tuple[str, ...], prefix: str) -> bool:
    return "ema" in re.split("[^a-z]+", " ".join((*path, prefix)).lower())


def _where(path: tuple[str, ...], prefix: str) -> str:
    inside = " of ".join(f"`{key}`" for key in reversed(path))
    return ", ".join(filter(None, (inside, prefix and f"names without `{prefix}`")))

"""Shared base classes: frozen models that reject unknown keys, and the errors shown to users."""

import difflib
import itertools
import math
import os
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
T = TypeVar("T")


class ConfigError(Exception):
    """A user error; the message says where it is and what to change."""


class NotFiniteLoss(Exception):
    """The loss is not finite, in training or in evaluation."""


class Unwritable(ConfigError):
    """Records cannot be written, so training on would be in vain."""


class JobFailed(Exception):
    """Any other error of a process that runs jobs, as text: its own class may be unknown where it is received."""

    @classmethod
    def of(cls, error: BaseException) -> "JobFailed":
        return cls(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}".removesuffix(": "))


RENAMED = {  # keys and names of studies written for earlier versions
    "entrants": "models",
    "entrant": "model",
    "model": "arch",
    "local": "swin",
    "pixel-local": "sasa",
    "shuffle": "permutation",
    "words": "patches",
    "word": "patch",
    "start": "init_from",
}


def seconds_of(variable: str, default: float | None = None) -> float | None:
    """A number of seconds in an environment variable. Raises ConfigError if it is none."""
    text = os.environ.get(variable)
    if text is None:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ConfigError(f"{variable}={text!r}: not a number of seconds; correct or unset it")
    return seconds


def suggest(word: str, known: Any, all_of_them: bool = True) -> str:
    """The end of an error message: `; did you mean 'vit'? known: cnn, vit`."""
    known = sorted(map(str, known))
    by_lower = {name.lower(): name for name in known}
    if (new := RENAMED.get(word)) in known:
        return f"; it is now called {new!r}"
    close = difflib.get_close_matches(word.lower(), by_lower, 1)
    nearest = f"; did you mean {by_lower[close[0]]!r}?" if close else ""
    return f"{nearest or ';'} known: {', '.join(known)}" if all_of_them else nearest


def evenly(items: Sequence[T], most: int) -> list[Sequence[T]]:
    """Splits into parts of similar size, in order, none larger than `most`."""
    parts = math.ceil(len(items) / most)
    ends = [round(part * len(items) / parts) for part in range(parts + 1)]
    return [items[start:end] for start, end in itertools.pairwise(ends)]


class Frozen(BaseModel):
    """Immutable; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

"""A cell is the unit of training. Its id hashes the fields that decide the result, and nothing else."""

import hashlib
import json
from functools import cached_property
from typing import Any, Literal

from vitcnn.data.permutation import Permutation
from vitcnn.errors import Frozen
from vitcnn.models.config import Linear
from vitcnn.models.registry import Arch, identity
from vitcnn.study.budget import Budget
from vitcnn.study.recipe import Recipe

Role = Literal["main", "search", "budget-check"]


# Names in the hashed text of an id, where the code now uses others. Existing records have these ids: never change.
FIRST_SPELLED = {
    "arch": "model",
    "name": "model",
    "permutation": "shuffle",
    "patches": "words",
    "patch": "word",
    "init_from": "start",
}
FIRST_NAMES = {"swin": "local", "sasa": "pixel-local"}  # of architectures

LABELS = {"study", "model", "role", "variant", "init_from_study"}
WAY = {"dataset", "resolution"}  # left out of the id where `content`, the hash of a folder's files, is set


class Cell(Frozen):
    """One (model, n, seed) with its recipe and budget; the unit of work. Fields in `LABELS` are not part of the id."""

    dataset: str
    validation: int
    n: int
    seed: int
    arch: Arch
    recipe: Recipe | None = None  # logistic regression (`is_linear`) has neither recipe, budget nor permutation
    budget: Budget | None = None
    study: str = ""
    model: str = ""
    role: Role = "main"
    variant: str = ""  # in a search, the point of the grid
    resolution: int | None = None  # pixels that images are kept at; None: the data set's own
    content: str | None = None  # of a folder
    permutation: Permutation | None = None
    init_from: str | None = None  # id of the source cell, whose trained weights it starts from
    init_from_study: str | None = None  # set if the source cell is in another study; then the head is new

    @cached_property
    def id(self) -> str:
        """12 hexadecimal digits; fields at their default are left out, so a new option does not orphan old records."""
        hashed = self.model_dump(mode="json", exclude_defaults=True, exclude=LABELS | (WAY if self.content else set()))
        arch = identity(self.arch)
        hashed["arch"] = _spelled(arch | {"name": FIRST_NAMES.get(arch["name"], arch["name"])})
        if self.permutation:
            hashed["permutation"] = _spelled(hashed["permutation"])
        scientific = _spelled(hashed)
        if self.init_from_study:
            scientific["head"] = "new"
        text = json.dumps(scientific, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def model_copy(self, **how: Any) -> "Cell":
        """Copies without the cached id."""
        copied = super().model_copy(**how)
        copied.__dict__.pop("id", None)
        return copied

    @property
    def is_linear(self) -> bool:
        """Logistic regression, the baseline. All other cells are networks, trained by gradient descent."""
        return isinstance(self.arch, Linear)

    @property
    def steps(self) -> int:
        """Optimiser steps; 0 for logistic regression."""
        return 0 if self.is_linear else self.budget.steps(self.n, self.recipe.batch_size)

    @property
    def images_seen(self) -> int:
        """The budget in whole batches; 0 for logistic regression."""
        return 0 if self.is_linear else self.steps * self.recipe.batch_size

    @property
    def title(self) -> str:
        """A readable name: `vit-n500-s0`."""
        more = "-long" if self.role == "budget-check" else f" {self.variant}" if self.variant else ""
        more += f" ({self.permutation})" if self.permutation else ""
        return f"{self.model}-n{self.n}-s{self.seed}{more}"


def _spelled(fields: dict[str, Any]) -> dict[str, Any]:
    return {FIRST_SPELLED.get(key, key): value for key, value in fields.items()}

"""The budget of a study, the check of it, and where another study's weights come from."""

import math
from typing import Annotated

from pydantic import Field, model_validator

from vitcnn.errors import Frozen, Positive

MOST_SEEN, MOST_EPOCHS = 10**12, 10**6


class Budget(Frozen):
    """How long a cell trains: the same number of images seen at every n, or the same epochs."""

    images_seen: Annotated[int, Field(gt=0, le=MOST_SEEN)] | None = None
    epochs: Annotated[float, Field(gt=0, le=MOST_EPOCHS)] | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> "Budget":
        if (self.images_seen is None) == (self.epochs is None):
            raise ValueError("give either images_seen or epochs")
        return self

    def steps(self, n: int, batch_size: int) -> int:
        """Optimiser steps for n images: the budget rounded up to whole batches."""
        return max(1, math.ceil(round((self.images_seen or self.epochs * n) / batch_size, 6)))

    def __str__(self) -> str:
        return f"{self.images_seen:,} images seen" if self.images_seen else f"{self.epochs:g} epochs"

    def times(self, factor: float) -> "Budget":
        if self.images_seen:
            return Budget(images_seen=round(self.images_seen * factor))
        return Budget(epochs=self.epochs * factor)


class BudgetCheck(Frozen):
    """Trains the pair again at the smallest and largest n with `factor` times the images, to see whether the gap
    moves."""

    factor: Annotated[float, Field(gt=1, le=100)] = 2.0
    seeds: tuple[int, ...] = (0,)


class Pretrain(Frozen):
    """Initial weights from a trained network of another study, with a new head."""

    study: str  # its file, relative to this one
    n: Positive
    model: str | None = None  # None: the model with the same network

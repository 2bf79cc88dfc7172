"""The budgets of a study, the check of them, and where another study's weights come from."""

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

    def images(self, n: int) -> float:
        """Images seen with n training images."""
        return self.images_seen or self.epochs * n

    def steps(self, n: int, batch_size: int) -> int:
        """Optimiser steps for n images: the budget rounded up to whole batches."""
        return max(1, math.ceil(round(self.images(n) / batch_size, 6)))

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


def ascending(budgets: tuple[Budget, ...]) -> tuple[Budget, ...]:
    """The smallest first. Raises ValueError where they are not all of one kind, or one stands there twice."""
    if len({b.images_seen is None for b in budgets}) > 1:
        raise ValueError("a list of budgets is of images_seen or of epochs, not of both")
    if len(set(budgets)) < len(budgets):
        raise ValueError("the same budget stands there more than once")
    return tuple(sorted(budgets, key=lambda b: b.images_seen or b.epochs))


def check_longer(budgets: tuple[Budget, ...], check: BudgetCheck | None) -> None:
    """Raises ValueError where a budget check does not go with these budgets."""
    if check and len(budgets) > 1:
        raise ValueError("budget_check: leave it out; a list of budgets is itself the check of the budget")
    factor, largest = check.factor if check else 1, budgets[-1]
    if (largest.images_seen or 0) * factor > MOST_SEEN or (largest.epochs or 0) * factor > MOST_EPOCHS:
        raise ValueError(f"budget_check.factor: {factor:g} times this budget exceeds the maximum")


class Pretrain(Frozen):
    """Initial weights from a trained network of another study, with a new head."""

    study: str  # its file, relative to this one
    n: Positive
    model: str | None = None  # None: the model with the same network

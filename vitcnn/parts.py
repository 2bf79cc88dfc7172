"""Parts of a study that cells, data and networks know without knowing the study: its budget and the check of it, a
setting of the dial, and what an entrant begins with."""

import math
from typing import Annotated

from pydantic import Field, model_validator

from vitcnn.base import Frozen, Positive, Share

MOST_SEEN, MOST_EPOCHS = 10**12, 10**6


class Budget(Frozen):
    """How long a cell trains: the same number of images seen at every n, or the same epochs."""

    images_seen: Annotated[int, Field(gt=0, le=MOST_SEEN)] | None = None
    epochs: Annotated[float, Field(gt=0, le=MOST_EPOCHS)] | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> "Budget":
        if (self.images_seen is None) == (self.epochs is None):
            raise ValueError("give images_seen or epochs, one of the two")
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
    """Train the pair again at the smallest and the largest n with `factor` times the images: does the gap move?"""

    factor: Annotated[float, Field(gt=1, le=100)] = 2.0
    seeds: tuple[int, ...] = (0,)


class Shuffle(Frozen):
    """The limit as a dial: shares of the words of every image, and of the native pixels inside every word, that change
    places, the same way in every image of the study. Given at all, images are enlarged by nearest neighbour."""

    words: Share = 0.0
    pixels: Share = 0.0
    word: Positive | None = None  # native pixels along a word, which must be the ViT's; None: of its 16×16 patches
    seed: Annotated[int, Field(ge=0)] = 0  # of the two permutations

    def __str__(self) -> str:
        shares = [("words", self.words), ("pixels", self.pixels)]
        if self.words == self.pixels:
            shares = [("words and pixels", self.words)]
        moved = [f"{'all' if share == 1 else f'{share:.0%} of the'} {what}" for what, share in shares if share]
        more = f", words of {self.word} pixels" if self.word else ""
        more += f", seed {self.seed}" if self.seed else ""
        return f"{' and '.join(moved)} shuffled{more}" if moved else "not shuffled"


class Pretrain(Frozen):
    """Where an entrant's first weights come from: the trained network of another study, its head made anew."""

    study: str  # its file, relative to this one
    n: Positive
    entrant: str | None = None  # None: the one of the same network

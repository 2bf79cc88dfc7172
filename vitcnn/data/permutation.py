"""The limit as a dial: the same two permutations for every image of a study, of its words and of the pixels in them.

What convolution takes for granted (near pixels belong together, everywhere alike) is made false by degrees, and what
self-attention with learned positions takes for granted is left alone.
"""

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from vitcnn.errors import ConfigError, Frozen, Positive, Share
from vitcnn.seeds import role_seed

WORDS = 4  # a side, at least: a ViT on fewer than 4×4 words is no ViT


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


def words_along(size: int, patch: int = 16) -> int:
    """Words along a side of what a ViT is shown of an image of `size` × `size`: whole patches, four or more."""
    return max(WORDS, math.ceil(size / patch))


def word_side(size: int, shuffle: Shuffle) -> int:
    """Native pixels along a word of an image of `size` × `size`. Raises ConfigError where words are not whole."""
    words = words_along(size)
    side = shuffle.word or size // words
    if not side or size % side or not (shuffle.word or size == side * words):
        want = f"words of {side}×{side}" if shuffle.word else f"{words}×{words} whole words"
        raise ConfigError(
            f"shuffle: an image of {size} pixels is not made of {want}; give `word`, its native pixels a side"
        )
    return side


def order(size: int, shuffle: Shuffle) -> np.ndarray:
    """(size²,) int64: the pixel, counted row by row, that comes to stand at each place. Raises ConfigError where words
    are not whole, or a share is of fewer than two things, which cannot change places."""
    side = word_side(size, shuffle)
    grid = size // side
    words = _permutation("words", grid**2, shuffle.words, role_seed(shuffle.seed, "shuffle", 0))
    pixels = _permutation("pixels", side**2, shuffle.pixels, role_seed(shuffle.seed, "shuffle", 1))
    places = np.arange(size**2).reshape(grid, side, grid, side).transpose(0, 2, 1, 3).reshape(grid**2, side**2)
    moved = places[words][:, pixels]
    return moved.reshape(grid, grid, side, side).transpose(0, 2, 1, 3).reshape(-1)


def _permutation(what: str, count: int, share: float, seed: int) -> np.ndarray:
    """Moves that share of `count` things, to the nearest one, round one random circle; a larger share moves the same
    and more."""
    chosen = np.random.default_rng(seed).permutation(count)[: round(share * count)]
    if share and len(chosen) < 2:
        raise ConfigError(f"shuffle: {share:g} of {count} {what} is fewer than two: nothing can change places")
    out = np.arange(count)
    out[chosen] = np.roll(chosen, 1)
    return out

"""The limit as a dial: the same two permutations for every image of a study, of its patches and of the pixels in them.

What convolution takes for granted (near pixels belong together, everywhere alike) is made false by degrees, and what
self-attention with learned positions takes for granted is left alone.
"""

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from vitcnn.errors import ConfigError, Frozen, Positive, Share
from vitcnn.seeds import role_seed

PATCHES = 4  # a side, at least: a ViT on fewer than 4×4 patches is no ViT


class Permutation(Frozen):
    """The limit as a dial: shares of the patches of every image, and of the native pixels inside every patch, that change
    places, the same way in every image of the study. Given at all, images are enlarged by nearest neighbour."""

    patches: Share = 0.0
    pixels: Share = 0.0
    patch: Positive | None = None  # native pixels along a patch, which must be the ViT's; None: of its 16×16 patches
    seed: Annotated[int, Field(ge=0)] = 0  # of the two permutations

    def __str__(self) -> str:
        shares = [("patches", self.patches), ("pixels", self.pixels)]
        if self.patches == self.pixels:
            shares = [("patches and pixels", self.patches)]
        moved = [f"{'all' if share == 1 else f'{share:.0%} of the'} {what}" for what, share in shares if share]
        more = f", patches of {self.patch} pixels" if self.patch else ""
        more += f", seed {self.seed}" if self.seed else ""
        return f"{' and '.join(moved)} permuted{more}" if moved else "not permuted"


def tokens_along(size: int, patch: int = 16) -> int:
    """Tokens along a side of what a ViT is shown of an image of `size` × `size`: whole patches, four or more."""
    return max(PATCHES, math.ceil(size / patch))


def patch_side(size: int, permutation: Permutation) -> int:
    """Native pixels along a patch of an image of `size` × `size`. Raises ConfigError where patches are not whole."""
    patches = tokens_along(size)
    side = permutation.patch or size // patches
    if not side or size % side or not (permutation.patch or size == side * patches):
        want = f"patches of {side}×{side}" if permutation.patch else f"{patches}×{patches} whole patches"
        raise ConfigError(
            f"permutation: an image of {size} pixels is not made of {want}; give `patch`, its native pixels a side"
        )
    return side


def order(size: int, permutation: Permutation) -> np.ndarray:
    """(size²,) int64: the pixel, counted row by row, that comes to stand at each place. Raises ConfigError where patches
    are not whole, or a share is of fewer than two things, which cannot change places."""
    side = patch_side(size, permutation)
    grid = size // side
    patches = _permutation("patches", grid**2, permutation.patches, role_seed(permutation.seed, "shuffle", 0))
    pixels = _permutation("pixels", side**2, permutation.pixels, role_seed(permutation.seed, "shuffle", 1))
    places = np.arange(size**2).reshape(grid, side, grid, side).transpose(0, 2, 1, 3).reshape(grid**2, side**2)
    moved = places[patches][:, pixels]
    return moved.reshape(grid, grid, side, side).transpose(0, 2, 1, 3).reshape(-1)


def _permutation(what: str, count: int, share: float, seed: int) -> np.ndarray:
    """Moves that share of `count` things, to the nearest one, round one random circle; a larger share moves the same
    and more."""
    chosen = np.random.default_rng(seed).permutation(count)[: round(share * count)]
    if share and len(chosen) < 2:
        raise ConfigError(f"permutation: {share:g} of {count} {what} is fewer than two: nothing can change places")
    out = np.arange(count)
    out[chosen] = np.roll(chosen, 1)
    return out

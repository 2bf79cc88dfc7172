"""Fixed permutations of an image's patches and of the pixels inside them, the same for every image of a study.

This gradually removes the locality that a convolution assumes, and does not affect self-attention with learned
positions.
"""

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from vitcnn.errors import ConfigError, Frozen, Positive, Share
from vitcnn.seeds import role_seed

PATCHES = 4  # a side, at least: fewer than 4×4 patches leave little to attend to


class Permutation(Frozen):
    """Shares of an image's patches, and of the native pixels inside each patch, that are permuted, identically in every
    image of a study. If set, images are enlarged by nearest neighbour."""

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
    """Tokens along a side of a ViT's input for images of `size` × `size`: whole patches, at least four."""
    return max(PATCHES, math.ceil(size / patch))


def patch_side(size: int, permutation: Permutation) -> int:
    """Native pixels along a patch of an image of `size` × `size`. Raises ConfigError if patches are not whole."""
    patches = tokens_along(size)
    side = permutation.patch or size // patches
    if not side or size % side or not (permutation.patch or size == side * patches):
        want = f"patches of {side}×{side}" if permutation.patch else f"{patches}×{patches} whole patches"
        raise ConfigError(
            f"permutation: an image of {size} pixels cannot be cut into {want}; "
            "set `patch` to the native pixels along a side"
        )
    return side


def order(size: int, permutation: Permutation) -> np.ndarray:
    """(size²,) int64: for each position, row by row, the index of the pixel that moves there. Raises ConfigError if
    patches are not whole, or a share covers fewer than two items."""
    side = patch_side(size, permutation)
    grid = size // side
    patches = _permutation("patches", grid**2, permutation.patches, role_seed(permutation.seed, "shuffle", 0))
    pixels = _permutation("pixels", side**2, permutation.pixels, role_seed(permutation.seed, "shuffle", 1))
    places = np.arange(size**2).reshape(grid, side, grid, side).transpose(0, 2, 1, 3).reshape(grid**2, side**2)
    moved = places[patches][:, pixels]
    return moved.reshape(grid, grid, side, side).transpose(0, 2, 1, 3).reshape(-1)


def _permutation(what: str, count: int, share: float, seed: int) -> np.ndarray:
    """Moves a share of `count` items (rounded) along one random cycle; a larger share moves a superset."""
    chosen = np.random.default_rng(seed).permutation(count)[: round(share * count)]
    if share and len(chosen) < 2:
        raise ConfigError(f"permutation: {share:g} of {count} {what} is fewer than two, so nothing can be permuted")
    out = np.arange(count)
    out[chosen] = np.roll(chosen, 1)
    return out

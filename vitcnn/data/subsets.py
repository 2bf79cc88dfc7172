"""The training subset of a cell: validation is held out first, then subsets are nested. NumPy only."""

import hashlib
from collections.abc import Collection

import numpy as np

BALANCED = 1.5  # classes whose sizes differ by no more than this are drawn in equal numbers


def nested_order(labels: np.ndarray, pool: np.ndarray, seed: int) -> np.ndarray:
    """A permutation of `pool` (indices into `labels`); subsets are its prefixes, so the smaller are in the larger.

    Where the classes are of like size every prefix is balanced (class counts differ by at most one until a class is
    used up); where they are not, every prefix is stratified. Same seed, same order.
    """
    counts = np.bincount(labels[pool])
    counts = counts[counts > 0]
    return _order(labels, pool, seed, balanced=counts.max() <= BALANCED * counts.min())


def stratified_order(labels: np.ndarray, pool: np.ndarray, seed: int) -> np.ndarray:
    """A permutation of `pool` of which every prefix has the classes in the pool's proportions."""
    return _order(labels, pool, seed, balanced=False)


def _order(labels: np.ndarray, pool: np.ndarray, seed: int, balanced: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pool = rng.permutation(np.sort(pool))
    key = np.empty(len(pool))
    for label in np.unique(labels[pool]):
        rows = np.flatnonzero(labels[pool] == label)
        if balanced:  # round after round, one image of each class; within a round in random order
            key[rows] = np.arange(len(rows)) + rng.random(len(rows))
        else:  # evenly spread over the whole length, from a random start
            key[rows] = (np.arange(len(rows)) + rng.random()) / len(rows)
    return pool[np.argsort(key, kind="stable")]


def split(labels: np.ndarray, validation: int, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(training indices (n,), validation indices (validation,)), disjoint; both in their nested order.

    Validation depends on `labels` alone, so it is the same for every n, seed and model. Raises ValueError if
    `labels` has too few.
    """
    if n + validation > len(labels):
        raise ValueError(f"{n} training and {validation} validation images requested, {len(labels)} available")
    held_out = stratified_order(labels, np.arange(len(labels)), seed=0)[:validation]
    pool = np.setdiff1d(np.arange(len(labels)), held_out)
    return nested_order(labels, pool, seed)[:n], held_out


def absent(labels: np.ndarray, rows: np.ndarray) -> list[int]:
    """Classes of which a training subset, rows of `labels`, has no image."""
    return np.setdiff1d(labels, labels[rows]).tolist()


def without_class(name: str, sizes: Collection[int]) -> str:
    """`at n = 12 and 30 some training subsets have no image of rare`."""
    return f"at n = {' and '.join(f'{n:,}' for n in sorted(sizes))} some training subsets have no image of {name}"


def subset_hash(indices: np.ndarray) -> str:
    """16 hexadecimal digits that identify a set of indices in any order."""
    return hashlib.sha256(np.sort(indices).astype("<i8").tobytes()).hexdigest()[:16]

"""What is computed from matrices of attention: pure functions on arrays.

`weights` (h, Q, T): of h heads, the attention of Q queries to T tokens; `queries` (Q, 2) and `tokens` (T, 2): row and
column of each, in the same unit.
"""

from collections.abc import Sequence

import numpy as np


def mean_distance(weights: np.ndarray, queries: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """(h,): the distance from a query to the tokens it attends to, weighted by its attention, the mean over queries
    (Dosovitskiy et al. 2021, figure 7; Raghu et al. 2021), in the unit of the positions. A query's weights count as
    shares of their sum; a query without any is left out, and a head of such queries is nan."""
    distance = np.linalg.norm(queries[:, None] - tokens[None], axis=-1)
    total = weights.sum(-1)
    shares = np.divide((weights * distance).sum(-1), total, out=np.full_like(total, np.nan), where=total > 0)
    some = ~np.isnan(shares)
    sums = np.where(some, shares, 0).sum(-1)
    return np.divide(sums, some.sum(-1), out=np.full_like(sums, np.nan), where=some.any(-1))


def by_offset(weights: np.ndarray, queries: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """(h, 2 · rows − 1, 2 · columns − 1): the share of a head's attention that falls on each offset (down, right) from
    the query, the mean over queries. `queries` are places in the `grid`; an offset that leaves it counts nothing."""
    tokens = np.stack(np.indices(grid), -1).reshape(-1, 2)
    reach = np.array(grid) - 1
    offset = tokens[None] - queries[:, None] + reach  # (Q, T, 2)
    inside = ((offset >= 0) & (offset <= 2 * reach)).all(-1)
    down, right = np.clip(offset, 0, 2 * reach).transpose(2, 0, 1)
    out = np.zeros((len(weights), *(2 * reach + 1)))
    heads = np.arange(len(weights))[:, None, None]
    np.add.at(out, (heads, down[None], right[None]), weights * inside / len(queries))
    return out


def rollout(layers: Sequence[np.ndarray], grids: Sequence[tuple[int, int]]) -> np.ndarray:
    """(T_L, T_1): attention rollout (Abnar & Zuidema 2020), the share of each token of the first layer in each of the
    last.

    `layers` (T_l, T_l): attention of each layer, the mean over heads. The residual connection counts half:
    Ã = (A + 1) / 2, rows of A summing to 1, and the rollout is Ã_L … Ã_1. Where a layer's grid is smaller than that of
    the layer before, each of its tokens is the mean of those that it covers (our extension, for Swin).
    """
    out, before = np.eye(len(layers[0])), grids[0]
    for weights, grid in zip(layers, grids, strict=True):
        if grid != before:
            out = merging(before, grid) @ out
        total = weights.sum(-1, keepdims=True)
        shares = np.divide(weights, total, out=np.eye(len(weights)), where=total > 0)
        out, before = (shares + np.eye(len(weights))) / 2 @ out, grid
    return out


def merging(before: tuple[int, int], after: tuple[int, int]) -> np.ndarray:
    """(tokens after, tokens before): each token of the smaller grid is the mean of those that it covers."""
    places = np.stack(np.indices(before), -1).reshape(-1, 2)
    factor = -(-np.array(before) // np.array(after))
    rows, columns = (places // factor).T
    out = np.zeros((after[0] * after[1], len(places)))
    out[rows * after[1] + columns, np.arange(len(places))] = 1
    return out / out.sum(1, keepdims=True)


def looked_at(weights: np.ndarray, prefix: int, class_token: bool) -> np.ndarray:
    """(h, T): where a head looks in an image, as shares of its attention to the image's tokens: from the class token
    (the first of the `prefix` tokens), or the mean over the queries of the image. `weights` (h, prefix + Q,
    prefix + T)."""
    rows = weights[:, 0, prefix:] if class_token else weights[:, prefix:, prefix:].mean(1)
    total = rows.sum(-1, keepdims=True)
    return np.divide(rows, total, out=np.zeros_like(rows), where=total > 0)

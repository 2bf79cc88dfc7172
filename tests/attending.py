"""Attention layers and masks for tests."""

import math
from itertools import product

import torch
from hypothesis import strategies as st
from torch import Tensor

from vitcnn.models.attention import SelfAttention, window_mask

SCORES, WEIGHTS, MASKS = ("scaled", "dot", "additive"), ("softmax", "relu", "relu/n"), ("none", "window", "graph")
EVERY_WAY = list(product(SCORES, WEIGHTS))
WORDS = st.sampled_from([1, 4, 9, 16, 25, 36, 49])


def a_mask(kind: str, N: int) -> Tensor | None:
    """Over a square number of tokens; a graph's edges are directed, and every token has one to itself."""
    if kind == "none":
        return None
    return window_mask(math.isqrt(N), 3) if kind == "window" else (torch.rand(N, N) < 0.4) | torch.eye(N).bool()


def made(width: int, heads: int, **how) -> SelfAttention:
    """In float64, with biases that are not small."""
    attention = SelfAttention(width, heads, **how).double()
    with torch.no_grad():
        for p in attention.parameters():
            p.normal_(std=0.7)
    return attention


def projections(attention: SelfAttention) -> list[tuple[Tensor, Tensor]]:
    """(W^q, bias), (W^k, bias), (W^v, bias)."""
    return list(zip(attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3), strict=True))

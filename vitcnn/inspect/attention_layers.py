"""The attention of every layer of a network, as one kind of array, whichever library the layers are from."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from timm.models.beit import Attention as BeitAttention
from timm.models.eva import EvaAttention
from timm.models.swin_transformer import SwinTransformerBlock, window_partition
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from vitcnn.models.attention import SelfAttention
from vitcnn.models.conv_attention import ConvAttention
from vitcnn.models.sasa import NeighbourhoodAttention
from vitcnn.models.timm_models import tokens_of

OF_TIMM = (Attention, BeitAttention, EvaAttention)


class Layer(NamedTuple):
    """A layer of attention on B images.

    `weights` (B, h, p + Q, p + T): of each query to each token, not negative; p = `prefix` class and register tokens
    come first. The other T tokens are a `grid` (rows, columns) over the image; `queries` (Q, 2): row and column of the
    others in that grid, as numbers of tokens. `windows`: ((side, shift) of rows, of columns) where tokens are shifted
    around the end and cut into windows. `in_residual`: a residual connection bridges this layer alone.
    """

    name: str
    weights: np.ndarray
    queries: np.ndarray
    grid: tuple[int, int]
    prefix: int = 0
    windows: tuple[tuple[int, int], tuple[int, int]] | None = None
    in_residual: bool = True


@torch.inference_mode()
def attention_layers(network: nn.Module, images: Tensor) -> tuple[np.ndarray, list[Layer]]:
    """(logits (B, classes), its layers of attention over a grid of tokens, in the order that they run). `images`
    (B, C, S, S) float, preprocessed. The list is empty where it has none that can be read: those of this package,
    of timm's ViTs (with BEiT and EVA) and of timm's first Swin Transformer can."""
    found: list[Layer] = []
    with _watched(network, len(images), found):
        logits = network(images)
    return logits.float().numpy(), found


@contextmanager
def _watched(network: nn.Module, images: int, found: list[Layer]) -> Iterator[None]:
    """Layers append themselves to `found` while the network runs."""
    hooks, fused = [], []
    embed, prefix = tokens_of(network), getattr(network, "num_prefix_tokens", 0)
    grid = getattr(embed, "grid_size", None)
    for name, module in network.named_modules():
        if isinstance(module, SelfAttention | ConvAttention | NeighbourhoodAttention):
            hooks.append(module.register_forward_hook(_own(name, found)))
        elif isinstance(module, SwinTransformerBlock) or (isinstance(module, OF_TIMM) and grid):
            swin = isinstance(module, SwinTransformerBlock)
            layer = module.attn if swin else module
            fused.append((layer, layer.fused_attn))
            layer.fused_attn = False  # the fused form never writes the weights out
            read = _of_windows(name, module, found) if swin else _of_timm(name, images, tuple(grid), prefix, found)
            hooks.append(layer.attn_drop.register_forward_hook(read))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer, before in fused:
            layer.fused_attn = before


def _own(name: str, found: list[Layer]) -> Callable:
    def read(layer: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        a = inputs[0]
        token_network = isinstance(layer, SelfAttention)
        grid = (round(a.shape[1] ** 0.5),) * 2 if token_network else tuple(a.shape[-2:])
        queries = layer.query_positions(*grid).numpy() if isinstance(layer, ConvAttention) else places(grid)
        weights = layer.attention(a).float().numpy()
        found.append(Layer(name, weights, queries, grid, in_residual=token_network))

    return read


def _of_timm(name: str, images: int, grid: tuple[int, int], prefix: int, found: list[Layer]) -> Callable:
    def read(_: nn.Module, __: tuple[Tensor, ...], weights: Tensor) -> None:
        tokens = prefix + grid[0] * grid[1]
        if weights.shape[:1] + weights.shape[2:] == (images, tokens, tokens):  # some attend to parts of the grid
            found.append(Layer(name, weights.float().numpy(), places(grid), grid, prefix))

    return read


def _of_windows(name: str, block: SwinTransformerBlock, found: list[Layer]) -> Callable:
    """Windows' weights (B · windows, h, n, n) become (B, h, N, N), 0 between windows. What falls on the zeros that fill
    windows up is left out."""

    def read(_: nn.Module, __: tuple[Tensor, ...], weights: Tensor) -> None:
        grid, (tall, wide) = tuple(block.input_resolution), block.window_size
        index = torch.arange(grid[0] * grid[1]).view(1, *grid, 1)
        index = torch.roll(index, [-s for s in block.shift_size], (1, 2))
        index = nn.functional.pad(index, (0, 0, 0, -grid[1] % wide, 0, -grid[0] % tall), value=grid[0] * grid[1])
        index = window_partition(index, block.window_size).flatten(1)  # (windows, n)
        windows, n = index.shape
        parts = weights.float().view(-1, windows, weights.shape[1], n, n).transpose(1, 2)
        out = torch.zeros(*parts.shape[:2], grid[0] * grid[1] + 1, grid[0] * grid[1] + 1)
        out[:, :, index[:, :, None], index[:, None, :]] = parts
        sides = tuple(zip(block.window_size, block.shift_size, strict=True))
        found.append(Layer(name, out[..., :-1, :-1].numpy(), places(grid), grid, windows=sides))

    return read


def places(grid: tuple[int, int]) -> np.ndarray:
    """(rows · columns, 2): row and column of every token, row by row."""
    return np.stack(np.indices(grid), -1).reshape(-1, 2)

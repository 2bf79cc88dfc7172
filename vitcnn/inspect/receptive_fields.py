"""The receptive fields that a trained network's attention heads have learned."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vitcnn.errors import ConfigError
from vitcnn.inspect.trained import trained
from vitcnn.models.attention import SelfAttention
from vitcnn.models.conv_attention import ConvAttention
from vitcnn.store.paths import StudyPaths
from vitcnn.study.cell import Cell
from vitcnn.training.evaluate import batches

IMAGES = 200  # of the test set


@torch.inference_mode()
def receptive_fields(cell: Cell, paths: StudyPaths, data_folder: str | Path | None = None) -> dict[str, np.ndarray]:
    """For each layer of attention, (heads, 2H − 1, 2W − 1): the share of a head's attention that falls on each offset
    (down, right) from the query, the mean over queries and over `IMAGES` test images.

    Raises ConfigError if the weights were not kept, or the network has no such layer.
    """
    network, look, data = trained(cell, paths, data_folder)
    layers = {n: m for n, m in network.named_modules() if isinstance(m, SelfAttention | ConvAttention)}
    if not layers:
        raise ConfigError(f"{cell.title}: {cell.arch.name} has no attention over a grid of tokens")
    seen: dict[str, list[Tensor]] = {name: [] for name in layers}

    def watch(name: str, layer: nn.Module) -> None:
        layer.register_forward_hook(lambda _, inputs, __: seen[name].append(_by_offset(layer, inputs[0])))

    for name, layer in layers.items():
        watch(name, layer)
    for images, _ in batches(data.test, IMAGES, size=20):
        network(look(images))
    return {name: torch.stack(parts).mean(0).numpy() for name, parts in seen.items()}


def _by_offset(layer: SelfAttention | ConvAttention, a: Tensor) -> Tensor:
    """The attention of one batch, summed by offset and divided by the number of queries."""
    weights = layer.attention(a).mean(0)  # (h, queries, tokens)
    if isinstance(layer, ConvAttention):
        size, queries = a.shape[-2:], layer.query_positions(*a.shape[-2:])
    else:
        side = round(a.shape[1] ** 0.5)
        size = (side, side)
        queries = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    tokens = torch.cartesian_prod(*map(torch.arange, size))
    reach = torch.tensor(size) - 1
    down, right = (tokens[None] - queries[:, None] + reach).unbind(-1)
    out = torch.zeros(len(weights), *(2 * reach + 1))
    there = (down.abs() <= 2 * reach[0]) & (right.abs() <= 2 * reach[1]) & (down >= 0) & (right >= 0)
    weights = weights * there  # an even kernel has queries one row and column outside the image
    where = (torch.arange(len(weights))[:, None, None], down.clamp(0, 2 * reach[0]), right.clamp(0, 2 * reach[1]))
    return out.index_put_(where, weights / len(queries), accumulate=True)

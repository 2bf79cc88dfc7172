"""A trained cell's convolutions rewritten as self-attention: do both networks agree on the whole test set?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from vitcnn.errors import ConfigError
from vitcnn.inspect.trained import trained
from vitcnn.models.conv_attention import Agreement, ConvAttention, agreement, rewrite
from vitcnn.store.paths import StudyPaths
from vitcnn.study.cell import Cell
from vitcnn.training.evaluate import batches


@dataclass(frozen=True)
class Rewritten:
    """One cell: how many convolutions became how many heads, and the agreement in float32 and in float64."""

    cell: Cell
    convolutions: int
    heads: int
    single: Agreement
    double: Agreement


def as_attention(cell: Cell, paths: StudyPaths, data_folder: str | Path | None = None) -> Rewritten:
    """Raises ConfigError if the weights were not kept, or the network has no convolution that can be rewritten."""
    network, look, data = trained(cell, paths, data_folder)
    both = []
    for dtype in (torch.float32, torch.float64):
        network = network.to(dtype)
        try:
            rewritten = rewrite(network)
        except ValueError as error:
            raise ConfigError(f"{cell.title}: {error}") from None
        both.append(agreement(network, rewritten, (look(images).to(dtype) for images, _ in batches(data.test))))
    layers: Sequence[nn.Module] = [m for m in rewritten.modules() if isinstance(m, ConvAttention)]
    return Rewritten(cell, len(layers), sum(layer.heads for layer in layers), *both)

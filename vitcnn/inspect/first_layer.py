"""What can be read from weights alone: first-layer filters and position embeddings."""

import numpy as np
from torch import nn

from vitcnn.models.conv_attention import ConvAttention
from vitcnn.models.timm_models import tokens_of
from vitcnn.models.vit import TokenNetwork


def first_filters(network: nn.Module, channels: int) -> tuple[np.ndarray, bool] | None:
    """(filters (D, C, k, k) of the first convolution over the image's channels, whether it embeds patches); None if
    there is none."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.shape[1] == channels and module.groups == 1:
            kernel, patches = module.weight, module.stride == module.kernel_size and module.kernel_size != (1, 1)
        elif isinstance(module, ConvAttention):
            kernel = module.out.weight.unflatten(1, (*module.kernel_size, -1)).permute(0, 3, 1, 2)
            patches = False
        else:
            continue
        return kernel.detach().float().numpy(), patches
    return None


def components(filters: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """(the first principal components (count, C, k, k) of filters (D, C, k, k), the share of their variance that these
    have): fewer where the filters span fewer."""
    flat = filters.reshape(len(filters), -1)
    _, values, rows = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    count = min(count, int((values > 1e-6 * values.max()).sum()))
    share = float((values[:count] ** 2).sum() / (values**2).sum()) if count else 0.0
    return rows[:count].reshape(-1, *filters.shape[1:]), share


def positions_of(network: nn.Module) -> np.ndarray | None:
    """(g, g, D): a vector for each token of the grid; None if the network has no position vectors."""
    if isinstance(network, TokenNetwork):
        vectors, grid = network.positions, (network.grid, network.grid)
    else:
        vectors = getattr(network, "pos_embed", None)
        grid = getattr(tokens_of(network), "grid_size", None)
        if not isinstance(vectors, nn.Parameter) or not grid or vectors.ndim != 3:
            return None
        vectors = vectors[0, -grid[0] * grid[1] :]  # class and register tokens come first
    vectors = vectors.detach().float().numpy()
    return vectors.reshape(*grid, -1) if np.abs(vectors).max() > 0 else None


def similarity(vectors: np.ndarray) -> np.ndarray:
    """(rows, columns, rows, columns): cosine similarity of each vector of a grid (rows, columns, D) to each."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return np.einsum("ijd,kld->ijkl", unit, unit)

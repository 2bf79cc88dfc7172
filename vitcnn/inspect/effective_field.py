"""Effective receptive fields: which pixels move the centre of a network's last feature map (Luo et al. 2016)."""

import numpy as np
import torch
from torch import Tensor, nn

from vitcnn.data.preprocess import Preprocess
from vitcnn.models.vit import TokenNetwork


def effective_field(network: nn.Module, look: Preprocess, images: Tensor) -> np.ndarray:
    """(H, W): the gradient of the centre of the last feature map with respect to the pixels of `images` (B, C, H, W)
    uint8; the sum over images and channels of its absolute value, in the arrangement that the network sees.

    Of an even number of places a side, the centre is the one below and to the right of the middle. Its numbers are
    added with random signs, the same for every network of that width: their plain sum is constant behind a layer norm.
    Raises ValueError if there is no last map.
    """
    pixels = images.float().requires_grad_()
    features = last_map(network, look(pixels))
    rows, columns = features.shape[2:]
    signs = torch.randint(2, (features.shape[1],), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    centre = features[:, :, rows // 2, columns // 2] @ signs.to(features.dtype)
    (gradient,) = torch.autograd.grad(centre.sum(), pixels)
    field = gradient.abs().sum((0, 1))
    if look.order is not None:
        field = field.flatten()[look.order].view(field.shape)
    return field.double().numpy()


def last_map(network: nn.Module, x: Tensor) -> Tensor:
    """(B, D, rows, columns): the last feature map before pooling. Of a network that is not of this package or timm, the
    last output of a module that is such a map. Raises ValueError if there is none."""
    if isinstance(network, TokenNetwork):
        return _outputs(network, x, [network.blocks])[0].transpose(1, 2).unflatten(2, (network.grid, network.grid))
    if hasattr(network, "forward_features"):
        features = network.forward_features(x)
        if isinstance(features, Tensor) and features.ndim == 3:
            tokens = features[:, getattr(network, "num_prefix_tokens", 0) :]
            side = round(tokens.shape[1] ** 0.5)
            if side**2 == tokens.shape[1]:
                return tokens.transpose(1, 2).unflatten(2, (side, side))
        if isinstance(features, Tensor) and features.ndim == 4:
            return features.permute(0, 3, 1, 2) if getattr(network, "output_fmt", "") == "NHWC" else features
        raise ValueError(f"{type(network).__name__} has no last feature map of one grid")
    maps = [y for y in _outputs(network, x, list(network.modules())) if y.ndim == 4 and min(y.shape[2:]) > 1]
    if not maps:
        raise ValueError(f"{type(network).__name__} has no feature map (B, D, rows, columns) before its logits")
    return maps[-1]


def _outputs(network: nn.Module, x: Tensor, modules: list[nn.Module]) -> list[Tensor]:
    """Outputs of modules that are tensors, in the order in which the modules end."""
    found: list[Tensor] = []

    def keep(_: nn.Module, __: tuple, output: object) -> None:
        if isinstance(output, Tensor):
            found.append(output)

    hooks = [module.register_forward_hook(keep) for module in modules]
    try:
        network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def field_side(field: np.ndarray) -> float:
    """The side in pixels of a field (H, W) of values that are not negative: the root of its effective number of pixels,
    (Σ f)² / Σ f². A square of equal values has its own side. nan if it is 0 everywhere."""
    total = (field**2).sum()
    return float(field.sum() / np.sqrt(total)) if total > 0 else float("nan")

"""The rungs of the ladder, ready to be looked at, and what of their input they depend on."""

import pytest
import torch
import torch.nn.functional as F
from building import DIGITS, RGB, made, shaken
from torch import Tensor, nn

from vitcnn.models.config import CNN, RNN, SASA, CNNAttention, Hybrid, Mixer, Swin, ViT, ViTWindow
from vitcnn.models.profile import profile
from vitcnn.models.registry import Timm

CONVNEXT = Timm(name="timm/convnext_atto", image_size=64, options={"dims": [24, 48, 96, 176], "depths": [1, 1, 2, 1]})
LADDER = [Mixer(), RNN(), ViT(), ViTWindow(), Hybrid(), Swin(), SASA(), CONVNEXT, CNN()]
RUNGS = [*LADDER, CNNAttention()]  # the last at 14 times the MACs: no rung of the matched ladder, but of its contract
every_rung = pytest.mark.parametrize("arch", RUNGS, ids=lambda m: m.name)
every_data = pytest.mark.parametrize("data", [DIGITS, RGB], ids=lambda d: d.name)


def ready(arch, data=RGB, seed: int = 0) -> nn.Module:
    return shaken(made(arch, data, seed)).eval()


def pictures(arch, data=RGB, count: int = 3) -> Tensor:
    size = profile(arch, data).input.image_size
    return torch.randn(count, data.channels, size, size, generator=torch.Generator().manual_seed(9))


def permuted(images: Tensor, order: Tensor, patch: int = 16) -> Tensor:
    """Whole patches change paths: patch order[i] comes to stand at i."""
    tokens = F.unfold(images, patch, stride=patch)
    return F.fold(tokens[..., order], images.shape[-2:], patch, stride=patch)


def influence(function, tokens: Tensor, i: int) -> Tensor:
    """(N,): how much each of the tokens (1, N, D) can move the i-th of the outputs (1, N, D')."""
    tokens = tokens.detach().requires_grad_()
    out = function(tokens)[0, i]
    (gradient,) = torch.autograd.grad((out * torch.randn_like(out)).sum(), tokens)
    return gradient[0].abs().amax(-1)

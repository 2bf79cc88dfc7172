"""Networks over tokens: a patch-based Vision Transformer (Dosovitskiy et al. 2021), mean-pooled as in Beyer, Zhai &
Kolesnikov 2022, and variants with other token mixers or patch embeddings."""

import math
from collections.abc import Callable

import torch
from timm.layers import DropPath, Mlp
from timm.models.mlp_mixer import MlpMixer
from torch import Tensor, nn

from vitcnn.models.attention import SelfAttention, sinusoidal, sinusoidal_2d, window_mask


class Block(nn.Module):
    """Encoder block, pre-norm (Dosovitskiy et al. 2021, equations 2 and 3): a residual around the token mixer, a
    residual around a position-wise MLP. (B, N, D) -> same."""

    def __init__(self, width: int, attention: nn.Module, mlp_ratio: float, drop_path: float):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), attention
        self.norm2, self.mlp = nn.LayerNorm(width), Mlp(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attention(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Recurrence(nn.Module):
    """A bidirectional LSTM (Hochreiter & Schmidhuber 1997; Schuster & Paliwal 1997) in attention's place, half the
    width each way: (B, N, D) -> (B, N, D). Raises ValueError if the width is odd."""

    def __init__(self, width: int):
        super().__init__()
        if width % 2:
            raise ValueError(f"a width of {width} cannot be split into two directions; make it even")
        self.lstm = nn.LSTM(width, width // 2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]


class TokenNetwork(nn.Module):
    """(B, C, S, S) -> logits (B, classes): tokens, blocks, their mean, a linear head.

    `embed`: images to a grid of tokens (B, D, g, g); `mix()`: a new module (B, N, D) -> (B, N, D) for each block.
    `drop_path` is the rate of the last block; it grows linearly from 0 at the first (Huang et al. 2016),
    so a single block drops nothing.
    """

    def __init__(
        self,
        *,
        embed: nn.Module,
        positions: str,
        grid: int,
        mix: Callable[[], nn.Module],
        classes: int,
        width: int,
        depth: int,
        mlp_ratio: float,
        drop_path: float,
    ):
        super().__init__()
        self.grid, self.embed = grid, embed
        if positions == "learned":
            self.positions = nn.Parameter(torch.empty(grid**2, width))
            nn.init.normal_(self.positions, std=0.02)  # as in the code of the ViT paper
        else:
            self.register_buffer("positions", _fixed(positions, grid, width), persistent=False)
        rates = torch.linspace(0, drop_path, depth, device="cpu").tolist()  # on the meta device they have no values
        self.blocks = nn.Sequential(*(Block(width, mix(), mlp_ratio, rate) for rate in rates))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images).flatten(2).transpose(1, 2)  # (B, N, D)
        tokens = self.blocks(tokens + self.positions)
        return self.head(self.norm(tokens).mean(1))


def _fixed(positions: str, grid: int, width: int) -> Tensor:
    if positions == "none":
        return torch.zeros(grid**2, width)
    return sinusoidal_2d(grid, width) if positions == "sinusoidal" else sinusoidal(torch.arange(grid**2), width)


def vit(
    *,
    image_size: int,
    patch_size: int,
    channels: int,
    width: int,
    heads: int,
    positions: str,
    score: str,
    weights: str,
    window: int | None = None,
    convolutions: bool = False,
    **rest: float,
) -> TokenNetwork:
    """(B, C, S, S) -> logits (B, classes): a ViT (Dosovitskiy et al. 2021). `window`: each token sees that many tokens
    a side; `convolutions`: a convolutional stem (Xiao et al. 2021). Raises ValueError if tokens, heads or positions
    do not come out whole."""
    grid = _grid(image_size, patch_size)
    mask = window_mask(grid, window) if window else None
    embed = conv_stem(channels, width, patch_size) if convolutions else patches(channels, width, patch_size)
    return TokenNetwork(
        embed=embed,
        grid=grid,
        positions=positions,
        mix=lambda: SelfAttention(width, heads, score=score, weights=weights, mask=mask),
        width=width,
        **rest,
    )


def rnn(*, image_size: int, patch_size: int, channels: int, width: int, **rest: float) -> TokenNetwork:
    """(B, C, S, S) -> logits (B, classes): the ViT with an LSTM in attention's place. Raises ValueError if tokens do
    not come out whole or the width is odd."""
    return TokenNetwork(
        embed=patches(channels, width, patch_size),
        grid=_grid(image_size, patch_size),
        positions="none",  # the order of the sequence gives the positions
        mix=lambda: Recurrence(width),
        width=width,
        **rest,
    )


def mixer(
    *,
    image_size: int,
    patch_size: int,
    channels: int,
    classes: int,
    width: int,
    depth: int,
    token_ratio: float,
    mlp_ratio: float,
    drop_path: float,
) -> nn.Module:
    """(B, C, S, S) -> logits (B, classes): timm's MLP-Mixer (Tolstikhin et al. 2021), with learned weights between all
    pairs of positions. Raises ValueError if tokens do not come out whole."""
    _grid(image_size, patch_size)
    return MlpMixer(
        img_size=image_size,
        patch_size=patch_size,
        in_chans=channels,
        num_classes=classes,
        num_blocks=depth,
        embed_dim=width,
        mlp_ratio=(token_ratio, mlp_ratio),
        drop_path_rate=drop_path,
    )


def patches(channels: int, width: int, patch_size: int) -> nn.Module:
    """(B, C, S, S) -> tokens (B, D, g, g), g = S / patch_size: one matrix for all patches (Dosovitskiy et al. 2021)."""
    return nn.Conv2d(channels, width, patch_size, stride=patch_size)


def conv_stem(channels: int, width: int, patch_size: int) -> nn.Module:
    """(B, C, S, S) -> tokens (B, D, g, g), g = S / patch_size: 3×3 convolutions of stride 2 that double the channels up
    to `width` at the grid of tokens, then 1×1 (Xiao et al. 2021). Raises ValueError if the patch is no power of two
    from 2 on, or the width cannot be halved so often."""
    steps = int(math.log2(patch_size))
    if 2**steps != patch_size or not steps or width % 2 ** (steps - 1):
        raise ValueError(
            f"a convolutional stem halves the image until a token is one pixel: patch_size {patch_size} must be a "
            f"power of two, and the width {width} divisible by half of it"
        )
    layers, inside = [], channels
    for out in (width // 2 ** (steps - 1 - k) for k in range(steps)):
        layers += [nn.Conv2d(inside, out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-3].weight, mode="fan_out", nonlinearity="relu")
        inside = out
    return nn.Sequential(*layers, nn.Conv2d(width, width, 1))


def _grid(image_size: int, patch_size: int) -> int:
    if image_size % patch_size:
        raise ValueError(f"an image of {image_size} pixels cannot be cut into whole {patch_size}×{patch_size} tokens")
    return image_size // patch_size

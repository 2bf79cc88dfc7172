"""A patch-based Vision Transformer (Dosovitskiy et al. 2021), mean-pooled as in Beyer, Zhai & Kolesnikov 2022."""

import torch
from timm.layers import DropPath, Mlp
from torch import Tensor, nn

from vitcnn.models.attention import SelfAttention


class Block(nn.Module):
    """Encoder block, pre-norm: residual around attention, residual around a position-wise MLP. (B, N, D) -> same."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, drop_path: float):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), SelfAttention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width), Mlp(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attention(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class VisionTransformer(nn.Module):
    """(B, C, S, S) -> logits (B, classes). The image is cut into (S / P)² words of P×P pixels.

    `drop_path` is the rate of the last block; it grows linearly from 0 at the first (Huang et al. 2016),
    so a single block drops nothing.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        channels: int,
        classes: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        positions: str,
        drop_path: float,
    ):
        super().__init__()
        if image_size % patch_size:
            raise ValueError(f"an image of {image_size} pixels is not made of whole {patch_size}×{patch_size} words")
        self.grid = image_size // patch_size
        self.embed = nn.Conv2d(channels, width, patch_size, stride=patch_size)
        if positions == "learned":
            self.positions = nn.Parameter(torch.empty(self.grid**2, width))
            nn.init.normal_(self.positions, std=0.02)  # ViT paper's code
        else:
            self.register_buffer("positions", sinusoidal(self.grid, width), persistent=False)
        rates = torch.linspace(0, drop_path, depth).tolist()
        self.blocks = nn.Sequential(*(Block(width, heads, mlp_ratio, rate) for rate in rates))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        words = self.embed(images).flatten(2).transpose(1, 2)  # (B, N, D)
        words = self.blocks(words + self.positions)
        return self.head(self.norm(words).mean(1))


def sinusoidal(grid: int, width: int) -> Tensor:
    """Fixed 2-D positions (grid², width): sines and cosines of the row, then of the column (Beyer et al. 2022)."""
    if width % 4:
        raise ValueError(f"sinusoidal positions need a width divisible by 4, not {width}")
    place = torch.arange(grid, dtype=torch.float32)
    omega = 10_000 ** -torch.linspace(0, 1, width // 4)
    angle = place[:, None] * omega
    axis = torch.cat([angle.sin(), angle.cos()], 1)  # (grid, width / 2)
    rows, columns = axis.repeat_interleave(grid, 0), axis.repeat(grid, 1)
    return torch.cat([rows, columns], 1)

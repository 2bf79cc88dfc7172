"""Stand-alone self-attention over each pixel's neighbourhood (Ramachandran et al. 2019)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitcnn.models.resnet import ResNet

TILE = 4  # pixels a side that share the keys around them


class NeighbourhoodAttention(nn.Module):
    """Each pixel attends to the `window` × `window` pixels around it inside the image (Ramachandran et al. 2019):
    (B, C, H, W) -> (B, C', H, W).

    α_ij = q^i · (k^j + r^{j − i}) / √d with a vector r learned for every offset (the paper: half of it for the row,
    half for the column, and no √d), softmax over the neighbourhood. Computed by tiles: 4×4 pixels and the (3 + window)²
    around and in them (Vaswani et al. 2021), so the cost is O(H·W·window²).
    Raises ValueError if `head_width` does not divide C'.
    """

    def __init__(self, channels: int, out: int, window: int, head_width: int):
        super().__init__()
        if out % head_width:
            raise ValueError(f"heads of {head_width} numbers do not divide {out} channels")
        self.reach, self.head_width = window // 2, head_width
        self.qkv = nn.Linear(channels, 3 * out, bias=False)
        self.r = nn.Parameter(torch.randn(window**2, head_width) * head_width**-0.5)
        for reach in {0, self.reach}:
            offset, near = _offsets(self.reach, reach)
            self.register_buffer(f"offset{reach}", offset, persistent=False)
            self.register_buffer(f"near{reach}", near, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        B, _, H, W = x.shape
        t, d = TILE, self.head_width
        reach = 0 if max(H, W) <= t else self.reach  # a single tile has no surroundings
        spare = (0, -W % t, 0, -H % t)  # up to whole tiles
        around = (reach, reach + spare[1], reach, reach + spare[3])
        q, k, v = self.qkv(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).chunk(3, 1)  # (B, C', H, W) each

        def cut(y: Tensor, padding: tuple[int, ...], side: int) -> Tensor:  # (B, T tiles, h, side², numbers)
            tiles = F.unfold(F.pad(y, padding), side, stride=t)
            return tiles.view(len(y), -1, min(d, y.shape[1]), side**2, tiles.shape[-1]).permute(0, 4, 1, 3, 2)

        tall = t + 2 * reach
        q, k, v = cut(q, spare, t) / d**0.5, cut(k, around, tall), cut(v, around, tall)
        offset, near = self.get_buffer(f"offset{reach}"), self.get_buffer(f"near{reach}")
        alpha = q @ k.transpose(-2, -1) + torch.einsum("bthid,ijd->bthij", q, self.r[offset])
        there = cut(x.new_ones(1, 1, H, W), around, tall).transpose(-2, -1)[0] > 0  # (T, 1, 1, tall²): in the image
        alpha = alpha.masked_fill(~(near & there), torch.finfo(alpha.dtype).min)
        b = (alpha.softmax(-1) @ v).permute(0, 2, 4, 3, 1)  # (B, h, d, t², T)
        b = F.fold(b.reshape(B, -1, b.shape[-1]), (H + spare[3], W + spare[1]), t, stride=t)
        return b[..., :H, :W]

    def attention(self, x: Tensor) -> Tensor:
        """Attention of each pixel to each pixel, (B, h, H·W, H·W), for inspection; 0 outside the neighbourhood."""
        B, _, H, W = x.shape
        q, k, _ = self.qkv(x.permute(0, 2, 3, 1)).view(B, H * W, 3, -1, self.head_width).permute(2, 0, 3, 1, 4)
        place = torch.cartesian_prod(torch.arange(H), torch.arange(W))
        offset = place[None] - place[:, None] + self.reach  # (N, N, 2), 0 … window − 1 inside
        near = ((offset >= 0) & (offset <= 2 * self.reach)).all(-1)
        down, right = offset.clamp(0, 2 * self.reach).unbind(-1)
        r = self.r[(2 * self.reach + 1) * down + right]
        alpha = q @ k.transpose(-2, -1) + torch.einsum("bhid,ijd->bhij", q, r)
        return (alpha / self.head_width**0.5).masked_fill(~near, -torch.inf).softmax(-1)


def _offsets(window_reach: int, reach: int) -> tuple[Tensor, Tensor]:
    """For a tile's pixels and those up to `reach` around it, (16, (4 + 2 reach)²) each: the number that the offset
    between the two has in a window, and whether it lies in one."""
    window = 2 * window_reach + 1
    down = torch.arange(-reach, TILE + reach) - torch.arange(TILE)[:, None] + window_reach  # 0 … window − 1 inside
    inside, down = (down >= 0) & (down < window), down.clamp(0, window - 1)
    shape = (TILE**2, (TILE + 2 * reach) ** 2)
    offset = window * down[:, None, :, None] + down[None, :, None, :]
    return offset.reshape(shape), (inside[:, None, :, None] & inside[None, :, None, :]).reshape(shape)


def sasa(*, window: int, head_width: int, **cnn: object) -> ResNet:
    """(B, C, S, S) -> logits (B, classes): the CNN with neighbourhood attention in place of both 3×3 convolutions of
    each block (Ramachandran et al. 2019); its stem and the 1×1 convolutions of its shortcuts stay. Where a block halves
    the grid, 2×2 pixels are averaged before they attend (the paper: after, at four times the cost). Raises ValueError
    as the CNN and the attention do."""
    network = ResNet(**cnn)
    for block in network.stages:
        for name in ("conv1", "conv2"):
            conv = getattr(block, name)
            attention = NeighbourhoodAttention(conv.in_channels, conv.out_channels, window, head_width)
            pool = nn.AvgPool2d(2, ceil_mode=True) if conv.stride != (1, 1) else nn.Identity()
            setattr(block, name, nn.Sequential(pool, attention))
    return network

"""A CNN is a special case of self-attention: a trained convolution rewritten as one (Cordonnier, Loukas & Jaggi 2020),
and the same layer with learnable attention, behind ConViT's gate (d'Ascoli et al. 2021).

Shapes: B images of C channels and H×W pixels, the tokens; h heads, one per kernel offset; C' channels and H'×W' out.
"""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EXACT = 110.0  # sharpness at which a head attends to one pixel: e^-104 is 0 in float32; 4·e^-110 leaks in float64
FREED = 4.0  # sharpness for learning: 7 % leaks, and the output changes by 0.3 of the image's slope per unit of Δ
CONTENT = 0.1  # deviation of the content scores at the start, on tokens of unit variance: attention is nearly uniform
LANES = 16  # the CPU's attention is 1.5 times faster on tokens padded from 3 to 16 numbers (float32, AVX-512; measured)


class ConvAttention(nn.Module):
    """A 2-D convolution as multi-head self-attention with relative positions: (B, C, H, W) -> (B, C', H', W').

    The tokens are the pixels and, around the image, `padding` tokens of zeros, attended like the others. Head h gives
    the token at s, seen from the query at p, the score −α_h‖(s − p) − Δ_h‖² (the quadratic encoding): softmax over all
    tokens peaks at the offset Δ_h, the sharper the larger α. W^v and W^O are one matrix `out` (C', h·C): the kernel.
    Queries are computed only where the stride puts them, at the (right) middle of the kernel.

    `gate=None` is the convolution itself: Δ and α are fixed. With a number, attention is ConViT's gated positional
    self-attention, (1 − σ(λ_h))·softmax(q·k/√d) + σ(λ_h)·A_pos,h; λ (starting at `gate`), Δ, log α, and W^q and W^k of
    d = `head_width` numbers a head, are learned. Content attention is over the image's own tokens, without the padding.
    `sharpness` is α at the start: `EXACT`, or `FREED` with a gate. A kernel is then blurred from the start, each pixel
    keeping 1 − 4·e^-α of its weight (α = 4: 93 %), but an α much larger has no gradient left for Δ.

    Raises ValueError if the sharpness or the head width is not positive, and on images smaller than the kernel.
    """

    def __init__(
        self,
        kernel: Tensor,
        bias: Tensor | None = None,
        *,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        gate: float | None = None,
        sharpness: float | None = None,
        head_width: int = 8,
    ):
        super().__init__()
        sharpness = (EXACT if gate is None else FREED) if sharpness is None else sharpness
        if not sharpness > 0 or head_width < 1:
            raise ValueError(f"sharpness {sharpness} and head_width {head_width} must be positive")
        out, C, *self.kernel_size = kernel.shape
        self.stride, self.padding, self.dilation = stride, padding, dilation
        taps = list(zip(self.kernel_size, dilation, strict=True))
        self.middle = [d * (k // 2) for k, d in taps]
        self.heads, self._known = math.prod(self.kernel_size), None
        like = {"dtype": kernel.dtype, "device": kernel.device}
        self.out = nn.utils.skip_init(nn.Linear, self.heads * C, out, bias is not None, **like)
        with torch.no_grad():
            self.out.weight.copy_(kernel.permute(0, 2, 3, 1).flatten(1))
            if bias is not None:
                self.out.bias.copy_(bias)
        positions = torch.cartesian_prod(*(d * (torch.arange(k, **like) - k // 2) for k, d in taps))  # Δ: (h, 2)
        log_sharpness = torch.full((self.heads,), math.log(sharpness), **like)
        if gate is None:
            self.gates = None
            self.register_buffer("positions", positions, persistent=False)
            self.register_buffer("log_sharpness", log_sharpness, persistent=False)
        else:
            self.positions, self.log_sharpness = nn.Parameter(positions), nn.Parameter(log_sharpness)
            self.gates = nn.Parameter(torch.full((self.heads,), float(gate), **like))  # λ
            self.qk = nn.Parameter(torch.randn(2, self.heads, head_width, C, **like) * math.sqrt(CONTENT / C))

    @classmethod
    def of(
        cls, conv: nn.Conv2d, gate: float | None = None, sharpness: float | None = None, head_width: int = 8
    ) -> "ConvAttention":
        """`conv` with its trained weights. Raises ValueError if it has groups, is not padded with a given number of
        zeros, or is a subclass, which may compute something else."""
        if type(conv) is not nn.Conv2d:
            raise ValueError(f"{type(conv).__name__} is not a plain Conv2d and may compute something else")
        if conv.groups != 1:
            raise ValueError(
                f"convolutions with groups ({conv.groups}) are not supported: an attention head sees every channel"
            )
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            what = f"padding {conv.padding!r} of {conv.padding_mode!r}"
            raise ValueError(f"{what} is not supported; only a fixed number of zeros")
        fields = {name: getattr(conv, name) for name in ("stride", "padding", "dilation")}
        layer = cls(conv.weight, conv.bias, **fields, gate=gate, sharpness=sharpness, head_width=head_width)
        for new, old in zip(layer.out.parameters(), conv.parameters(), strict=True):
            new.requires_grad_(old.requires_grad)
        return layer.train(conv.training)

    def forward(self, images: Tensor) -> Tensor:
        a = images.permute(0, 2, 3, 1)
        H, W = a.shape[1:3]
        rows, columns = self.positional(H, W)
        top, left = self.padding
        rows, columns = rows[..., top : top + H], columns[..., left : left + W]  # the zeros add nothing to the mean
        gate = 1.0 if self.gates is None else self.gates.sigmoid()[:, None, None]
        b = torch.einsum("byxc,hiy,hjx->bijhc", a, gate * rows, columns)  # left to right: A_pos is never written out
        if self.gates is not None:
            b = b + (1 - gate[..., 0]) * self.content(a, *b.shape[1:3])
        return self.out(b.flatten(3)).permute(0, 3, 1, 2)  # concatenate the heads, then the kernel

    def positional(self, H: int, W: int) -> tuple[Tensor, Tensor]:
        """A_pos as rows (h, H', H + 2·padding) and columns (h, W', W + 2·padding), each softmax over its last axis.

        The squared distance is a sum over the two axes, so the softmax over the grid is a product of two:
        A_pos,h[(i, j), (y, x)] = rows[h, i, y] · columns[h, j, x]. Without a gate it is computed once per image size.
        """
        if self.gates is not None or self.positions.requires_grad or self.log_sharpness.requires_grad:
            return self._softmax(0, H), self._softmax(1, W)
        key = (H, W, self.positions.dtype, self.positions.device)
        if self._known is None or self._known[0] != key:
            with torch.inference_mode(False), torch.no_grad():  # training may follow on what inference has computed
                self._known = key, (self._softmax(0, H), self._softmax(1, W))
        return self._known[1]

    def _softmax(self, axis: int, size: int) -> Tensor:
        padded, stride = size + 2 * self.padding[axis], self.stride[axis]
        reach = self.dilation[axis] * (self.kernel_size[axis] - 1)
        if padded <= reach:
            raise ValueError(f"{size} pixels, {padded} with the padding, are fewer than the kernel's {reach + 1}")
        s = torch.arange(padded, dtype=self.positions.dtype, device=self.positions.device)
        p = s[: padded - reach : stride] + self.middle[axis]
        distance = s - p[:, None] - self.positions[:, axis, None, None]
        return (-self.log_sharpness.exp()[:, None, None] * distance**2).softmax(-1)

    def content(self, a: Tensor, rows: int, columns: int) -> Tensor:
        """softmax(q·k/√d) of each head applied to the tokens: (B, H, W, C) -> (B, H', W', h, C).

        (W^q p)·(W^k s) = (W^kᵀ W^q p)·s: with W^k moved to the queries, the keys of all heads are the tokens
        themselves, as the values are, and the heads of a query are h queries more. A query in the padding attends
        uniformly.
        """
        B, _, _, C = a.shape
        q = self._queries(a, rows, columns).reshape(B, 1, -1, C)
        q, tokens = (F.pad(t, (0, -C % LANES)) for t in (q, a.reshape(B, 1, -1, C)))
        b = F.scaled_dot_product_attention(q, tokens, tokens, scale=self.qk.shape[2] ** -0.5)
        return b[..., :C].reshape(B, rows, columns, self.heads, C)

    def _queries(self, a: Tensor, rows: int, columns: int) -> Tensor:
        """W^kᵀ W^q p of every head, (B, H', W', h, C)."""
        (top, left), (down, right) = self.padding, self.stride
        padded = F.pad(a, (0, 0, left, left, top, top))
        p = padded[:, self.middle[0] :: down, self.middle[1] :: right][:, :rows, :columns]
        return torch.einsum("bijc,hdc,hde->bijhe", p, *self.qk)

    def attention(self, images: Tensor) -> Tensor:
        """Attention of each head to each token of the image, (B, h, H'·W', H·W), for inspection; without the
        padding."""
        a = images.permute(0, 2, 3, 1)
        (B, H, W, C), (top, left) = a.shape, self.padding
        rows, columns = self.positional(H, W)
        A = torch.einsum("hiy,hjx->hijyx", rows[..., top : top + H], columns[..., left : left + W])
        A = A.reshape(1, self.heads, -1, H * W).expand(B, -1, -1, -1)
        if self.gates is None:
            return A
        q = self._queries(a, rows.shape[1], columns.shape[1]).reshape(B, -1, self.heads, C).transpose(1, 2)
        content = (q @ a.reshape(B, 1, -1, C).transpose(-2, -1) * self.qk.shape[2] ** -0.5).softmax(-1)
        gate = self.gates.sigmoid()[:, None, None]
        return gate * A + (1 - gate) * content

    def query_positions(self, H: int, W: int) -> Tensor:
        """Row and column of the queries in an image of H×W, (H'·W', 2)."""
        rows, columns = self.positional(H, W)
        axes = zip((rows, columns), self.middle, self.padding, self.stride, strict=True)
        return torch.cartesian_prod(*(m - p + s * torch.arange(x.shape[1]) for x, m, p, s in axes))


def rewrite(
    network: nn.Module, gate: float | None = None, sharpness: float | None = None, head_width: int = 8
) -> nn.Module:
    """A copy of the network with every Conv2d replaced by a ConvAttention of the same name.

    Without a gate, outputs are equal up to rounding (Cordonnier et al. 2020), and torch's generator is not used. With
    one (d'Ascoli et al. 2021), outputs are close, and W^q and W^k are drawn at random. Raises ValueError if there is no
    convolution, or one that cannot be rewritten.
    """
    box, new = nn.Sequential(copy.deepcopy(network)), {}  # boxed: the network may itself be a convolution
    for name, module in list(box.named_modules(remove_duplicate=False)):
        if isinstance(module, nn.Conv2d):
            try:
                new[module] = new.get(module) or ConvAttention.of(module, gate, sharpness, head_width)
            except ValueError as error:
                raise ValueError(f"{name[2:] or 'the network'}: {error}") from None
            box.set_submodule(name, new[module])
    if not new:
        raise ValueError(f"{type(network).__name__} has no Conv2d to rewrite")
    return box[0]


@dataclass(frozen=True)
class Agreement:
    """How far two networks agree: over `images`, the `largest` absolute difference of logits, and how many predictions
    are the `same`."""

    images: int
    largest: float
    same: int


def agreement(network: nn.Module, rewritten: nn.Module, batches: Iterable[Tensor]) -> Agreement:
    """Both networks on batches of images (B, C, H, W), in evaluation mode, which they are left in. Raises ValueError
    where there is no batch."""
    network.eval()
    rewritten.eval()
    images, largest, same = 0, [], 0
    with torch.inference_mode():
        for batch in batches:
            one, two = network(batch), rewritten(batch)
            images += len(batch)
            largest.append((one - two).abs().max())
            same += int((one.argmax(1) == two.argmax(1)).sum())
    if not largest:
        raise ValueError("no images to compare the networks on")
    return Agreement(images, torch.stack(largest).max().item(), same)  # torch's max, not Python's, keeps a NaN

"""Counter-based random numbers: number j of image i of a stream is a hash of these three.

Integers only, so that a CPU and a GPU draw the same numbers, whatever the batch. The generator is splitmix64 (Steele,
Lea & Flood 2014): every image has one of its own, which starts at a hash of the stream and the image's number.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15  # 2⁶⁴ divided by the golden ratio, odd
_FACTORS = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # Stafford's variant 13, as in splitmix64
_ALL = 2**64 - 1


def states(stream: int, numbers: Tensor) -> Tensor:
    """(B,) int64 numbers of images of a stream, 0 ≤ stream < 2⁶⁴ -> (B,) int64, where their generators start.

    Within a stream no two images start at the same place: every step of the hash is invertible.
    """
    key = stream & _ALL
    for factor, shift in zip((*_FACTORS, 1), (30, 27, 31), strict=True):
        key = ((key ^ (key >> shift)) * factor) & _ALL
    return _mixed((numbers + 1) * _signed(_GOLDEN) + _signed(key))


def random_bytes(state: Tensor, first: int, count: int) -> Tensor:
    """(B,) -> (B, 8 · count) uint8: bytes 8 · first … of every image's generator."""
    return _tokens(state, first, count).view(torch.uint8)


def random_uint16(state: Tensor, first: int, count: int) -> Tensor:
    """As `random_bytes`, but (B, 4 · count) int64 in 0 … 65,535."""
    return _tokens(state, first, count).view(torch.int16).long() & 0xFFFF


def random_uint32(state: Tensor, first: int, count: int) -> Tensor:
    """As `random_bytes`, but (B, 2 · count) int64 in 0 … 2³² − 1."""
    return _tokens(state, first, count).view(torch.int32).long() & 0xFFFFFFFF


def below(bits: Tensor, limit: Tensor | int) -> Tensor:
    """Uniform in 0 … limit − 1, from 32 random bits; limit < 2³¹ (off from uniform by at most limit / 2³²)."""
    return (bits * limit) >> 32


def portions(numbers: Tensor, most: int) -> tuple[Tensor, ...]:
    """`most` at a time on a CPU, so that intermediate results fit its cache; elsewhere all at once."""
    return numbers.split(most) if numbers.device.type == "cpu" else (numbers,)


def noisy(images: Tensor, share: float, state: Tensor, first: int) -> Tensor:
    """(B, C, H, W) uint8 with that share of the pixels, to 1/256, replaced by noise, each channel by its own; uses the
    bytes of the generator from `first`."""
    (B, C, H, W), count = images.shape, -(-images[0, 0].numel() // 8)
    drawn = random_bytes(state, first, count * (C + 1)).view(B, C + 1, 8 * count)[..., : H * W].view(B, C + 1, H, W)
    limit = round(share * 256)
    return torch.where(drawn[:, :1] < limit, drawn[:, 1:], images) if limit < 256 else drawn[:, 1:]


def histogram(values: Tensor, bins: int) -> Tensor:
    """(R, M) int64 in 0 … bins − 1 -> (R, bins) int32, the counts of each row."""
    counts = torch.zeros(len(values), bins, dtype=torch.int32, device=values.device)
    with _any_order():
        return counts.scatter_add_(1, values, torch.ones_like(values, dtype=torch.int32))


@contextlib.contextmanager
def _any_order() -> Iterator[None]:
    """Integer sums do not depend on the order, so torch's deterministic (sorting) form is not needed."""
    strict, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)


def _tokens(state: Tensor, first: int, count: int) -> Tensor:
    """(B,) -> (B, count) int64."""
    place = torch.arange(first + 1, first + 1 + count, device=state.device) * _signed(_GOLDEN)
    return _mixed(state[:, None] + place)


def _mixed(x: Tensor) -> Tensor:
    """The finaliser of splitmix64, of int64 that stand for uint64; torch shifts the sign in, which is masked."""
    for factor, shift in zip(_FACTORS, (30, 27), strict=True):
        x = (x ^ ((x >> shift) & (_ALL >> shift))) * _signed(factor)
    return x ^ ((x >> 31) & (_ALL >> 31))


def _signed(x: int) -> int:
    return x - 2**64 if x >= 2**63 else x

"""`fractals`: unlimited images of random iterated function systems, after FractalDB (Kataoka et al., ACCV 2020).

A category is a system of 2 to 8 affine maps of the plane, their six parameters uniform in [−1, 1], accepted where its
picture fills enough of the frame. An image is an orbit that applies a map a point, chosen with a probability in
proportion to its |determinant|; instances vary in the parameters, in flips, in the patch that a point is drawn as.

What differs from the paper, and why. Each map is drawn until it contracts (largest singular value ≤ 0.95): the paper
drops orbits that run away, here none can. Every parameter of an image's maps varies independently (the paper varies one
of the six, equally in all maps). The filling rate is measured at 32 pixels and 1,024 points instead of 512 and 100,000:
a uniform cloud fills 0.63 of that frame (0.32 of theirs), and what fills more than 0.45 shows no shape. Pixels are
brighter where more points fall, since a small image has few to show a shape with.

Everything is integer arithmetic, on coordinates in 1/2¹⁷ of a bound that no orbit can leave: the same image on a CPU
and on a GPU.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vitcnn.data.rng import histogram, noisy, portions, random_bytes, random_uint16, states
from vitcnn.data.synthetic.spec import Fractals
from vitcnn.seeds import role_seed

MAPS = 8  # at most; at least 2
CONTRACTS = 0.95  # the largest singular value of a map that may be
ONE = 2**14  # 1 of a matrix
BOUND = 2**17  # of coordinates: with ONE, every product stays below 2³¹
SLOTS = 64  # probabilities are kept in 64ths, at least one for each map
CHAINS, BURN = 64, 4  # orbits of an image side by side, begun on the class's own; steps that are not drawn
FILLING = (0.2, 0.45)  # of the frame, by categories that are accepted; the lower end is the paper's
TRIES = 24  # for a map that contracts; 1 in 3 does
TONES = (0, 110, 160, 195, 220, 238, 250, 255)  # brightness of a pixel by the points that fall on it
CHUNK = 128  # images made at once on a CPU


class Systems(NamedTuple):
    """K systems: matrices and shifts (K, 8, 6) int64 (a, b, c, d in 1/ONE, e, f in 1/BOUND), `slots` (K, 64) int64,
    the map of each 64th of probability, `starts` (K, 64, 2) int32, points of the orbit."""

    maps: Tensor
    slots: Tensor
    starts: Tensor

    def pick(self, rows: Tensor) -> "Systems":
        return Systems(*(part.index_select(0, rows) for part in self))


def make(how: Fractals, systems: Systems, stream: int, numbers: Tensor) -> Tensor:
    """Images `numbers` (B,) int64 of a stream -> (B, C, H, W) uint8 on their device; image i is of class i mod classes.
    `systems`: of `categories`, on that device."""
    return torch.cat([_make(how, systems, stream, part) for part in portions(numbers, CHUNK)])


def _make(how: Fractals, systems: Systems, stream: int, numbers: Tensor) -> Tensor:
    state, chosen = states(stream, numbers), systems.pick(numbers % how.classes)
    steps = max(1, round(how.density * how.size**2 / CHAINS))
    words = (BURN + steps) * CHAINS // 8
    maps = _varied(chosen.maps, random_uint16(state, 2, MAPS * 6 // 4), how.vary)
    x, y = _orbit(maps, chosen, random_bytes(state, 14, words))
    first = random_bytes(state, 0, 2)
    counts = _counted(x, y, how.size, first[:, 0] if how.flips else None)
    if how.patch > 1:
        counts = _patched(counts, how.patch, random_uint16(state, 1, 1)[:, 0])
    tones = torch.tensor(TONES, dtype=torch.uint8, device=counts.device)
    images = tones[counts.clamp_max_(len(TONES) - 1)][:, None]
    if how.channels == 3:
        colour = 64 + first[:, 1:4, None, None].int() * 191 // 255  # no channel quite dark
        images = (images.int() * colour // 255).to(torch.uint8)
    return noisy(images, how.noise, state, 14 + words) if how.noise else images


def _varied(maps: Tensor, drawn: Tensor, vary: float) -> Tensor:
    """(B, 8, 6) with every parameter times 1 ± vary, uniform. A matrix that would no longer contract is not varied."""
    factor = 2**16 + (2 * drawn.view(maps.shape) - 0xFFFF) * round(vary * 2**16) // 0xFFFF
    new = (maps * factor) >> 16
    return torch.where(_contracts(new) | (torch.arange(6, device=maps.device) > 3), new, maps)


def _contracts(maps: Tensor) -> Tensor:
    """(…, 1) bool. With T = a²+b²+c²+d² and D the determinant, both singular values are at most r where
    r⁴ − r²T + D² ≥ 0 and T ≤ 2r²."""
    a, b, c, d, *_ = maps.unbind(-1)
    total, det, most = a * a + b * b + c * c + d * d, a * d - b * c, int(CONTRACTS**2 * ONE**2)
    return (((most - total) * most + det * det >= 0) & (total <= 2 * most))[..., None]


def _orbit(maps: Tensor, systems: Systems, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """x and y (B, points) int32 of 64 chains side by side, without the first steps. `drawn`: a byte a point."""
    B, device = len(maps), maps.device
    rows = systems.slots + MAPS * torch.arange(B, device=device)[:, None]
    tables = maps.int().view(B * MAPS, 6).T[:, rows.view(-1)].contiguous()  # (6, B · 64): one entry a slot
    first = SLOTS * torch.arange(B, dtype=torch.int32, device=device)[:, None]
    x, y = (part.contiguous().view(-1) for part in systems.starts.unbind(-1))
    xs, ys = [], []
    for step, byte in enumerate(drawn.view(B, -1, CHAINS).unbind(1)):
        slot = ((byte & (SLOTS - 1)).int() + first).view(-1)
        a, b, c, d, e, f = (table.index_select(0, slot) for table in tables)
        x, y = (a.mul_(x).add_(b.mul_(y)) >> 14).add_(e), (c.mul_(x).add_(d.mul_(y)) >> 14).add_(f)
        if step >= BURN:
            xs.append(x.view(B, CHAINS))
            ys.append(y.view(B, CHAINS))
    return torch.cat(xs, 1), torch.cat(ys, 1)


def _counted(x: Tensor, y: Tensor, size: int, flips: Tensor | None) -> Tensor:
    """(B, size, size) int32: points on each pixel. Each side of an image's own bounding box is stretched to the frame,
    as in the paper. `flips` (B,): bit 0 mirrors left to right, bit 1 upside down."""
    places = []
    for bit, part in ((1, x), (2, y)):
        low, high = part.amin(1, keepdim=True), part.amax(1, keepdim=True)
        place = (part - low).mul_((size << 24) // (high - low + 1)) >> 24
        if flips is not None:
            mirrored = (flips[:, None] & bit).bool()
            place = torch.where(mirrored, size - 1 - place, place)
        places.append(place)
    across, down = places
    counts = histogram(down.mul_(size).add_(across).long(), size**2)
    return counts.view(-1, size, size)


def _patched(counts: Tensor, side: int, drawn: Tensor) -> Tensor:
    """Every point becomes a random patch of side × side pixels, its top left one always there: one patch an image."""
    out = counts.clone()
    for place in range(1, side**2):
        down, across = divmod(place, side)
        some = ((drawn >> place) & 1).int()[:, None, None]
        out[:, down:, across:] += counts[:, : counts.shape[1] - down, : counts.shape[2] - across] * some
    return out


@cache
def categories(count: int, seed: int) -> Systems:
    """The first `count` systems of a seed that are accepted, on the CPU; a larger `count` extends a smaller one."""
    stream, kept, found, tried = role_seed(seed, "categories"), [], 0, 0
    while found < count:
        numbers = torch.arange(tried, tried + CHUNK)
        systems, there = _drawn(stream, numbers)
        x, y = _orbit(systems.maps, systems, random_bytes(states(stream + 1, numbers), 0, (BURN + 16) * CHAINS // 8))
        filled = (_counted(x, y, 32, None) > 0).flatten(1).sum(1)
        good = there & (filled >= FILLING[0] * 32**2) & (filled <= FILLING[1] * 32**2)
        kept.append(systems.pick(good.nonzero()[:, 0]))
        found, tried = found + int(good.sum()), tried + CHUNK
    return Systems(*(torch.cat(parts)[:count] for parts in zip(*kept, strict=True)))


def _drawn(stream: int, numbers: Tensor) -> tuple[Systems, Tensor]:
    """Candidates, and which of them have maps that contract."""
    B, state = len(numbers), states(stream, numbers)
    used = 2 + random_uint16(state, 0, 1)[:, 0] % (MAPS - 1)
    tries = (random_uint16(state, 1, MAPS * TRIES).view(B, MAPS, TRIES, 4) - 2**15) >> 1  # ONE is 2¹⁴
    fits = _contracts(tries)[..., 0]
    chosen = fits.int().argmax(-1)  # the first that does
    matrices = tries.gather(2, chosen[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]
    shifts = random_uint16(state, 1 + MAPS * TRIES, MAPS // 2).view(B, MAPS, 2) - 2**15
    # |shift| ≤ √2 · 2¹⁵ and half as much again where it varies; the orbit stays within that by 1 / (1 − CONTRACTS)
    shifts = shifts * int(BOUND * (1 - CONTRACTS) / 1.5 / 2**0.5 - 50) >> 15
    systems = Systems(torch.cat([matrices, shifts], -1), _slots(matrices, used), torch.zeros(B, CHAINS, 2).int())
    x, y = _orbit(systems.maps, systems, random_bytes(states(stream + 2, numbers), 0, 40 * CHAINS // 8))
    starts = torch.stack([x[:, -CHAINS:], y[:, -CHAINS:]], -1)
    return systems._replace(starts=starts), (fits.any(-1) | (torch.arange(MAPS) >= used[:, None])).all(1)


def _slots(matrices: Tensor, used: Tensor) -> Tensor:
    """(B, 64): the map of each 64th, by |determinant| of the first `used`."""
    a, b, c, d = matrices.unbind(-1)
    weight = ((a * d - b * c).abs() + 1) * (torch.arange(MAPS) < used[:, None])
    out = np.empty((len(used), SLOTS), np.int64)
    for row, (weights, count) in enumerate(zip(weight.tolist(), used.tolist(), strict=True)):
        ends, total = [], 0
        for k in range(count):  # one slot each, the rest in proportion
            total += weights[k]
            ends.append(k + 1 + total * (SLOTS - count) // sum(weights))
        out[row] = np.searchsorted(ends, np.arange(SLOTS), side="right")
    return torch.from_numpy(out)

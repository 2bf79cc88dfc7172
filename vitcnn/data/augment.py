"""Augmentation of a batch in two steps: `draw` makes all of its random numbers, `apply` makes its images.

Between the two stand `Draws`: a few numbers an image, on the CPU, a function of one generator's seed alone. So a
resumed run sees what an undisturbed one sees, a GPU sees what a CPU sees, up to the rounding of interpolation, and
several replicas, each with draws of its own, are augmented at once (`join`).

Images are mirrored, shifted, changed by one operation of TrivialAugment, erased and mixed, in this order, as native
uint8 pixels. What comes in from outside an image is 0.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import betaincinv
from torch import Tensor

from vitcnn.data.trivial import draw_operations, operate
from vitcnn.recipe import Augment

AREA = 0.02, 1 / 3  # of an erased rectangle: share of the image; this and the next as in timm
ASPECT = math.log(1 / 0.3)  # of its height : width, logarithm, up to so much either way


class Draws(NamedTuple):
    """The random numbers of a batch of B images; what is not used is None. A box is top, left, height, width."""

    count: int  # B
    mirrored: Tensor | None = None  # (B,) bool
    offset: Tensor | None = None  # (2, B) native pixels that the picture moves up, and to the left
    op: Tensor | None = None  # (B,) index into `trivial.OPERATIONS`
    level: Tensor | None = None  # (B,) its level, in its own units
    erase: Tensor | None = None  # (B, 4) box, empty for most
    noise: Tensor | None = None  # (pixels in the boxes · C,) uint8: what they are filled with, image by image
    partner: Tensor | None = None  # (B,) the image that each is mixed with
    box: Tensor | None = None  # (B, 4) the part that is cut out of the partner; empty: all of it is blended in
    share: Tensor | None = None  # (B,) of the image's own pixels and label


def draw(how: Augment, count: int, shape: Sequence[int], generator: torch.Generator) -> Draws:
    """What `how` does to `count` images of `shape` (C, H, W). `generator` is one of the CPU.

    Parts draw in the order of `Augment`, so that adding a later one changes nothing in what the earlier ones do.
    """
    out, (C, H, W) = Draws(count), shape
    if how.flip:
        out = out._replace(mirrored=torch.rand(count, generator=generator) < 0.5)
    if how.shift:
        offset = torch.randint(0, 2 * how.shift + 1, (2, count), generator=generator)
        out = out._replace(offset=offset - how.shift)
    if how.trivial:
        op, level = draw_operations(count, H, W, generator)
        out = out._replace(op=op, level=level)
    if how.erase:
        some, area, aspect, *corner = torch.rand(5, count, dtype=torch.float64, generator=generator)
        area, aspect = H * W * (AREA[0] + area * (AREA[1] - AREA[0])), (ASPECT * (2 * aspect - 1)).exp()
        # timm draws again where a box is too long; cut off, it needs no loop, and few are
        height, width = (area * aspect).sqrt().round().clamp(1, H), (area / aspect).sqrt().round().clamp(1, W)
        top, left = (corner[0] * (H - height + 1)).floor(), (corner[1] * (W - width + 1)).floor()
        box = (torch.stack([top, left, height, width], 1) * (some < how.erase)[:, None]).long()
        pixels = C * int((box[:, 2] * box[:, 3]).sum())
        noise = torch.randint(256, (pixels,), dtype=torch.uint8, generator=generator)
        out = out._replace(erase=box, noise=noise)
    if how.mixup or how.cutmix:
        partner = torch.randperm(count, generator=generator)
        which, quantile, y, x = torch.rand(4, count, dtype=torch.float64, generator=generator)
        cut = which < (0.5 if how.mixup else 1) * bool(how.cutmix)
        a = np.where(cut, how.cutmix, how.mixup)
        share = torch.from_numpy(betaincinv(a, a, quantile.numpy()))  # torch's own Beta takes no generator
        (top, height), (left, width) = (_about(where, (1 - share).sqrt(), side) for where, side in ((y, H), (x, W)))
        box = torch.stack([top, left, height, width], 1) * cut[:, None]
        share = torch.where(cut, 1 - height * width / (H * W), share)
        out = out._replace(partner=partner, box=box.long(), share=share.float())
    return out


def _about(where: Tensor, share: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """(first pixel, pixels) of `share` of a side about the place `where` in [0, 1), as far as they lie in the image."""
    length, middle = (share * side).floor(), (where * side).floor()
    first = (middle - (length / 2).floor()).clamp_min(0)
    return first, (middle + (length / 2).ceil()).clamp_max(side) - first


def join(several: Sequence[Draws]) -> Draws:
    """The draws of batches that lie end to end; where some lack a part, their images are left alone by it."""
    starts = [0, *itertools.accumulate(one.count for one in several)]
    out = {}
    for name in Draws._fields[1:]:
        parts = [getattr(one, name) for one in several]
        if all(part is None for part in parts):
            continue
        parts = [_nothing(name, one.count) if part is None else part for part, one in zip(parts, several, strict=True)]
        if name == "partner":
            parts = [part + start for part, start in zip(parts, starts, strict=False)]
        out[name] = torch.cat(parts, 1 if name == "offset" else 0)
    return Draws(starts[-1], **out)


def _nothing(name: str, count: int) -> Tensor:
    """The part of draws that leaves `count` images as they are."""
    if name in ("partner", "share"):
        return torch.arange(count) if name == "partner" else torch.ones(count)
    shape = {"offset": (2, count), "erase": (count, 4), "box": (count, 4), "noise": (0,)}.get(name, (count,))
    kind = {"mirrored": torch.bool, "level": torch.float32, "noise": torch.uint8}.get(name, torch.int64)
    return torch.zeros(shape, dtype=kind)


@torch.no_grad()
def apply(images: Tensor, draws: Draws) -> Tensor:
    """(B, C, H, W) uint8, on any device, C = 1 or 3 -> the same shape; `images` themselves stay as they are."""
    (B, _, H, W), device = images.shape, images.device
    if draws.mirrored is not None:
        rows = draws.mirrored.nonzero()[:, 0]
        images = _replaced(images, rows, _chosen(images, rows).flip(-1))
    if draws.offset is not None and (reach := int(draws.offset.abs().max())):
        crops = F.pad(images, (reach,) * 4).unfold(2, H, 1).unfold(3, W, 1)  # a view: (B, C, top, left, H, W)
        top, left = (draws.offset + reach).to(device, non_blocking=True)
        images = crops[torch.arange(B, device=device), :, top, left]
    if draws.op is not None:
        images = operate(images, draws.op, draws.level)
    if draws.erase is not None:
        rows = draws.erase[:, 2].nonzero()[:, 0]
        part, inside = _chosen(images, rows), _inside(draws.erase[rows].to(device, non_blocking=True), H, W)
        images = _replaced(
            images, rows, part.masked_scatter(inside.expand_as(part), draws.noise.to(device, non_blocking=True))
        )
    if draws.partner is not None:
        is_cut = draws.box[:, 2] * draws.box[:, 3] > 0
        cut, blend = (rows.nonzero()[:, 0] for rows in (is_cut, ~is_cut & (draws.share < 1)))
        own, other = (_chosen(images, rows) for rows in (cut, draws.partner[cut]))
        bits = _inside(draws.box[cut].to(device, non_blocking=True), H, W).to(torch.uint8).neg_()  # all or none
        pasted = own ^ ((own ^ other) & bits)  # what torch.where would give, slowly
        own, other = (_chosen(images, rows).float() for rows in (blend, draws.partner[blend]))
        blended = (
            other.lerp_(own, draws.share[blend].to(device, non_blocking=True)[:, None, None, None])
            .round_()
            .to(torch.uint8)
        )
        images = _replaced(images, torch.cat([cut, blend]), torch.cat([pasted, blended]))
    return images


def _chosen(images: Tensor, rows: Tensor) -> Tensor:
    """`images[rows]`, rows on the CPU; on a CPU index_select copies whole images and is 15 times as fast."""
    return images.index_select(0, rows.to(images.device, non_blocking=True))


def _replaced(images: Tensor, rows: Tensor, new: Tensor) -> Tensor:
    """`images` with `new` ones at `rows`, which are on the CPU."""
    source = torch.arange(len(images)).index_copy_(0, rows, torch.arange(len(new)) + len(images))
    return _chosen(torch.cat([images, new]), source)


def _inside(box: Tensor, H: int, W: int) -> Tensor:
    """(B, 4) -> (B, 1, H, W): whether a pixel lies in the box."""
    top, left, height, width = box[..., None].unbind(1)
    y, x = torch.arange(H, device=box.device), torch.arange(W, device=box.device)
    rows, columns = (y >= top) & (y < top + height), (x >= left) & (x < left + width)
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def mixed_loss(
    logits: Tensor,
    labels: Tensor,
    draws: Draws,
    label_smoothing: float = 0.0,
    reduction: Literal["none", "mean"] = "none",
) -> Tensor:
    """Cross-entropy of logits (B, classes) with what `draws` made of the labels (B,) -> (B,), or their mean.

    share · CE(own label) + (1 − share) · CE(the partner's): the cross-entropy with the mixed label. Where nothing was
    mixed it is F.cross_entropy of the same arguments, to the last bit.
    """
    if draws.partner is None:
        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction=reduction)
    share, partner = (
        draws.share.to(logits.device, non_blocking=True),
        draws.partner.to(labels.device, non_blocking=True),
    )
    own, other = (
        F.cross_entropy(logits, target, label_smoothing=label_smoothing, reduction="none")
        for target in (labels, labels[partner])
    )
    losses = share * own + (1 - share) * other
    return losses.mean() if reduction == "mean" else losses

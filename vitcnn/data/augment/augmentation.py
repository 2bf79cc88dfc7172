"""Augmentation of a batch: `sample_params` draws parameters for each image, `forward` applies them.

Every number is a function of a stream and of the image's number in it (`data.rng`), looked up in tables that are built
once on the CPU. All arithmetic on pixels is on integers. So a resumed run gets the same images as an uninterrupted one,
and a GPU the same as a CPU, bit for bit.

Images are mirrored, shifted, changed by one operation of TrivialAugment, erased and mixed, in this order, as native
uint8 pixels. Pixels from outside the image are 0.

There are two forms of `forward`, which give equal images. On a CPU only the images that a step concerns are touched
(`grouped`). Elsewhere every step is done to all images and selected (`dense`): no shape depends on what was drawn, so
that the host need not wait for the device, and a CUDA graph can hold it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import betaincinv
from torch import Tensor, nn

from vitcnn.data.augment.spec import Augment
from vitcnn.data.augment.trivial_augment import TrivialAugment
from vitcnn.data.rng import below, random_bytes, random_uint32

AREA = 0.02, 1 / 3  # of an erased rectangle: share of the image; this and the next as in timm
ASPECT = math.log(1 / 0.3)  # of its height : width, logarithm, up to so much either way
QUANTILES = 2**16  # entries of a table that a distribution is drawn from
WORDS = 8  # 64-bit words of an image's generator before those of erasing's noise


class AugmentParams(NamedTuple):
    """Parameters for a batch of B images; unused ones are None. A box is top, left, height, width."""

    mirrored: Tensor | None = None  # (B,) bool
    offset: Tensor | None = None  # (2, B) native pixels that the picture moves up, and to the left
    op: Tensor | None = None  # (B,) index into `trivial_augment.OPERATIONS`
    level: Tensor | None = None  # (B,) index into the operation's signed levels
    erase: Tensor | None = None  # (B, 4) box, empty for most
    state: Tensor | None = None  # (B,) of the generators that fill these boxes
    box: Tensor | None = None  # (B, 4) box pasted from the partner, the image before; empty: blended
    share: Tensor | None = None  # (B,) float32, of the image's own pixels and label


class Augmentation(nn.Module):
    """The augmentation `how` for images of `shape` (C, H, W), C = 1 or 3."""

    def __init__(self, how: Augment, shape: Sequence[int]):
        super().__init__()
        self.how, self.shape = how, tuple(shape)
        _, H, W = self.shape
        self.trivial = TrivialAugment(H, W) if how.trivial else None
        if how.erase:
            self.register_buffer("erased_sides", _erased_sides(H, W), persistent=False)
        if how.mixup:
            self.register_buffer("mixup_shares", _beta_quantiles(how.mixup), persistent=False)
        if how.cutmix:
            sides = (1 - _beta_quantiles(how.cutmix).double()).sqrt()
            sides = torch.stack([(sides * side).floor() for side in (H, W)], 1).int()
            self.register_buffer("cut_sides", sides, persistent=False)

    def sample_params(self, state: Tensor) -> AugmentParams:
        """`state` (B,) int64: of each image's generator (`rng.states`), whose device the numbers lie on.

        Every part has words of the generator of its own, so adding a part does not change what the others draw.
        """
        how, out, (_, H, W) = self.how, AugmentParams(), self.shape
        if how == Augment():
            return out
        bits = random_uint32(state, 0, WORDS).unbind(1)
        if how.flip:
            out = out._replace(mirrored=bits[0] < 2**31)
        if how.shift:
            out = out._replace(offset=below(torch.stack(bits[1:3]), 2 * how.shift + 1) - how.shift)
        if self.trivial:
            op, level = self.trivial.sample_params(*bits[3:6])
            out = out._replace(op=op, level=level)
        if how.erase:
            height, width = self.erased_sides[bits[7] >> 16].long().unbind(1)
            top, left = below(bits[8], H - height + 1), below(bits[9], W - width + 1)
            some = bits[6] < round(how.erase * 2**32)
            out = out._replace(erase=torch.stack([top, left, height, width], 1) * some[:, None], state=state)
        if how.mixup or how.cutmix:
            out = self._mixing(out, *bits[10:14])
        return out

    def _mixing(self, out: AugmentParams, which: Tensor, quantile: Tensor, y: Tensor, x: Tensor) -> AugmentParams:
        (_, H, W), quantile = self.shape, quantile >> 16
        box, share = torch.zeros(len(which), 4, dtype=torch.int64, device=which.device), None
        if self.how.mixup:
            share = self.mixup_shares[quantile]
        if self.how.cutmix:
            sides = self.cut_sides[quantile].long()
            (top, height), (left, width) = (
                _around(below(bits, side), length, side)
                for bits, length, side in zip((y, x), sides.unbind(1), (H, W), strict=True)
            )
            box, left_over = torch.stack([top, left, height, width], 1), (H * W - height * width) * (1 / (H * W))
            if self.how.mixup:  # each image draws which of the two
                cut = which < 2**31
                box, share = box * cut[:, None], torch.where(cut, left_over, share)
            else:
                share = left_over
        return out._replace(box=box, share=share)

    @torch.no_grad()
    def forward(self, images: Tensor, params: AugmentParams) -> Tensor:
        """(B, C, H, W) uint8 -> the same shape; `images` are not changed."""
        return (self.grouped if images.device.type == "cpu" else self.dense)(images, params)

    def grouped(self, images: Tensor, params: AugmentParams) -> Tensor:
        """Only the images that a step concerns are touched. Waits for the device."""
        if params.mirrored is not None:
            rows = params.mirrored.nonzero()[:, 0]
            images = _replaced(images, rows, images.index_select(0, rows).flip(-1))
        images = self._shifted(images, params)
        if self.trivial:
            images = self.trivial.grouped(images, params.op, params.level)
        if params.erase is not None:
            rows = params.erase[:, 2].nonzero()[:, 0]
            chosen = images.index_select(0, rows)
            images = _replaced(images, rows, _erased(chosen, params.erase[rows], params.state[rows]))
        if params.share is not None:
            before, cut = images.roll(1, 0), params.box[:, 2] * params.box[:, 3] > 0
            for rows, mix in ((cut.nonzero()[:, 0], _pasted), (((params.share < 1) & ~cut).nonzero()[:, 0], _blended)):
                own, other = (part.index_select(0, rows) for part in (images, before))
                images = _replaced(images, rows, mix(own, other, params.box[rows], params.share[rows]))
        return images

    def dense(self, images: Tensor, params: AugmentParams) -> Tensor:
        """Every step is done to all images, and selected. Never waits for the device."""
        if params.mirrored is not None:
            images = torch.where(params.mirrored[:, None, None, None], images.flip(-1), images)
        images = self._shifted(images, params)
        if self.trivial:
            images = self.trivial.dense(images, params.op, params.level)
        if params.erase is not None:
            images = _erased(images, params.erase, params.state)
        if params.share is not None:
            cut, before = params.box[:, 2] * params.box[:, 3] > 0, images.roll(1, 0)
            pasted, blended = (mix(images, before, params.box, params.share) for mix in (_pasted, _blended))
            images = torch.where(cut[:, None, None, None], pasted, blended)
        return images

    def _shifted(self, images: Tensor, params: AugmentParams) -> Tensor:
        if params.offset is None:
            return images
        reach, (_, H, W) = self.how.shift, self.shape
        crops = F.pad(images, (reach,) * 4).unfold(2, H, 1).unfold(3, W, 1)  # a view: (B, C, top, left, H, W)
        top, left = params.offset + reach
        return crops[torch.arange(len(images), device=images.device), :, top, left]


def _erased_sides(H: int, W: int) -> Tensor:
    """(QUANTILES, 2): height and width of erased rectangles; area uniform by the upper bits of the index, the logarithm
    of the aspect by the lower ones. timm draws again where a rectangle is too long; here it is cut off."""
    per_side = int(QUANTILES**0.5)
    middle = (torch.arange(per_side, dtype=torch.float64) + 0.5) / per_side
    area = (H * W * (AREA[0] + middle * (AREA[1] - AREA[0])))[:, None]
    aspect = (ASPECT * (2 * middle - 1)).exp()
    height, width = (area * aspect).sqrt().round().clamp(1, H), (area / aspect).sqrt().round().clamp(1, W)
    return torch.stack([height.flatten(), width.flatten()], 1).int()


def _beta_quantiles(a: float) -> Tensor:
    """(QUANTILES,) float32, of Beta(a, a), in the middle of equal parts of probability."""
    return torch.from_numpy(betaincinv(a, a, (np.arange(QUANTILES) + 0.5) / QUANTILES)).float()


def _around(middle: Tensor, length: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """(first pixel, pixels) of `length` of a side about `middle`, as far as they lie in the image."""
    first = (middle - length // 2).clamp_min(0)
    return first, (middle + (length + 1) // 2).clamp_max(side) - first


def _replaced(images: Tensor, rows: Tensor, new: Tensor) -> Tensor:
    """`images` with `new` ones at `rows`; index_select copies whole images and is 15 times as fast as indexing."""
    source = torch.arange(len(images)).index_copy_(0, rows, torch.arange(len(new)) + len(images))
    return torch.cat([images, new]).index_select(0, source)


def _erased(images: Tensor, box: Tensor, state: Tensor) -> Tensor:
    """The boxes (B, 4) filled with noise."""
    count = images.shape[1:].numel()
    noise = random_bytes(state, WORDS, -(-count // 8))[:, :count].view(images.shape)
    return torch.where(_inside(box, *images.shape[-2:]), noise, images)


def _pasted(images: Tensor, before: Tensor, box: Tensor, _: Tensor) -> Tensor:
    bits = _inside(box, *images.shape[-2:]).to(torch.uint8).neg()  # all or none
    return images ^ ((images ^ before) & bits)  # what torch.where would give, slowly


def _blended(images: Tensor, before: Tensor, _: Tensor, share: Tensor) -> Tensor:
    weight = (share * 2**16).round().int()[:, None, None, None]
    return ((images * weight + before * (2**16 - weight) + 2**15) >> 16).to(torch.uint8)


def _inside(box: Tensor, H: int, W: int) -> Tensor:
    """(B, 4) -> (B, 1, H, W): whether a pixel lies in the box."""
    top, left, height, width = box[..., None].unbind(1)
    y, x = torch.arange(H, device=box.device), torch.arange(W, device=box.device)
    rows, columns = (y >= top) & (y < top + height), (x >= left) & (x < left + width)
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def mixed_loss(logits: Tensor, labels: Tensor, params: AugmentParams, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of logits (B, classes) with what `params` made of the labels (B,).

    share · CE(own label) + (1 − share) · CE(the partner's): the cross-entropy with the mixed label. Where nothing was
    mixed it is F.cross_entropy of the same arguments, to the last bit.
    """
    if params.share is None:
        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    own, other = (
        F.cross_entropy(logits, target, label_smoothing=label_smoothing, reduction="none")
        for target in (labels, labels.roll(1, 0))
    )
    return (params.share * own + (1 - params.share) * other).mean()

"""Augmentation specs: their syntax, and what the named sets mean. No torch."""

import math
import re
from functools import cache
from typing import Any, NamedTuple

from vitcnn.errors import ConfigError, suggest


class Augment(NamedTuple):
    """Augmentations, applied in this order; all off by default."""

    flip: bool = False  # half of the images are mirrored left to right
    shift: int = 0  # up to so many native pixels up or down and left or right
    trivial: bool = False  # one operation of TrivialAugment (Wide), Müller & Hutter 2021
    erase: float = 0.0  # probability that a rectangle becomes noise, Zhong et al. 2020
    mixup: float = 0.0  # A of Beta(A, A), Zhang et al. 2018; 0: never
    cutmix: float = 0.0  # A of Beta(A, A), Yun et al. 2019; beside mixup, each image draws which of the two


_NUMBER = r"(?=.*[1-9])(\d+\.?\d*|\.\d+)"  # above 0
_PARTS = {  # how each is written
    "flip": r"flip",
    "shift": r"shift:([1-9]\d*)",
    "trivial": r"trivial",
    "erase": rf"erase:(?=0*\.|0*1\.?0*$){_NUMBER}",  # and at most 1
    "mixup": f"mixup:{_NUMBER}",
    "cutmix": f"cutmix:{_NUMBER}",
}
_KNOWN = ("none", "basic", "strong", "flip", "shift:K", "trivial", "erase:P", "mixup:A", "cutmix:A")


def parse_augment(text: str) -> Augment:
    """`"flip+shift:2"` -> its parts, each `flip`, `shift:K`, `trivial`, `erase:P`, `mixup:A` or `cutmix:A`, or `none`.

    Raises ValueError on anything else, and on `basic` and `strong`, which `write_out` turns into parts.
    """
    found: dict[str, Any] = {}
    for part in [] if text == "none" else text.split("+"):
        if part in ("basic", "strong"):
            raise ValueError(f"{part!r} depends on the data set; `write_out` says which parts it has")
        if part == "none":
            raise ValueError(f"{text!r}: 'none' cannot be combined")
        name = part.partition(":")[0]
        match = re.fullmatch(_PARTS.get(name, r"(?!)"), part)
        if match is None:
            raise ValueError(
                f"{part!r} is not a valid augmentation{suggest(part, _KNOWN)} (K ≥ 1 pixels, 0 < P ≤ 1, A > 0)"
            )
        if name in found:
            raise ValueError(f"{text!r} contains {name!r} more than once")
        found[name] = type(Augment._field_defaults[name])(match[1]) if match.lastindex else True
        if not math.isfinite(found[name]):
            raise ValueError(f"{part[:40]!r}…: too large a number")
    return Augment(**found)


@cache  # called once per cell
def write_out(text: str, size: int, flip: bool) -> str:
    """`text` with named sets written out for images of `size` native pixels; other strings are returned unchanged.

    `basic`: flip, and shifts of an eighth of the side, 4 pixels on CIFAR (He et al. 2016). `strong`: what DeiT trains
    ViTs with (Touvron et al. 2021, table 9): flip, erase:0.25, mixup:0.8, cutmix:1, but TrivialAugment for RandAugment,
    since it has nothing to tune. Where a mirrored image is not of the same class (`flip` False), both leave flip out.
    Raises ValueError as `parse_augment` does.
    """
    mirror = "flip+" if flip else ""
    parts = {
        "basic": f"{mirror}shift:{max(1, size // 8)}",
        "strong": f"{mirror}trivial+erase:0.25+mixup:0.8+cutmix:1",
    }
    written = "+".join(parts.get(part, part) for part in text.split("+"))
    parse_augment(written)
    return written


def check_augment(text: str) -> None:
    """Raises ValueError if it is not a valid augmentation."""
    write_out(text, 2**20, True)


def augment_for(text: str, size: int, flip: bool, name: str) -> str:
    """`write_out` for the data set `name`. Raises ConfigError if it would change an image's class, or shift
    it out of the frame."""
    written = write_out(text, size, flip)
    how = parse_augment(written)
    if how.flip and not flip:
        raise ConfigError(f"augment: {text!r}: a mirrored image of {name} is not of the same class")
    if how.shift >= size:
        raise ConfigError(f"augment: {text!r}: {name}'s images are {size} pixels wide; the shift must be smaller")
    return written

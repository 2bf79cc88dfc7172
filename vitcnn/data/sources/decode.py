"""Decodes image files to arrays: upright, on a white background, centre-cropped to a square, resized."""

import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps

from vitcnn.data.sources.cache import FetchError
from vitcnn.data.subsets import stratified_order
from vitcnn.system.machine import cores

NATIVE = 96  # square images of one size up to this are not resized …
DEFAULT = 64  # … others are resized to this: 4×4 patches of 16×16 pixels
GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"}
DEEP = 65535  # the largest value of 16 bits
PHOTOMETRIC, EXTRA_SAMPLES = 262, 338  # TIFF's tags
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # for others PIL may run programs (EPS: gs)


@contextmanager
def opened(file: Path | IO[bytes]) -> Iterator[Image.Image]:
    """An image file, its head read. Raises ValueError for more pixels than PIL thinks safe (89 million), before these
    are decoded, and OSError if it is not an image."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        Image.init()  # does nothing the second time
        try:
            image = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise ValueError(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels; scale it down") from None
    with image:
        yield image


def kept_size(sizes: Sequence[tuple[int, int]], resolution: int | None) -> int:
    """The side in pixels to which images of these sizes (width, height) are resized."""
    one = set(sizes)
    width, height = next(iter(one))
    return resolution or (width if len(one) == 1 and width == height <= NATIVE else DEFAULT)


def square(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """(size, size, channels) uint8. Raises ValueError for pixels without a known range, OSError for broken files."""
    shrink(image, size)
    image = eight_bit(image).convert("L" if channels == 1 else "RGB")
    image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(size, size, channels)


def shrink(image: Image.Image, size: int) -> None:
    """JPEG: decode no more than is needed. Does nothing to an image that is decoded."""
    image.draft(None, (2 * size, 2 * size))


def eight_bit(image: Image.Image) -> Image.Image:
    """Turns an image upright, and converts 16 bits to 8, and transparency to a white background."""
    inverted, declared = white_is_zero(image), not undeclared_band(image)
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels of unknown range")
    if image.mode.startswith("I"):
        pixels = np.asarray(image)
        if pixels.min() < 0 or pixels.max() > DEEP:
            raise ValueError("32-bit pixels of unknown range")
        return Image.fromarray(((DEEP - pixels if inverted else pixels) / 257 + 0.5).astype(np.uint8))
    if not declared:
        return Image.merge("RGB", image.split()[:3])
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def white_is_zero(image: Image.Image) -> bool:
    """Of a 16-bit TIFF, which PIL does not invert as it does one of 8 bits."""
    return image.format == "TIFF" and image.mode.startswith("I") and image.tag_v2.get(PHOTOMETRIC) == 0


def undeclared_band(image: Image.Image) -> bool:
    """A TIFF whose fourth band is not said to be transparency (infrared, for instance); PIL takes it for that."""
    kinds = image.tag_v2.get(EXTRA_SAMPLES) if image.format == "TIFF" else (1,)
    return image.mode in ("RGBA", "RGBX") and (kinds is None or 0 in kinds)


def ends_in_one_colour(image: Image.Image) -> bool:
    """Whether the last sixteenth of a decoded image's rows has one colour that is neither black nor white: so ends a
    JPEG that was cut and closed by an end marker."""
    rows = np.asarray(image)[-max(2, image.height // 16) :]
    first = rows[0, 0]
    return image.height >= 16 and bool((rows == first).all()) and not (first.min() > 250 or first.max() < 5)


class Squares:
    """A map-style data set of (pixels, label), or (None, error message)."""

    def __init__(self, items: Sequence[Any], read: Callable[[Any], tuple[np.ndarray, int]]):
        self.items, self.read = items, read

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[np.ndarray, Any] | tuple[None, str]:
        try:
            return self.read(self.items[index])
        except Exception as error:  # decoders raise many types on broken files; all are reported
            return None, f"{self.items[index]}: {type(error).__name__}: {error}"


def to_array(squares: Squares, path: Path, shape: tuple[int, int, int]) -> tuple[np.ndarray, list[Any], list[str]]:
    """(images (N, H, W, C) memory-mapped at `path`, second items of `squares`, error messages); on all cores, in order.

    Unreadable images are left out. Raises FetchError if the disk is too small.
    """
    from torch.utils.data import DataLoader

    need, free = 2 * len(squares) * prod(shape), shutil.disk_usage(path.parent).free  # 2: stored again afterwards
    if need > 0.95 * free:
        raise FetchError(
            f"{need / 1e9:.1f} GB are needed in {path.parent}, {free / 1e9:.1f} GB are free; free disk space, use "
            "a smaller `resolution`, or choose another disk with --data-dir"
        )
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (len(squares), *shape))
    extras, wrong = [], []
    workers = min(cores(), 16) if len(squares) > 500 else 0
    for batch in DataLoader(squares, batch_size=64, num_workers=workers, collate_fn=list):
        for pixels, what in batch:
            if pixels is None:
                wrong.append(what)
            else:
                images[len(extras)] = pixels
                extras.append(what)
    return images[: len(extras)], extras, wrong


FIFTH = "a stratified fifth of the images"


def split_off(labels: np.ndarray, share: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """(train indices, test indices) where there is no official test set: stratified, by a fixed seed, and at least one
    test image of each class that has two."""
    order = stratified_order(labels, np.arange(len(labels)), seed=0)
    test, train = np.split(order, [round(share * len(labels))])
    for label in np.setdiff1d(labels, labels[test]):  # one image of each rare class that the share missed
        extra = train[labels[train] == label][:1] if np.sum(labels == label) > 1 else train[:0]
        test, train = np.append(test, extra), np.setdiff1d(train, extra)
    return np.sort(train), np.sort(test)


def usual_validation(train: int, classes: int) -> int:
    """15 % of the training pool, at least as many images as there are classes and at most 10,000."""
    return max(classes, min(10_000, round(0.15 * train)))

"""The contents of a contact sheet: images of every class, and an augmented subset. Drawn by `report.sheet`."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vitcnn.data.augment.augmentation import Augmentation
from vitcnn.data.augment.spec import augment_for, parse_augment
from vitcnn.data.rng import states
from vitcnn.data.sources.cache import Arrays, Info
from vitcnn.data.subsets import split
from vitcnn.data.synthetic.lazy import Generator
from vitcnn.seeds import role_seed

ACROSS = 10  # images in a row
CLASSES = 20  # rows at most
ROWS = 12  # of the subset


class Block(NamedTuple):
    """A title over rows of images (at most `ACROSS`, H, W, C) uint8, each with its label."""

    title: str
    rows: Sequence[np.ndarray]
    labels: Sequence[str]


def contact_sheet(title: str, info: Info, arrays: Arrays, *, n: int, seed: int, augment: str) -> tuple[Block, Block]:
    """The first training images of each class; the subset of n and seed with draws of `augment`, where images mix with
    images of other rows."""
    counts = np.bincount(arrays.train_labels, minlength=info.classes)
    shown = _classes(info)
    by_class = [arrays.train_images[np.flatnonzero(arrays.train_labels == c)[:ACROSS]] for c in shown]
    subset = split(arrays.train_labels, info.validation, n, role_seed(seed, "subset"))[0][:ROWS]
    pixels = torch.from_numpy(arrays.train_images[subset]).permute(0, 3, 1, 2)
    suffixes = [f" ({counts[c]:,})" for c in shown]
    return _sheet(title, info, by_class, suffixes, pixels, arrays.train_labels[subset], n=n, seed=seed, augment=augment)


def synthetic_sheet(source: Generator, *, n: int, seed: int, augment: str) -> tuple[Block, Block]:
    """As `contact_sheet`, of a synthetic data set; both blocks are of the stream of `seed`."""
    stream, classes = role_seed(seed, "subset"), source.info.classes
    shown = torch.from_numpy(_classes(source.info))
    numbers = (shown[:, None] + classes * torch.arange(ACROSS)).flatten()
    by_class = source.images(stream, numbers).permute(0, 2, 3, 1).unflatten(0, (len(shown), ACROSS)).numpy()
    subset = torch.arange(min(n, ROWS))
    pixels, labels = source.images(stream, subset), source.labels(subset).numpy()
    suffixes = [""] * len(shown)
    return _sheet(source.info.name, source.info, by_class, suffixes, pixels, labels, n=n, seed=seed, augment=augment)


def _classes(info: Info) -> np.ndarray:
    """The classes that are shown."""
    return np.unique(np.linspace(0, info.classes - 1, min(info.classes, CLASSES)).astype(int))


def _sheet(
    title: str,
    info: Info,
    by_class: Sequence[np.ndarray],
    suffixes: Sequence[str],
    pixels: Tensor,
    labels: np.ndarray,
    *,
    n: int,
    seed: int,
    augment: str,
) -> tuple[Block, Block]:
    """`by_class`: of each class shown, images (k, H, W, C); `suffixes`: added to its name. `pixels` (rows, C, H, W): of
    the subset."""
    shown = _classes(info)
    names = info.names
    augment = augment_for(augment, info.size, info.flip, info.name)
    augmentation, rows = Augmentation(parse_augment(augment), pixels.shape[1:]), torch.arange(len(pixels))
    columns = [augmentation(pixels, augmentation.sample_params(states(k, rows))) for k in range(ACROSS - 1)]
    rows = torch.stack([pixels, *columns], 1).permute(0, 1, 3, 4, 2).numpy()  # (rows, across, H, W, C)

    line = ":\n" if len(title) > 40 else ": "
    more = f", {len(shown)} of {info.classes} shown" if len(shown) < info.classes else ""
    classes = Block(
        f"{title}{line}classes and their training images{more}",
        by_class,
        [f"{names[c]}{behind}" for c, behind in zip(shown, suffixes, strict=True)],
    )
    drawn = f"{len(rows)} images of the subset n = {n:,}, seed {seed}; then {augment}"
    return classes, Block(drawn, rows, [names[label] for label in labels])

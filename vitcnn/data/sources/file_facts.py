"""What a folder's image files tell without their content: how they were made, and which are copies of others."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

HASH = 16  # side of a perceptual hash, in bits
NEAR = 40  # of 256 bits. Resized and recompressed CIFAR-10 images differ in at most 40, unrelated ones in 70 or more
PAIRS = 2e10  # most pairs of hashes to compare
FOLDS, MOST = 5, 5000  # of the shortcut check: folds, images
CLEARLY = 0.1, 0.5  # of the way from chance to certainty, for facts of files and for brightness


class Facts(NamedTuple):
    """Of one image file; `maker`: the EXIF camera and software."""

    format: str
    mode: str
    width: int
    height: int
    maker: str
    orientation: int
    pages: int


def facts_of(image: Image.Image) -> Facts:
    """Of an opened image; its pixels need not be decoded."""
    exif = image.getexif()
    maker = " ".join(
        str(exif.get(tag, "")) for tag in (ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Software)
    )
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    raw = str(image.tile[0][3]) if image.tile else ""  # a 16-bit PNG in colour has the mode of an 8-bit one
    pages = getattr(image, "n_frames", 1)
    return Facts(image.format or "", f"{image.mode} {raw}", *image.size, maker.strip(), int(orientation or 1), pages)


def perceptual_hash(pixels: np.ndarray) -> np.ndarray:
    """(256,) bool of an image (S, S, C) uint8: the signs of its low frequencies (ImageHash's `phash`)."""
    from imagehash import phash

    return phash(Image.fromarray(pixels.squeeze()), hash_size=HASH).hash.ravel()


def near_copies(train: np.ndarray, test: np.ndarray) -> tuple[list[tuple[int, int]], int]:
    """([(training image, test image) whose hashes (N, 256) and (M, 256) are nearly equal], test images compared).

    The nearest training image of each test image; the first test images only, where all would be more than `PAIRS`.
    """
    looked, found = min(len(test), max(1, int(PAIRS / max(1, len(train))))), []
    train = train.astype(np.float32) * 2 - 1
    for first in range(0, looked, 256):
        block = test[first : min(first + 256, looked)].astype(np.float32) * 2 - 1
        equal = block @ train.T  # 256 less twice the bits that differ
        nearest = equal.argmax(1)
        rows = np.flatnonzero(equal[np.arange(len(block)), nearest] >= HASH**2 - 2 * NEAR)
        found += [(int(nearest[row]), first + int(row)) for row in rows]
    return found, looked


def shortcuts(facts: Sequence[Facts], labels: np.ndarray, images: np.ndarray) -> list[str]:
    """Warnings where logistic regression on the facts of files, or on the mean and deviation of brightness, tells the
    classes apart: `labels` (N,), `images` (N, S, S, C) uint8.

    Balanced accuracy of a stratified cross-validation, on at most 5,000 images, beside chance. Classes of fewer than
    five images are left out.
    """
    counts = np.bincount(labels)
    usable = np.flatnonzero(np.isin(labels, np.flatnonzero(counts >= FOLDS)))
    rows = np.random.default_rng(0).permutation(usable)[:MOST]
    kept = np.flatnonzero(np.bincount(labels[rows], minlength=len(counts)) >= FOLDS)
    rows = rows[np.isin(labels[rows], kept)]
    if len(kept) < 2:
        return []
    chance, y = 1 / len(kept), labels[rows]
    out = []
    columns = _columns([facts[row] for row in rows])
    if columns:
        reached = _balanced_accuracy(np.hstack(list(columns.values())), y)
        if _clear(reached, chance, len(y), CLEARLY[0]):
            most = max(columns, key=lambda name: _balanced_accuracy(columns[name], y))
            out.append(
                f"classes can be told apart by how their files were made: logistic regression on format, mode, size, "
                f"EXIF data and pages, without the pixels, has {reached:.0%} (chance: {chance:.0%}), most of it from "
                f"the {most}. Networks may learn this instead of the content"
            )
    light = np.stack([(image.mean(), image.std()) for image in images[rows]])
    if _clear(reached := _balanced_accuracy(light, y), chance, len(y), CLEARLY[1]):
        out.append(
            f"classes can be told apart by brightness: logistic regression on its mean and deviation has "
            f"{reached:.0%} (chance: {chance:.0%})"
        )
    return out


def _columns(facts: Sequence[Facts]) -> dict[str, np.ndarray]:
    """Features (N, k) of each fact that varies: logarithms of sizes, indicators of the 20 most frequent texts."""
    width, height = (np.array([getattr(f, side) for f in facts], float) for side in ("width", "height"))
    numbers = {
        "size": np.stack([np.log(width), np.log(height)], 1),
        "aspect ratio": np.log(width / height)[:, None],
        "number of pages": np.log([[f.pages] for f in facts]),
    }
    texts = {"format": "format", "mode": "mode", "EXIF camera": "maker", "EXIF orientation": "orientation"}
    for name, field in texts.items():
        values, which, counts = np.unique(
            [str(getattr(f, field)) for f in facts], return_inverse=True, return_counts=True
        )
        frequent = np.argsort(-counts, kind="stable")[:20]
        numbers[name] = (which[:, None] == frequent).astype(float)[:, : max(0, len(values) - 1)]
    return {name: column for name, column in numbers.items() if column.size and column.std(0).max() > 0}


def _balanced_accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced"))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    return float(cross_val_score(model, features, labels, scoring="balanced_accuracy", cv=folds).mean())


def _clear(reached: float, chance: float, count: int, share: float) -> bool:
    """Above chance by `share` of what is left above it, and by four standard errors."""
    return reached - chance > max(share * (1 - chance), 4 * (chance * (1 - chance) / count) ** 0.5)

"""Folders of images for tests."""

from pathlib import Path

import numpy as np
from PIL import Image

from vitcnn.data.sources.cache import Arrays, Info


def plant(root: Path, counts: dict[str, int], start: int = 0) -> None:
    """`plant(root, {"train/cat": 3})`: PNGs of one colour; the k-th image of all has the red k."""
    k = start
    for where, count in counts.items():
        for _ in range(count):
            save(Image.new("RGB", (8, 8), (k, 100, 200)), root / where / f"{k}.png")
            k += 1


def cats_and_dogs(root: Path, count: int = 10) -> Path:
    """A folder of them, `count` of each."""
    plant(root, {"cat": count, "dog": count})
    return root


def save(image: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def noise(seed: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def shown(info: Info, arrays: Arrays) -> tuple[dict[int, str], dict[int, str]]:
    """({red of an image: its class} of train, the same of test)."""
    parts = ((arrays.train_images, arrays.train_labels), (arrays.test_images, arrays.test_labels))
    return tuple(
        {int(image[0, 0, 0]): info.class_names[label] for image, label in zip(*part, strict=True)} for part in parts
    )

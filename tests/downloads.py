"""Folders that look as if torchvision had downloaded its sets into them; image number k is of red 8 k."""

import bz2
import json
from pathlib import Path

import numpy as np
from PIL import Image


def paint(path: Path, k: int, size: tuple[int, int] = (20, 20)) -> None:
    """A JPEG whose red says which it is: `number`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (8 * k, 80, 80)).save(path, quality=95)


def number(images: np.ndarray) -> list[int]:
    return (np.rint(images[:, 0, 0, 0] / 8)).astype(int).tolist()


def eurosat(root: Path) -> None:
    for k in range(20):
        paint(root / "eurosat" / "2750" / ("Forest" if k < 15 else "River") / f"{k}.jpg", k)


def dtd(root: Path) -> None:
    labels = root / "dtd" / "dtd" / "labels"
    labels.mkdir(parents=True)
    for split, ks in {"train": (7, 2, 5), "val": (1, 6), "test": (3, 4)}.items():
        names = [f"{'banded' if k % 2 else 'woven'}/{k}.jpg" for k in ks]
        (labels / f"{split}1.txt").write_text("".join(f"{name}\n" for name in names))
        for k, name in zip(ks, names, strict=True):
            paint(root / "dtd" / "dtd" / "images" / name, k)


def country211(root: Path) -> None:
    for k in range(12):
        paint(root / "country211" / ("train", "valid", "test")[k // 4] / ("AT", "CH")[k % 2] / f"{k:02}.jpg", k)


def oxford(root: Path) -> None:
    pets = root / "oxford-iiit-pet"
    (pets / "annotations").mkdir(parents=True)
    for split, ks in {"trainval": range(6), "test": range(6, 9)}.items():
        names = [f"{('great_pyrenees', 'pug', 'Sphynx')[k % 3]}_{k}" for k in ks]
        lines = [f"{name} {k % 3 + 1} 1 1\n" for k, name in zip(ks, names, strict=True)]
        (pets / "annotations" / f"{split}.txt").write_text("".join(lines))
        for k, name in zip(ks, names, strict=True):
            paint(pets / "images" / f"{name}.jpg", k)


def imagenette(root: Path) -> None:
    for k in range(8):
        split, wordnet = ("train", "val")[k // 4], ("n01440764", "n03445777")[k % 2]
        paint(root / "imagenette2-320" / split / wordnet / f"{k}.jpeg", k, (320, 200))


def caltech(root: Path) -> None:
    for category, ks in {"BACKGROUND_Google": range(4), "anchor": range(4, 8), "beaver": range(8, 20)}.items():
        for i, k in enumerate(ks, 1):
            paint(root / "caltech101" / "101_ObjectCategories" / category / f"image_{i:04}.jpg", k)


def clevr(root: Path) -> None:
    """3 or 4 objects in an image, and images without labels in the test set."""
    folder = root / "clevr" / "CLEVR_v1.0"
    (folder / "scenes").mkdir(parents=True)
    for split, ks in {"train": range(6), "val": range(6, 8), "test": range(8, 10)}.items():
        scenes = [{"image_filename": f"{k}.jpg", "objects": [{}] * (3 + k % 2)} for k in ks]
        (folder / "scenes" / f"CLEVR_{split}_scenes.json").write_text(json.dumps({"scenes": scenes}))
        for k in ks:
            paint(folder / "images" / split / f"{k}.jpg", k)


def usps(root: Path) -> None:
    """16×16 pixels of one grey, labels 1 … 10 in the file."""
    root.mkdir(parents=True, exist_ok=True)
    for name, ks in (("usps.bz2", range(20)), ("usps.t.bz2", range(20, 30))):
        lines = [f"{k % 10 + 1} " + " ".join(f"{i}:{16 * k / 255 - 1}" for i in range(1, 257)) for k in ks]
        (root / name).write_bytes(bz2.compress("\n".join(lines).encode()))

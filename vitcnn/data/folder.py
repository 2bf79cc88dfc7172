"""A folder of one's own images, one folder a class, with or without `train` and `test` above them."""

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from vitcnn.base import ConfigError
from vitcnn.data.cache import Arrays, FetchError, Info
from vitcnn.data.images import GREY, Squares, kept_size, split_off, square, to_array, usual_validation

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class File(NamedTuple):
    """One image of a folder: its split ("" where there are none), class and path."""

    split: str
    label: str
    path: Path

    def __str__(self) -> str:
        return str(self.path)


def root_of(name: str) -> Path:
    """`folder:~/photos` -> the absolute path; relative ones start at the current folder."""
    return Path(name.removeprefix("folder:")).expanduser().absolute()


def find(root: Path) -> list[File]:
    """Every image under `root`, sorted by path. Raises ConfigError where there are no two class folders.

    Where `root` holds `train` and `test` (or `train` and `val`, which then is the test set; `Training`, `valid` … will
    do), these are kept apart and what lies beside them is passed over; a `val` beside a `test` joins `train`. Files
    that are no images, and names that begin with a dot, are passed over too.
    """
    if not root.is_dir():
        raise ConfigError(f"folder:{root}: there is no such folder")
    tops = {SPLITS[path.name.lower()]: path for path in _folders(root) if path.name.lower() in SPLITS}
    if "train" not in tops or len(tops) == 1:  # one folder called train: a class among others, or all there is
        alone = "train" in tops and len(_folders(root)) == 1
        tops = {"": tops["train"] if alone else root}
    tests = {"test"} if "test" in tops else tops.keys() - {"train"}
    role = {name: "test" if name in tests else "train" for name in tops} | {"": ""}
    files = [
        File(role[top], label.name, path)
        for top, folder in tops.items()
        for label in _folders(folder)
        for path in sorted(_images(label))
    ]
    _check_classes(root, files, {label.name for folder in tops.values() for label in _folders(folder)})
    return files


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(folder: Path) -> Iterator[Path]:
    for where, below, names in os.walk(folder):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in names:
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Path(where, name)


def _check_classes(root: Path, files: list[File], folders: set[str]) -> None:
    train, test = ({f.label for f in files if (f.split == "test") is tested} for tested in (False, True))
    if len(train) < 2:
        raise ConfigError(
            f"folder:{root}: images lie in one folder for each class, two classes or more; "
            f"found {len(train)} with images ({', '.join(sorted(train)) or 'none'})"
        )
    if empty := sorted(folders - train - test):
        raise ConfigError(f"folder:{root}: no image in the class folder {', '.join(empty)}; fill or remove it")
    if test and test != train:
        only = [f"only {side}: {', '.join(sorted(names))}" for side, names in
                (("train", train - test), ("test", test - train)) if names]  # fmt: skip
        raise ConfigError(f"folder:{root}: train and test do not have the same classes ({'; '.join(only)})")


def fingerprint(root: Path) -> str:
    """Changes when a file is added, removed or written; looks at names, sizes and times only."""
    digest = hashlib.sha256()
    for file in find(root):
        stat = file.path.stat()
        digest.update(
            f"{file.path.relative_to(root)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode(errors="surrogateescape")
        )
    return digest.hexdigest()


def prepare(
    name: str, resolution: int | None, scratch: Path, skip_unreadable: bool, say: Callable[[str], None]
) -> tuple[Info, Arrays, list[str]]:
    """(what it is, its arrays, the files left out). Raises FetchError, listing them, for files that cannot be read."""
    root = root_of(name)
    found = find(root)
    say(f"{name}: looking at {len(found):,} images")
    heads, wrong = _heads(found)
    files = [file for file, head in zip(found, heads, strict=True) if head]
    if not files:
        raise FetchError(f"{name}: no image can be read; the first: {wrong[0]}")
    size = kept_size([head[:2] for head in heads if head], resolution)
    channels = 1 if all(head[2] in GREY for head in heads if head) else 3
    names = sorted({file.label for file in found})
    files = _with_test(files, names)
    squares = Squares(files, partial(_read, size=size, channels=channels))
    images, beside, broken = to_array(squares, scratch / "images.npy", (size, size, channels))
    wrong += broken
    if wrong and not skip_unreadable:
        at = f" --resolution {resolution}" if resolution else ""
        shown = "\n  ".join(wrong[:50]) + (f"\n  … and {len(wrong) - 50} more" if len(wrong) > 50 else "")
        raise FetchError(
            f"{name}: {len(wrong)} of {len(found):,} images cannot be read:\n  {shown}\nMend or remove them, or leave "
            f"them out with `vitcnn data fetch {name}{at} --skip-unreadable`"
        )
    kept = [file for file, _ in beside]
    _check_classes(root, kept, set(names))
    labels = np.array([names.index(file.label) for file in kept], np.int64)
    lines = sorted(f"{f.split}/{f.label}/{f.path.relative_to(root)} {digest}\n" for f, digest in beside)
    told = f"{size} {channels}\n{''.join(lines)}".encode(errors="surrogateescape")  # names may be no UTF-8
    content = hashlib.sha256(told).hexdigest()[:16]
    train = sum(file.split == "train" for file in kept)
    about = Info(
        name=name,
        classes=len(names),
        train=train,
        test=len(kept) - train,
        size=size,
        channels=channels,
        validation=usual_validation(train, len(names)),
        flip=True,
        licence="your own",
        source=str(root),
        class_names=tuple(names),
        content=content,
    )
    return about, Arrays(images[:train], labels[:train], images[train:], labels[train:]), wrong


def _with_test(files: list[File], names: list[str]) -> list[File]:
    """Training files, then test files; where the folder has no test set, a stratified fifth becomes one."""
    if not any(file.split == "test" for file in files):
        _, test = split_off(np.array([names.index(file.label) for file in files]))
        tested = set(test.tolist())
        files = [file._replace(split="test" if i in tested else "train") for i, file in enumerate(files)]
    return sorted(files, key=lambda file: file.split != "train")


def _read(file: File, size: int, channels: int) -> tuple[np.ndarray, tuple[File, str]]:
    data = file.path.read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        return square(image, size, channels), (file, hashlib.sha256(data).hexdigest())


def _heads(files: list[File]) -> tuple[list[tuple[int, int, str] | None], list[str]]:
    """((width, height, mode) of each file, None where it has no readable head; what is wrong with those)."""
    heads, wrong = [], []
    for file in files:
        try:
            with Image.open(file.path) as image:
                heads.append((*image.size, image.mode))
        except Exception as error:  # whatever a decoder raises on a broken file; every one is reported
            heads.append(None)
            wrong.append(f"{file}: {type(error).__name__}: {error}")
    return heads, wrong

"""Finds the images of a folder and their classes: one folder per class, optionally below `train` and `test`."""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vitcnn.errors import ConfigError

SUFFIXES = {".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
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
        return plain(self.path)


def plain(name: str | Path) -> str:
    """A printable name; names may not be valid UTF-8."""
    return str(name).encode(errors="backslashreplace").decode()


def find(root: Path) -> list[File]:
    """Every image under `root`, sorted by path. Raises ConfigError if there are fewer than two class folders, or if one
    cannot be read, is inside another (a link), or has a name that is not valid UTF-8.

    If `root` has `train` and `test` (or `train` and `val`, which then is the test set; also `Training`, `valid` …),
    these are the splits, and other folders beside them are skipped. With `train`, `val` and `test`, `val` joins
    `train`. Other files, and names that begin with a dot, are skipped too.
    """
    try:
        if not root.is_dir():
            raise ConfigError(f"folder:{root}: no such folder")
        return _find(root)
    except OSError as error:
        raise ConfigError(f"folder:{root}: {plain(error.filename or '')}: {error.strerror or error}") from None


def _find(root: Path) -> list[File]:
    tops = _splits(root)
    if len(tops) < 2:  # a single folder called train: one of the classes, or the only folder
        alone = tops and len(_folders(root)) == 1
        tops = {"": tops["train"] if alone else root}
    tests = {"test"} if "test" in tops else tops.keys() - {"train"}
    role = {name: "test" if name in tests else "train" for name in tops} | {"": ""}
    labels = {top: _folders(folder) for top, folder in tops.items()}
    for below in labels.values():
        _check_folders(root, below)
    files = [
        File(role[top], label.name, path) for top in tops for label in labels[top] for path in sorted(_images(label))
    ]
    check_classes(root, files, {label.name for below in labels.values() for label in below})
    return files


def _splits(root: Path) -> dict[str, Path]:
    """The split folders, by split. Raises ConfigError if two are the same split, or if there is a val or test folder
    without `train`, which could be a class."""
    tops: dict[str, Path] = {}
    for path in _folders(root):
        split = SPLITS.get(path.name.lower())
        if split in tops:
            raise ConfigError(f"folder:{root}: {tops[split].name} and {path.name} are both {split} folders; keep one")
        if split:
            tops[split] = path
    if tops and "train" not in tops:
        name = next(iter(tops.values())).name
        raise ConfigError(
            f"folder:{root}: {name} is among the class folders; move the classes into a folder called train, "
            f"or rename {name}"
        )
    return tops


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(folder: Path) -> Iterator[Path]:
    for where, below, names in os.walk(folder, onerror=_raise):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in names:
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Path(where, name)


def passed_over(root: Path, files: list[File]) -> list[str]:
    """Describes what was skipped: files whose suffix is not an image's and linked folders, for instance
    `3 .txt, 1 .xcf; the linked folder more`; images and folders outside the class folders."""
    tops = sorted(_splits(root).values()) if any(file.split for file in files) else []
    loose = sum(path.suffix.lower() in SUFFIXES for top in (root, *tops) for path in top.iterdir() if path.is_file())
    beside = [f"{loose} image{'s' * (loose > 1)} outside the class folders"] if loose else []
    if tops:
        others = [path.name for path in _folders(root) if path not in tops]
        beside += [f"the folder {name} beside {' and '.join(top.name for top in tops)}" for name in others]
    inside = _no_images_of(files)
    return [plain(line) for line in ([f"not images by their suffix: {inside}"] if inside else []) + beside]


def _no_images_of(files: list[File]) -> str:
    suffixes, links = Counter[str](), []
    for folder in {file.path.parent for file in files}:
        for path in folder.iterdir():
            if path.is_dir() and path.is_symlink():
                links.append(path.name)
            elif path.is_file() and not path.name.startswith(".") and path.suffix.lower() not in SUFFIXES:
                suffixes[path.suffix.lower() or "without a suffix"] += 1
    counts = [", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common())] if suffixes else []
    return "; ".join(counts + [f"the linked folder {name}" for name in sorted(links)])


def _raise(error: OSError) -> None:
    raise error


def _check_folders(root: Path, labels: list[Path]) -> None:
    """Raises ConfigError for names that are not UTF-8, and for links that put one class's images into another."""
    real: dict[Path, Path] = {}
    for label in labels:
        if (shown := plain(label.name)) != label.name:
            raise ConfigError(f"folder:{root}: the name of the class folder {shown} is not valid UTF-8; rename it")
        if (other := real.setdefault(label.resolve(), label)) is not label:
            raise ConfigError(f"folder:{root}: {label.name} and {other.name} are the same folder; remove the link")
    for place, label in real.items():
        if other := next((real[above] for above in place.parents if above in real), None):
            raise ConfigError(f"folder:{root}: {label.name} is inside {other.name}; remove the link")


def check_classes(root: Path, files: list[File], folders: set[str]) -> None:
    train, test = ({f.label for f in files if (f.split == "test") is tested} for tested in (False, True))
    if len(train) < 2:
        raise ConfigError(
            f"folder:{root}: expected one folder of images per class, with two classes or more; "
            f"found {len(train)} with images ({', '.join(sorted(train)) or 'none'}); image files end in "
            f"{', '.join(sorted(SUFFIXES))}"
        )
    if empty := sorted(folders - train - test):
        raise ConfigError(f"folder:{root}: no images in the class folder {', '.join(empty)}; add images or remove it")
    if test and test != train:
        only = [f"only {side}: {', '.join(sorted(names))}" for side, names in
                (("train", train - test), ("test", test - train)) if names]  # fmt: skip
        raise ConfigError(
            f"folder:{root}: train and test have different classes ({'; '.join(only + alike(train | test))})"
        )


def alike(names: set[str]) -> list[str]:
    """Messages about classes whose names differ only by case or by the encoding of an accent."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()), []).append(name)
    how = "differ only by upper and lower case, or by how an accent is encoded"
    return [f"{' and '.join(group)} {how}" for group in groups.values() if len(group) > 1]


def fingerprint(root: Path) -> str:
    """A hash that changes when a file is added, removed or written; of names, sizes and times only."""
    digest = hashlib.sha256()
    for file in find(root):
        stat = file.path.lstat() if file.path.is_symlink() and not file.path.exists() else file.path.stat()
        digest.update(
            f"{file.path.relative_to(root)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode(errors="surrogateescape")
        )
    return digest.hexdigest()

"""A folder of one's own images, one folder a class, with or without `train` and `test` above them."""

import hashlib
import io
import os
import unicodedata
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vitcnn.base import ConfigError
from vitcnn.data.cache import Arrays, FetchError, Info
from vitcnn.data.images import GREY, Squares, kept_size, opened, split_off, square, to_array, usual_validation

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
        return plain(self.path)


def plain(name: str | Path) -> str:
    """As far as it can be written: a name may be no UTF-8."""
    return str(name).encode(errors="backslashreplace").decode()


def root_of(name: str) -> Path:
    """`folder:~/photos` -> the absolute path; relative ones start at the current folder. Raises ConfigError for what
    can be no path."""
    path = name.removeprefix("folder:")
    if not path or not path.isprintable():
        raise ConfigError(f"{name!a}: behind `folder:` stands the path of a folder, in printable characters")
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:  # no home
        raise ConfigError(f"{name}: {error}") from None


def find(root: Path) -> list[File]:
    """Every image under `root`, sorted by path. Raises ConfigError where there are no two class folders, or where one
    of them cannot be read, lies in another (a link), or has a name that is no UTF-8.

    Where `root` holds `train` and `test` (or `train` and `val`, which then is the test set; `Training`, `valid` … will
    do), these are kept apart and what lies beside them is passed over; a `val` beside a `test` joins `train`. Files
    that are no images, and names that begin with a dot, are passed over too.
    """
    try:
        if not root.is_dir():
            raise ConfigError(f"folder:{root}: there is no such folder")
        return _find(root)
    except OSError as error:
        raise ConfigError(f"folder:{root}: {plain(error.filename or '')}: {error.strerror or error}") from None


def _find(root: Path) -> list[File]:
    tops = {SPLITS[path.name.lower()]: path for path in _folders(root) if path.name.lower() in SPLITS}
    if "train" not in tops or len(tops) == 1:  # one folder called train: a class among others, or all there is
        alone = "train" in tops and len(_folders(root)) == 1
        tops = {"": tops["train"] if alone else root}
    tests = {"test"} if "test" in tops else tops.keys() - {"train"}
    role = {name: "test" if name in tests else "train" for name in tops} | {"": ""}
    labels = {top: _folders(folder) for top, folder in tops.items()}
    for below in labels.values():
        _check_folders(root, below)
    files = [
        File(role[top], label.name, path) for top in tops for label in labels[top] for path in sorted(_images(label))
    ]
    _check_classes(root, files, {label.name for below in labels.values() for label in below})
    return files


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(folder: Path) -> Iterator[Path]:
    for where, below, names in os.walk(folder, onerror=_raise):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in names:
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Path(where, name)


def _raise(error: OSError) -> None:
    raise error


def _check_folders(root: Path, labels: list[Path]) -> None:
    """Their names can be written, and no link makes the images of one class those of another too."""
    real: dict[Path, Path] = {}
    for label in labels:
        if (told := plain(label.name)) != label.name:
            raise ConfigError(f"folder:{root}: the name of the class folder {told} is no UTF-8; rename it")
        if (other := real.setdefault(label.resolve(), label)) is not label:
            raise ConfigError(f"folder:{root}: {label.name} and {other.name} are the same folder; remove the link")
    for place, label in real.items():
        if other := next((real[above] for above in place.parents if above in real), None):
            raise ConfigError(f"folder:{root}: {label.name} lies in {other.name}; remove the link")


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
        raise ConfigError(
            f"folder:{root}: train and test do not have the same classes ({'; '.join(only + alike(train | test))})"
        )


def alike(names: set[str]) -> list[str]:
    """What to say of classes whose names differ by case, or by how an accent is encoded, and by nothing else."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()), []).append(name)
    how = "differ by upper and lower case, or by how an accent is encoded, only"
    return [f"{' and '.join(group)} {how}" for group in groups.values() if len(group) > 1]


def fingerprint(root: Path) -> str:
    """Changes when a file is added, removed or written; looks at names, sizes and times only."""
    digest = hashlib.sha256()
    for file in find(root):
        stat = file.path.lstat() if file.path.is_symlink() and not file.path.exists() else file.path.stat()
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
    for line in alike({file.label for file in found}):
        say(f"{name}: WARNING: {line}; each counts as a class of its own")
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
    with opened(io.BytesIO(data)) as image:
        return square(image, size, channels), (file, hashlib.sha256(data).hexdigest())


def _heads(files: list[File]) -> tuple[list[tuple[int, int, str] | None], list[str]]:
    """((width, height, mode) of each file, None where it has no readable head; what is wrong with those)."""
    heads, wrong = [], []
    for file in files:
        try:
            if not file.path.is_file():
                raise OSError("no file, or a link to none")
            with opened(file.path) as image:
                heads.append((*image.size, image.mode))
        except Exception as error:  # whatever a decoder raises on a broken file; every one is reported
            heads.append(None)
            wrong.append(f"{file}: {type(error).__name__}: {error}")
    return heads, wrong

"""Finds the images of a folder, their classes and their splits."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from vitcnn.data.sources.decode import FIFTH
from vitcnn.data.sources.layout import (
    LEVELS,
    SUFFIXES,
    Layout,
    check_links,
    detect,
    folders,
    has_images,
    images,
    junk,
    plain,
    split_of,
)
from vitcnn.errors import ConfigError


class File(NamedTuple):
    """One image of a folder: its split (train, test, or "" where there is no test set), class and path."""

    split: str
    label: str
    path: Path

    def __str__(self) -> str:
        return plain(self.path)


class _Label(NamedTuple):
    """A class folder and the split folder it belongs to (None where there are no splits)."""

    name: str
    folder: Path
    split: Path | None


@dataclass(frozen=True)
class Found:
    """A folder's images sorted by path; its layout; where the test set is from."""

    root: Path
    files: list[File]
    layout: Layout
    test_from: str
    labels: list[_Label]
    folders_skipped: list[str]

    @cached_property
    def skipped(self) -> list[str]:
        """What was passed over. Walks the whole folder again, so only where it is to be said. Raises ConfigError."""
        with _readable(self.root):
            return self.folders_skipped + _passed_over(self.root, self.labels, self.files)


def find(root: Path, layout: Layout | None = None) -> Found:
    """Every image under `root`. Raises ConfigError if the folder can be read in several ways and no `layout` is given,
    if there are fewer than two class folders, or if one cannot be read, is inside another (a link), or has a name that
    is not valid UTF-8.

    The folder `test` is the test set, and `val` joins the training images; without a `test` folder with the classes of
    the training images, `val` is the test set. Other files, names that begin with a dot, and folders of other
    programs are passed over.
    """
    with _readable(root):
        if not root.is_dir():
            raise ConfigError(f"folder:{root}: no such folder")
        return _find(root, layout or detect(root))


@contextmanager
def _readable(root: Path) -> Iterator[None]:
    """Turns an OSError into a ConfigError that names the file."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"folder:{root}: {plain(error.filename or '')}: {error.strerror or error}") from None


def _find(root: Path, layout: Layout) -> Found:
    skipped: list[str] = []
    labels = list(_labels(root, layout, None, skipped))
    _check_folders(root, labels)
    unlabelled = _without_classes(labels, layout)
    for split in sorted(unlabelled):
        count = sum(1 for _ in images(split))
        skipped.append(f"the folder {plain(split.name)}, which has no class folders ({count:,} images)")
    labels = [label for label in labels if label.split not in unlabelled and label.name]
    role, test_from = _roles(root, {label.split for label in labels} - {None}, {plain(s.name) for s in unlabelled})
    files = [File(role[label.split], label.name, path) for label in labels for path in sorted(images(label.folder))]
    check_classes(root, files, {label.name for label in labels})
    return Found(root, files, layout, test_from, labels, skipped)


def _labels(folder: Path, levels: Layout, split: Path | None, skipped: list[str], name: str = "") -> Iterator[_Label]:
    """The class folders below, level by level; a folder of another name at the level of splits is skipped."""
    level, *rest = levels
    for path in folders(folder):
        if level == "{split}" and not split_of(path.name):
            skipped.append(f"the folder {plain(path.name)} beside the splits")
            continue
        if level not in (*LEVELS, path.name):
            skipped.append(f"the folder {plain(path.name)} beside {plain(level)}")
            continue
        here, label = (path if level == "{split}" else split), (path.name if level == "{class}" else name)
        if rest:
            below = list(_labels(path, tuple(rest), here, skipped, label))
            yield from below or ([_Label("", path, here)] if level == "{split}" else [])
        else:
            yield _Label(label or path.name, path, here)


def _without_classes(labels: list[_Label], layout: Layout) -> set[Path]:
    """Split folders other than train that have no class folders, or a single one that is no class of train."""
    if layout[0] != "{split}":
        return set()
    inside: dict[Path, set[str]] = {}
    for label in labels:
        names = inside.setdefault(label.split, set())
        if label.name and has_images(label.folder):
            names.add(label.name)
    train = set().union(*(names for split, names in inside.items() if split_of(split.name) == "train"))
    return {
        split
        for split, names in inside.items()
        if split_of(split.name) != "train" and (not names or (len(names) == 1 and not names & train))
    }


def _roles(root: Path, splits: set[Path], unlabelled: set[str]) -> tuple[dict[Path | None, str], str]:
    """(train, test or "" for each split folder, where the test set is from). Raises ConfigError if two folders in one
    place are the same split, or none is of training images."""
    kind = {path: split_of(path.name) for path in splits}
    seen: dict[tuple[Path, str], Path] = {}
    for path in sorted(splits):
        if (other := seen.setdefault((path.parent, kind[path]), path)) is not path:
            names = f"{plain(other.name)} and {plain(path.name)}"
            raise ConfigError(f"folder:{root}: {names} are both {kind[path]} folders; keep one")
    if splits and "train" not in kind.values():
        raise ConfigError(f"folder:{root}: no folder of training images (train) with class folders")
    test = next((split for split in ("test", "val") if split in kind.values()), None)
    roles = {path: "test" if split == test else "train" for path, split in kind.items()} if test else {}
    why = f", since {' and '.join(sorted(unlabelled))} has no class folders" if unlabelled else ""
    if not test:
        return dict.fromkeys(splits, "") | {None: ""}, FIFTH + (why or ", since there is no test folder")
    names = sorted({plain(path.name) for path, split in kind.items() if split == test})
    joined = sorted({plain(path.name) for path, split in kind.items() if split not in (test, "train")})
    also = f"; {' and '.join(joined)} joins the training images" if joined else ""
    return roles, f"the folder {' or '.join(names)}{why if test == 'val' else ''}{also}"


def _passed_over(root: Path, labels: list[_Label], files: list[File]) -> list[str]:
    """What else was skipped, for instance `not images by their suffix: 3 .txt`, `the linked folder more`."""
    above = {root} | {parent for label in labels for parent in label.folder.parents if root in parent.parents}
    loose = sum(path.suffix.lower() in SUFFIXES for top in above for path in top.iterdir() if path.is_file())
    beside = [f"{loose} image{'s' * (loose > 1)} outside the class folders"] if loose else []
    return [*map(plain, _no_images_of(files)), *beside, *junk(root)]


def _no_images_of(files: list[File]) -> list[str]:
    suffixes, links = Counter[str](), []
    for folder in {file.path.parent for file in files}:
        for path in folder.iterdir():
            if path.is_dir() and path.is_symlink():
                links.append(path.name)
            elif path.is_file() and not path.name.startswith(".") and path.suffix.lower() not in SUFFIXES:
                suffixes[path.suffix.lower() or "without a suffix"] += 1
    counts = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common())
    others = [f"not images by their suffix: {counts}"] if counts else []
    return others + [f"the linked folder {name}" for name in sorted(links)]


def _check_folders(root: Path, labels: list[_Label]) -> None:
    """Raises ConfigError for names that are not UTF-8, and as `check_links`."""
    for label in labels:
        if (shown := plain(label.name)) != label.name:
            raise ConfigError(f"folder:{root}: the name of the class folder {shown} is not valid UTF-8; rename it")
    for split in {label.split for label in labels}:
        check_links(root, [label.folder for label in labels if label.split == split])


def check_classes(root: Path, files: list[File], folders: set[str]) -> None:
    train, test = ({f.label for f in files if (f.split == "test") is tested} for tested in (False, True))
    if len(train) < 2:
        raise ConfigError(
            f"folder:{root}: expected one folder of images per class, with two classes or more; "
            f"found {len(train)} with images ({', '.join(sorted(train)) or 'none'}){_deeper(root, train)}; image files "
            f"end in {', '.join(sorted(SUFFIXES))}"
        )
    if empty := sorted(folders - train - test):
        raise ConfigError(f"folder:{root}: no images in the class folder {', '.join(empty)}; add images or remove it")
    if test and test != train:
        only = [f"only {side}: {', '.join(sorted(names))}" for side, names in
                (("train", train - test), ("test", test - train)) if names]  # fmt: skip
        raise ConfigError(
            f"folder:{root}: train and test have different classes ({'; '.join(only + alike(train | test))})"
        )


def _deeper(root: Path, train: set[str]) -> str:
    """A hint, where the only class folder holds several folders of images."""
    alone = root / next(iter(train)) if len(train) == 1 else root
    if alone == root or not alone.is_dir() or sum(map(has_images, folders(alone))) < 2:
        return ""
    return f"; if the folders in {plain(alone.name)} are the classes, write folder:{plain(alone)}"


def alike(names: set[str]) -> list[str]:
    """Messages about classes whose names differ only by case or by the encoding of an accent."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()), []).append(name)
    how = "differ only by upper and lower case, or by how an accent is encoded"
    return [f"{' and '.join(group)} {how}" for group in groups.values() if len(group) > 1]


def fingerprint(root: Path, layout: Layout | None = None) -> str:
    """A hash that changes when a file is added, removed, renamed or written; of names, inodes, sizes and times only."""
    digest = hashlib.sha256()
    for file in find(root, layout).files:
        stat = file.path.lstat() if file.path.is_symlink() and not file.path.exists() else file.path.stat()
        facts = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        digest.update(f"{file.split}\0{file.path.relative_to(root)}\0{facts}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()

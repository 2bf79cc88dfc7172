"""A user's folder of images, read into the cache."""

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from vitcnn.data.sources.cache import Arrays, FetchError, Info
from vitcnn.data.sources.class_folders import File, alike, check_classes, find, fingerprint, passed_over
from vitcnn.data.sources.decode import GREY, Squares, kept_size, opened, split_off, square, to_array, usual_validation
from vitcnn.data.sources.spec import DatasetSpec, Prepared
from vitcnn.errors import ConfigError

DARK = 32  # of 255: warn if no pixel of any image is brighter
FEW = 3  # warn about classes with fewer training images (validation included)


@dataclass(frozen=True, kw_only=True)
class Folder(DatasetSpec):
    """A user's folder; `root`: its absolute path (relative ones start at the current folder)."""

    root: Path
    form: ClassVar[str] = "folder:PATH"
    usage: ClassVar[str] = "your own images: one folder a class, with or without train and test above them"

    @classmethod
    def parse(cls, name: str, resolution: int | None) -> "Folder":
        path = name.partition(":")[2]
        if not path or not path.isprintable():
            raise ConfigError(f"{name!a}: write folder:PATH, in printable characters")
        try:
            return cls(name=name, resolution=resolution, root=Path(path).expanduser().absolute())
        except RuntimeError as error:  # no home
            raise ConfigError(f"{name}: {error}") from None

    @property
    def title(self) -> str:
        return self.root.name or self.name

    @property
    def images_key(self) -> str:
        return self.name

    @property
    def cache_key(self) -> str:
        digest = hashlib.sha256(str(self.root).encode()).hexdigest()[:8]
        at = f"-{self.resolution}px" if self.resolution else ""
        return f"folder/{self.root.name[:50]}-{digest}{at}"  # 50: a file's name has at most 255 bytes

    def fingerprint(self) -> str:
        return fingerprint(self.root)

    def prepare(self, cache: Path, scratch: Path, log: Callable[[str], None], skip_unreadable: bool) -> Prepared:
        """Raises FetchError with a list of unreadable files, unless `skip_unreadable`."""
        return _read_all(self, scratch, skip_unreadable, log)


def _read_all(spec: Folder, scratch: Path, skip_unreadable: bool, log: Callable[[str], None]) -> Prepared:
    name, resolution, root = spec.name, spec.resolution, spec.root
    found = find(root)
    log(f"{name}: reading {len(found):,} images")
    for line in passed_over(root, found):
        log(f"{name}: skipped: {line}")
    for line in alike({file.label for file in found}):
        log(f"{name}: WARNING: {line}; they count as separate classes")
    heads, wrong = _heads(found)
    files = [file for file, head in zip(found, heads, strict=True) if head]
    if not files:
        raise FetchError(f"{name}: no readable image; the first error: {wrong[0]}")
    size = kept_size([head[:2] for head in heads if head], resolution)
    channels = 1 if all(head[2] in GREY for head in heads if head) else 3
    names = sorted({file.label for file in found})
    files = _with_test(name, files, names)
    squares = Squares(files, partial(_read, size=size, channels=channels))
    images, extras, broken = to_array(squares, scratch / "images.npy", (size, size, channels))
    wrong += broken
    if wrong and not skip_unreadable:
        at = f" --resolution {resolution}" if resolution else ""
        shown = "\n  ".join(wrong[:50]) + (f"\n  … and {len(wrong) - 50} more" if len(wrong) > 50 else "")
        raise FetchError(
            f"{name}: {len(wrong)} of {len(found):,} images cannot be read:\n  {shown}\nFix or remove them, or skip "
            f"them with `vitcnn data fetch {name}{at} --skip-unreadable`"
        )
    kept = [file for file, _ in extras]
    check_classes(root, kept, set(names))
    labels = np.array([names.index(file.label) for file in kept], np.int64)
    lines = sorted(f"{f.split}/{f.label}/{f.path.relative_to(root)} {digest}\n" for f, digest in extras)
    manifest = f"{size} {channels}\n{''.join(lines)}".encode(errors="surrogateescape")  # names may not be valid UTF-8
    content = hashlib.sha256(manifest).hexdigest()[:16]
    train = sum(file.split == "train" for file in kept)
    for line in _described(names, labels[:train], images):
        log(f"{name}: {line}")
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
    if wrong:
        log(f"{name}: {len(wrong)} unreadable images are left out:\n  " + "\n  ".join(wrong))
    arrays = Arrays(images[:train], labels[:train], images[train:], labels[train:])
    return Prepared(about, arrays, {"origin": "a folder", "left_out": len(wrong)})


def _described(names: list[str], train_labels: np.ndarray, images: np.ndarray) -> Iterator[str]:
    """The classes, and warnings of rare ones and of dark images."""
    yield f"{len(names)} classes: {', '.join(names[:20])}{', …' if len(names) > 20 else ''}"
    counts = np.bincount(train_labels, minlength=len(names))
    if rare := [f"{label} ({count})" for label, count in zip(names, counts, strict=True) if count < FEW]:
        classes = ", ".join(rare[:20])
        yield f"WARNING: few training images of {classes}; after validation is held out, subsets may have none"
    if (brightest := int(images.max())) < DARK:
        yield (
            f"WARNING: the brightest pixel of all images is {brightest} of 255; scale up 16-bit "
            "files that do not use the full range"
        )


def _with_test(name: str, files: list[File], names: list[str]) -> list[File]:
    """Training files, then test files; without a test folder, a stratified fifth becomes the test set."""
    if not any(file.split == "test" for file in files):
        counts = Counter(file.label for file in files)
        if single := [label for label in names if counts[label] == 1]:
            what = "; ".join(["add images or remove the class", *alike(set(names))])
            raise FetchError(
                f"{name}: only one image of {', '.join(single)}; without a test folder, a fifth of each class and at "
                f"least one image becomes the test set; {what}"
            )
        _, test = split_off(np.array([names.index(file.label) for file in files]))
        tested = set(test.tolist())
        files = [file._replace(split="test" if i in tested else "train") for i, file in enumerate(files)]
    return sorted(files, key=lambda file: file.split != "train")


def _read(file: File, size: int, channels: int) -> tuple[np.ndarray, tuple[File, str]]:
    data = file.path.read_bytes()
    with opened(io.BytesIO(data)) as image:
        return square(image, size, channels), (file, hashlib.sha256(data).hexdigest())


def _heads(files: list[File]) -> tuple[list[tuple[int, int, str] | None], list[str]]:
    """((width, height, mode) of each file, None if its header is unreadable; error messages)."""
    heads, wrong = [], []
    for file in files:
        try:
            if not file.path.is_file():
                raise OSError("not a file, or a broken link")
            with opened(file.path) as image:
                heads.append((*image.size, image.mode))
        except Exception as error:  # decoders raise many types on broken files; all are reported
            heads.append(None)
            wrong.append(f"{file}: {type(error).__name__}: {error}")
    return heads, wrong

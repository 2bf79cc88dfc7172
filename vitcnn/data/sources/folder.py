"""A user's folder of images, read into the cache."""

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from vitcnn.data.sources import decode
from vitcnn.data.sources.cache import Arrays, FetchError, Info
from vitcnn.data.sources.class_folders import File, alike, check_classes, find, fingerprint
from vitcnn.data.sources.decode import GREY, Squares, kept_size, opened, split_off, to_array, usual_validation
from vitcnn.data.sources.file_facts import Facts, facts_of, near_copies, perceptual_hash, shortcuts
from vitcnn.data.sources.layout import CLASS, Layout, layout_in, plain, split_of
from vitcnn.data.sources.spec import DatasetSpec, Prepared
from vitcnn.errors import ConfigError

DARK = 32  # of 255: warn if no pixel of any image is brighter
FEW = 3  # warn about classes with fewer training images (validation included)
SHOWN = 5  # pairs of near copies
FLAT = 2.0  # standard deviation of pixels


@dataclass(frozen=True, kw_only=True)
class Folder(DatasetSpec):
    """A user's folder; `root`: its absolute path (relative ones start at the current folder); `layout`: its levels, if
    the name has them (`folder:PATH/{split}/{class}`)."""

    root: Path
    layout: Layout | None = None
    form: ClassVar[str] = "folder:PATH"
    usage: ClassVar[str] = "your own images: one folder a class, with or without train and test above them"

    @classmethod
    def parse(cls, name: str, resolution: int | None) -> "Folder":
        path = name.partition(":")[2]
        if not path or not path.isprintable():
            raise ConfigError(f"{name!a}: write folder:PATH, in printable characters")
        where, layout = layout_in(path)
        try:
            root = Path(where).expanduser().absolute()
            return cls(name=name, resolution=resolution, root=root, layout=layout)
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
        digest = hashlib.sha256("/".join((str(self.root), *(self.layout or ()))).encode()).hexdigest()[:8]
        at = f"-{self.resolution}px" if self.resolution else ""
        return f"folder/{self.root.name[:50]}-{digest}{at}"  # 50: a file's name has at most 255 bytes

    def fingerprint(self) -> str:
        return fingerprint(self.root, self.layout)

    def prepare(self, cache: Path, scratch: Path, log: Callable[[str], None], skip_unreadable: bool) -> Prepared:
        """Raises FetchError with a list of unreadable files, unless `skip_unreadable`."""
        return _read_all(self, scratch, skip_unreadable, log)


class Read(NamedTuple):
    """What is kept of a decoded file beside its pixels. `brightest`: of 16 bits, None of 8; `hash`: perceptual."""

    file: File
    digest: str
    facts: Facts
    brightest: int | None
    oddities: tuple[str, ...]
    hash: np.ndarray


def _read_all(spec: Folder, scratch: Path, skip_unreadable: bool, log: Callable[[str], None]) -> Prepared:
    name, root, found = spec.name, spec.root, find(spec.root, spec.layout)
    log(f"{name}: reading {len(found.files):,} images, sorted as {'/'.join(found.layout)}")
    for line in found.skipped:
        log(f"{name}: skipped: {line}")
    heads, wrong = _heads(found.files)
    files = [file for file, head in zip(found.files, heads, strict=True) if head]
    if not files:
        raise FetchError(f"{name}: no readable image; the first error: {wrong[0]}")
    size = kept_size([head[:2] for head in heads if head], spec.resolution)
    channels = 1 if all(head[2] in GREY for head in heads if head) else 3
    names = sorted({file.label for file in found.files})
    files = _with_test(name, files, names)
    squares = Squares(files, partial(_read, size=size, channels=channels))
    images, reads, broken = to_array(squares, scratch / "images.npy", (size, size, channels))
    wrong += broken
    _check_readable(spec, wrong, len(found.files), skip_unreadable)
    check_classes(root, [read.file for read in reads], set(names))
    labels = np.array([names.index(read.file.label) for read in reads], np.int64)
    train = sum(read.file.split == "train" for read in reads)
    log(f"{name}: {len(names)} classes: {', '.join(names[:20])}{', …' if len(names) > 20 else ''}")
    about = Info(
        name=name,
        classes=len(names),
        train=train,
        test=len(reads) - train,
        size=size,
        channels=channels,
        validation=usual_validation(train, len(names)),
        flip=True,
        licence="your own",
        source=str(root),
        class_names=tuple(names),
        content=_content(root, reads, size, channels),
        test_from=found.test_from,
        warnings=tuple(_warnings(root, found.layout, reads, names, labels, images)),
    )
    if wrong:
        log(f"{name}: {len(wrong)} unreadable images are left out:\n  " + "\n  ".join(wrong))
    arrays = Arrays(images[:train], labels[:train], images[train:], labels[train:])
    return Prepared(about, arrays, {"origin": "a folder", "left_out": len(wrong)})


def _check_readable(spec: Folder, wrong: list[str], count: int, skip_unreadable: bool) -> None:
    if not wrong or skip_unreadable:
        return
    at = f" --resolution {spec.resolution}" if spec.resolution else ""
    shown = "\n  ".join(wrong[:50]) + (f"\n  … and {len(wrong) - 50} more" if len(wrong) > 50 else "")
    raise FetchError(
        f"{spec.name}: {len(wrong)} of {count:,} images cannot be read:\n  {shown}\nFix or remove them, or skip "
        f"them with `vitcnn data fetch {spec.name}{at} --skip-unreadable`"
    )


def _content(root: Path, reads: Sequence[Read], size: int, channels: int) -> str:
    """A hash of the files, their classes and splits, and how they are kept."""
    lines = sorted(f"{r.file.split}/{r.file.label}/{r.file.path.relative_to(root)} {r.digest}\n" for r in reads)
    manifest = f"{size} {channels}\n{''.join(lines)}".encode(errors="surrogateescape")  # names may not be valid UTF-8
    return hashlib.sha256(manifest).hexdigest()[:16]


def _warnings(
    root: Path, layout: Layout, reads: Sequence[Read], names: list[str], labels: np.ndarray, images: np.ndarray
) -> list[str]:
    """What may make the numbers wrong: of classes, pixels, copies, and how files were made."""
    train = sum(read.file.split == "train" for read in reads)
    out = [f"{line}; they count as separate classes" for line in alike(set(names))]
    out += [f"a class is called {label}" for label in names if layout == CLASS and split_of(label)]
    counts = np.bincount(labels[:train], minlength=len(names))
    if rare := [f"{label} ({count})" for label, count in zip(names, counts, strict=True) if count < FEW]:
        classes = ", ".join(rare[:20])
        out.append(f"few training images of {classes}; after validation is held out, subsets may have none")
    out += _of_pixels(reads, images)
    pairs, looked = near_copies(*np.split(np.stack([read.hash for read in reads]), [train]))
    pairs = [(a, train + b) for a, b in pairs if _differ(images[a], images[train + b])]
    if pairs:
        path = [plain(read.file.path.relative_to(root)) for read in reads]
        shown = ", ".join(f"{path[b]} and {path[a]}" for a, b in pairs[:SHOWN])
        out.append(
            f"{len(pairs):,} of {looked:,} test images are near copies of training images, by a perceptual hash "
            f"({shown}{', …' if len(pairs) > SHOWN else ''}). Test accuracy is not that on new images"
        )
    return out + shortcuts([read.facts for read in reads], labels, images)


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
    """False for exact copies, which are reported elsewhere, and for flat images, whose hash is noise."""
    return other.std((0, 1)).max() > FLAT and not np.array_equal(one, other)


def _of_pixels(reads: Sequence[Read], images: np.ndarray) -> list[str]:
    deep = [read.brightest for read in reads if read.brightest is not None]
    odd = Counter(what for read in reads for what in read.oddities)
    out = [f"{count:,} file{'s' * (count > 1)} with {what}" for what, count in odd.items()]
    if deep and len(deep) < len(reads):
        out.append(f"files with 16 bits: {len(deep):,}, with 8 bits: {len(reads) - len(deep):,}")
    if deep and max(deep) < DARK * 257:
        out.append(
            f"the brightest pixel of the {len(deep):,} 16-bit files is {max(deep):,} of 65,535, so they come out dark; "
            "scale them up to the full range"
        )
    if not deep and (brightest := int(images.max())) < DARK:
        out.append(f"the brightest pixel of all images is {brightest} of 255; scale them up to the full range")
    return out


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


def _read(file: File, size: int, channels: int) -> tuple[np.ndarray, Read]:
    data = file.path.read_bytes()
    with opened(io.BytesIO(data)) as image:
        facts, oddities = facts_of(image), []
        decode.shrink(image, size)
        if facts.pages > 1:
            oddities.append("several pages or frames, of which the first is used")
        if decode.undeclared_band(image):
            oddities.append("a fourth band that is not declared as transparency and is dropped")
        if facts.format == "JPEG" and decode.ends_in_one_colour(image):
            oddities.append("a lower end of one colour, as of a JPEG that was cut")
        brightest = int(np.asarray(image).max()) if image.mode.startswith("I") else None
        pixels = decode.square(image, size, channels)
    digest = hashlib.sha256(data).hexdigest()
    return pixels, Read(file, digest, facts, brightest, tuple(oddities), perceptual_hash(pixels))


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

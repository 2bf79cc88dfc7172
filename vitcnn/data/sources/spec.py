"""`DatasetSpec`: a study's `dataset`, parsed once by `registry.parse_dataset`."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from vitcnn.data.sources.cache import Arrays, Info, cache_folder


class Prepared(NamedTuple):
    """A data set that was read: its `Info`, its images, further keys of about.json (`origin`, …), and the expected
    SHA-256 of the train and test pixels, if known."""

    info: Info
    arrays: Arrays
    more: dict[str, Any]
    sums: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """One data set at one resolution; subclassed for each kind of source.

    `name`: canonical, as in studies, cells and records. `resolution`: pixels along a side; None: the data set's own.
    """

    name: str
    resolution: int | None = None

    form: ClassVar[str]  # how names of this kind are written: `folder:PATH`
    usage: ClassVar[str]  # description in `vitcnn data list`
    generated: ClassVar[bool] = False  # synthetic: images are generated on demand, and nothing is fetched

    @classmethod
    def parse(cls, name: str, resolution: int | None) -> Self:
        """Raises ConfigError, naming the nearest known name or option."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """The name without a folder's path."""
        return self.name

    @property
    def images_key(self) -> str:
        """The same for two names of the same images."""
        return letters(self.name)

    @property
    def info(self) -> Info | None:
        """The `Info` if the name determines it; None if it depends on the images."""
        return None

    @property
    def cache_key(self) -> str:
        """Its folder in the data cache."""
        return ""

    def place(self, folder: str | Path | None = None) -> Path:
        """Its path; `folder`: the data cache."""
        return cache_folder(folder) / self.cache_key

    def fingerprint(self) -> str | None:
        """Changes when its files change; None if they never do."""
        return None

    def downloading(self, cache: Path, log: Callable[[str], None]) -> AbstractContextManager[None]:
        """A context held while it is prepared and stored."""
        return nullcontext()

    def prepare(self, cache: Path, scratch: Path, log: Callable[[str], None], skip_unreadable: bool) -> Prepared:
        """Downloads or reads every image; large arrays may lie in `scratch`. Raises FetchError."""
        raise NotImplementedError


def letters(name: str) -> str:
    """Letters and digits in lower case: equal for `fashion-mnist` and `FashionMNIST`."""
    return "".join(filter(str.isalnum, name.casefold()))

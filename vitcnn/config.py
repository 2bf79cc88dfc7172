"""What a study is: one YAML file, read into frozen models that refuse what they do not know.

dataset: digits
sizes: [50, 200, 1000]
seeds: 3                                  # or a list
entrants: {vit: {}, deep: {model: vit, depth: 8}, cnn: {}, linear: {}}
budget: {images_seen: 20_000}             # or {epochs: 50}
recipe: {augment: "shift:1"}              # for every entrant
recipes: ../results/digits-search/recipes.yaml   # per entrant and size, found by a search
grid: {lr: [0.001, 0.003]}                # makes the study a search: one cell a value (or several grids)
shuffle: {words: 1, pixels: 0.5}          # or a list of such settings: the limit as a dial
"""

import itertools
import math
import re
import reprlib
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from vitcnn.base import ConfigError, Frozen, Positive, near
from vitcnn.data.made import canonical
from vitcnn.entrants import Model, kind

Share = Annotated[float, Field(ge=0, le=1)]
MOST_CELLS, MOST_SEEDS = 100_000, 10_000


class Recipe(Frozen):
    """Everything about training that is not the model, the data or the budget."""

    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05  # on matrices and kernels only
    warmup: Share = 0.1  # share of the steps
    batch_size: Annotated[int, Field(gt=0, le=2**20)] = 128
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    clip_norm: Annotated[float, Field(ge=0)] = 1.0  # of the whole gradient; 0: no clipping
    augment: str = "none"  # a set (none, basic, strong) or parts joined by +: see `parse_augment`
    init: Literal["xavier", "normal"] = "xavier"  # of linear layers and patch embeddings
    precision: Literal["float32", "bf16"] = "float32"

    @field_validator("augment")
    @classmethod
    def _known_augment(cls, value: str) -> str:
        write_out(value, 32, True)
        return value


class Augment(NamedTuple):
    """What is done to training images, in this order; all of it off by default."""

    flip: bool = False  # half of the images are mirrored left to right
    shift: int = 0  # up to so many native pixels up or down and left or right
    trivial: bool = False  # one operation of TrivialAugment (Wide), Müller & Hutter 2021
    erase: float = 0.0  # probability that a rectangle becomes noise, Zhong et al. 2020
    mixup: float = 0.0  # A of Beta(A, A), Zhang et al. 2018; 0: never
    cutmix: float = 0.0  # A of Beta(A, A), Yun et al. 2019; beside mixup, each image draws which of the two


_PARTS = {  # how each is written
    "flip": r"flip",
    "shift": r"shift:([1-9]\d*)",
    "trivial": r"trivial",
    "erase": r"erase:(0\.\d*[1-9]\d*|1)",
    "mixup": r"mixup:(?=.*[1-9])(\d+(?:\.\d+)?)",
    "cutmix": r"cutmix:(?=.*[1-9])(\d+(?:\.\d+)?)",
}
_KNOWN = ("none", "basic", "strong", "flip", "shift:K", "trivial", "erase:P", "mixup:A", "cutmix:A")


def parse_augment(text: str) -> Augment:
    """`"flip+shift:2"` -> its parts, each `flip`, `shift:K`, `trivial`, `erase:P`, `mixup:A` or `cutmix:A`, or `none`.

    Raises ValueError on anything else, and on `basic` and `strong`, which `write_out` turns into parts.
    """
    found: dict[str, Any] = {}
    for part in [] if text == "none" else text.split("+"):
        if part in ("basic", "strong"):
            raise ValueError(f"{part!r} depends on the data set; `vitcnn.config.write_out` says which parts it has")
        name = part.partition(":")[0]
        match = re.fullmatch(_PARTS.get(name, r"(?!)"), part)
        if match is None:
            raise ValueError(f"{part!r} is no augmentation{near(part, _KNOWN)} (K ≥ 1 pixels, 0 < P ≤ 1, A > 0)")
        if name in found:
            raise ValueError(f"{text!r} has {name!r} more than once")
        found[name] = type(Augment._field_defaults[name])(match[1]) if match.lastindex else True
    return Augment(**found)


@cache  # a study asks for each of its cells
def write_out(text: str, size: int, flip: bool) -> str:
    """`text` with its named sets written out for images of `size` native pixels; other strings come back as they are.

    `basic`: flip, and shifts of an eighth of the side, 4 pixels on CIFAR (He et al. 2016). `strong`: what DeiT trains
    ViTs with (Touvron et al. 2021, table 9): flip, erase:0.25, mixup:0.8, cutmix:1, but TrivialAugment for RandAugment,
    since it has nothing to tune. Where a mirrored image is not of the same class (`flip` False), both leave flip out.
    Raises ValueError as `parse_augment` does.
    """
    mirror = "flip+" if flip else ""
    parts = {
        "basic": f"{mirror}shift:{max(1, size // 8)}",
        "strong": f"{mirror}trivial+erase:0.25+mixup:0.8+cutmix:1",
    }
    written = "+".join(parts.get(part, part) for part in text.split("+"))
    parse_augment(written)
    return written


class Budget(Frozen):
    """How long a cell trains: the same number of images seen at every n (the default), or the same epochs."""

    images_seen: Annotated[int, Field(gt=0, le=10**12)] | None = None
    epochs: Annotated[float, Field(gt=0, le=1e6)] | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> "Budget":
        if (self.images_seen is None) == (self.epochs is None):
            raise ValueError("give images_seen or epochs, one of the two")
        return self

    def steps(self, n: int, batch_size: int) -> int:
        """Optimiser steps for n images: the budget rounded up to whole batches."""
        return max(1, math.ceil((self.images_seen or self.epochs * n) / batch_size))

    def times(self, factor: float) -> "Budget":
        if self.images_seen:
            return Budget(images_seen=round(self.images_seen * factor))
        return Budget(epochs=self.epochs * factor)


class BudgetCheck(Frozen):
    """Train the pair again at the smallest and the largest n with `factor` times the images: does the gap move?"""

    factor: Annotated[float, Field(gt=1, le=100)] = 2.0
    seeds: tuple[int, ...] = (0,)


class Shuffle(Frozen):
    """The limit as a dial: shares of the words of every image, and of the native pixels inside every word, that change
    places, the same way in every image of the study. Given at all, images are enlarged by nearest neighbour."""

    words: Share = 0.0
    pixels: Share = 0.0
    word: Positive | None = None  # native pixels along a word, which must be the ViT's; None: of its 16×16 patches
    seed: Annotated[int, Field(ge=0)] = 0  # of the two permutations

    def __str__(self) -> str:
        shares = (("words", self.words), ("pixels", self.pixels))
        moved = [f"{'all' if share == 1 else f'{share:.0%} of the'} {what}" for what, share in shares if share]
        more = f", words of {self.word} pixels" if self.word else ""
        more += f", seed {self.seed}" if self.seed else ""
        return f"{' and '.join(moved)} shuffled{more}" if moved else "not shuffled"


class Pretrain(Frozen):
    """Where an entrant's first weights come from: the trained network of another study, its head made anew."""

    study: str  # its file, relative to this one
    n: Positive
    entrant: str | None = None  # None: the one of the same network


class Entrant(Frozen):
    """One model in the comparison, under the name that tables and figures use."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][^$\p{Cc}\u2028\u2029]*$", max_length=80)]
    model: Model
    recipe: dict[str, Any] = Field(default={})
    start: str | None = None  # an entrant further up: each cell begins with the trained weights of that one's
    pretrain: Pretrain | None = None  # each cell begins with the weights of another study's, of the same seed


def by_name(entrants: Any) -> Any:
    """`[vit, {deep: {depth: 8}}]` as one mapping from names to options; what is no such list comes back as it is.

    Raises ValueError where a name stands there twice.
    """
    if not isinstance(entrants, list) or not all(isinstance(item, str | dict) for item in entrants):
        return entrants
    pairs = [pair for item in entrants for pair in (item.items() if isinstance(item, dict) else [(item, None)])]
    _once(str(name) for name, _ in pairs)
    return dict(pairs)


def _once(values: Iterable[Any]) -> None:
    if twice := sorted(value for value, count in Counter(values).items() if count > 1):
        raise ValueError(f"{', '.join(map(str, twice[:10]))} stands there more than once")


class Study(Frozen):
    """One YAML file of `configs/`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
    dataset: str
    sizes: Annotated[tuple[Positive, ...], Field(min_length=1)]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    entrants: Annotated[tuple[Entrant, ...], Field(min_length=1)]
    budget: Budget
    resolution: Positive | None = None  # pixels a side that a folder's images are kept at; None: see README
    validation: Positive | None = None  # images; None: the data set's own number
    recipe: Recipe = Recipe()
    recipes: str | None = None  # a file that `vitcnn select` wrote, relative to this one
    grid: tuple[dict[str, Annotated[list[Any], Field(min_length=1)]], ...] = ()  # several: the points of each
    pair: tuple[str, str] = ("cnn", "vit")  # the gap is first minus second
    budget_check: BudgetCheck | None = None
    shuffle: tuple[Shuffle, ...] = ()  # several: a dial, every cell once at each
    chosen: dict[str, dict[Positive, dict[str, Any]]] = Field(
        default={}
    )  # the contents of `recipes`, read in by load_study
    search: str | None = None  # the search that `recipes` came from
    before: dict[str, "Study"] = Field(default={})  # the studies that `pretrain` names, by file, read in by load_study

    @field_validator("dataset")
    @classmethod
    def _one_name(cls, value: str) -> str:
        try:
            return canonical(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds(cls, value: Any) -> Any:
        if not isinstance(value, int) or isinstance(value, bool):
            return value
        if not 1 <= value <= MOST_SEEDS:
            raise ValueError(f"a list of seeds, or how many of them: 1 to {MOST_SEEDS:,}, not {value:,}")
        return tuple(range(value))

    @field_validator("sizes", "seeds")
    @classmethod
    def _sorted_once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        _once(value)
        return tuple(sorted(value))

    @field_validator("shuffle", mode="before")
    @classmethod
    def _settings(cls, value: Any) -> Any:
        if value is not None and not isinstance(value, dict | list | tuple):
            raise ValueError(f"a setting such as {{words: 1}}, or a list of them, not {reprlib.repr(value)}")
        return (value,) if isinstance(value, dict) else value or ()

    @field_validator("shuffle")
    @classmethod
    def _settings_once(cls, value: tuple[Shuffle, ...]) -> tuple[Shuffle, ...]:
        if len(set(value)) < len(value):
            raise ValueError("the same setting stands there more than once")
        return value

    @field_validator("entrants", mode="before")
    @classmethod
    def _entrants(cls, value: Any) -> Any:
        value = by_name(value)
        if isinstance(value, tuple):  # made in Python
            return value
        if not isinstance(value, dict):
            raise ValueError(f"a list of names, or names with options, not {reprlib.repr(value)}")
        entrants = []
        for name, options in value.items():
            if not isinstance(name, str):
                raise ValueError(f"{name!r} is no name; write it in quotes")
            if not isinstance(options or {}, dict):
                raise ValueError(f"{name}: options are a mapping of keys to values, not {reprlib.repr(options)}")
            options = dict(options or {})
            own = {key: options.pop(key) for key in ("recipe", "start", "pretrain") if key in options}
            options.setdefault("model", name)
            kind(options)
            entrants.append({"name": name, "model": options, **own})
        return tuple(entrants)

    @field_validator("grid", mode="before")
    @classmethod
    def _one_grid(cls, value: Any) -> Any:
        return (value,) if isinstance(value, dict) and value else value or ()

    @field_validator("grid")
    @classmethod
    def _grid(cls, value: tuple[dict[str, list], ...]) -> tuple[dict[str, list], ...]:
        for key in itertools.chain(*value):
            if key not in Recipe.model_fields:
                raise ValueError(f"unknown recipe field {key!r}{near(key, Recipe.model_fields)}")
        return value

    @property
    def searched(self) -> list[str]:
        """The recipe fields that a search varies."""
        return list(dict.fromkeys(itertools.chain(*self.grid)))

    @field_validator("pair")
    @classmethod
    def _two(cls, value: tuple[str, str]) -> tuple[str, str]:
        if value[0] == value[1]:
            raise ValueError(f"two entrants, not {value[0]!r} twice")
        return value

    @model_validator(mode="after")
    def _begins_once(self) -> "Study":
        for entrant in self.entrants:
            if entrant.start and entrant.pretrain:
                raise ValueError(f"entrants.{entrant.name}: either `start` or `pretrain`")
        return self

    @model_validator(mode="after")
    def _not_too_many(self) -> "Study":
        count = len(self.sizes) * len(self.seeds) * len(self.entrants) * max(1, len(self.shuffle))
        count *= max(1, sum(math.prod(map(len, grid.values())) for grid in self.grid))
        if count > MOST_CELLS:
            raise ValueError(f"the study has {count:,} cells; fewer sizes, seeds or trials: at most {MOST_CELLS:,}")
        return self

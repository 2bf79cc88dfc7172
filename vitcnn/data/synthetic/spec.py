"""Synthetic data sets: names and options of `fractals`. No torch.

A name is canonical where its options are sorted and those at their default are left out, so that one data set has one
name, and a cell one id. Image i of a stream is of class i mod classes; a cell of seed s is trained on images 0 … n − 1
of the stream `role_seed(s, "subset")`, so that the smaller subset is in the larger one and no image is kept anywhere.
Validation and test are streams of their own.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import AfterValidator, Field, ValidationError

from vitcnn.data.sources.cache import Info
from vitcnn.data.sources.spec import DatasetSpec
from vitcnn.errors import ConfigError, Frozen, Share, suggest

VALIDATION, TEST = 2**63, 2**63 + 1  # streams; those of cells are below, as `role_seed` is
ENDLESS = 10**12  # training images: more than any budget


def _some(share: float) -> float:
    if 0 < share <= 1 / 512:
        raise ValueError(f"a share is rounded to 256ths, and {share:g} to zero")
    return share


class Fractals(Frozen):
    """Options of `fractals`. Raising `vary`, `noise` or `classes`, or lowering `density`, makes it harder."""

    classes: Annotated[int, Field(ge=2, le=10_000)] = 100
    size: Annotated[int, Field(ge=16, le=96)] = 32  # pixels a side
    vary: Annotated[float, Field(ge=0, le=0.5)] = (
        0.2  # each parameter of an image's maps is that of its class · (1 ± vary)
    )
    flips: Literal[0, 1] = 1  # images are mirrored at random, both ways
    patch: Annotated[int, Field(ge=1, le=3)] = 1  # pixels along the random patch that a point is drawn as
    density: Annotated[float, Field(gt=0, le=8)] = 1.0  # points a pixel
    noise: Annotated[Share, AfterValidator(_some)] = 0.0  # of the pixels
    channels: Literal[1, 3] = 1  # 3: every image in a colour of its own
    seed: Annotated[int, Field(ge=0)] = 0  # of the classes
    test: Annotated[int, Field(ge=1, le=10**7)] = 10_000  # images


def _described() -> str:
    """`classes=100 (2 to 10,000), size=32 (16 to 96), …`: defaults and ranges."""
    out = []
    for key, field in Fractals.model_fields.items():
        bounds = {name: getattr(m, name) for m in field.metadata for name in ("ge", "gt", "le") if hasattr(m, name)}
        low = f"{bounds['ge']:g}" if "ge" in bounds else f"more than {bounds['gt']:g}" if "gt" in bounds else ""
        high = f" to {bounds['le']:,}" if "le" in bounds else " or more" if "ge" in bounds else ""
        values = " or ".join(map(str, get_args(field.annotation))) or f"{low}{high}"
        out.append(f"{key}={field.default:g} ({values})")
    return ", ".join(out)


@dataclass(frozen=True, kw_only=True)
class Synthetic(DatasetSpec):
    """Unlimited images, generated from seeds."""

    options: Fractals
    form: ClassVar[str] = "fractals:OPTIONS"
    usage: ClassVar[str] = f"unlimited synthetic images; options with defaults and ranges: {_described()}"
    generated: ClassVar[bool] = True

    @classmethod
    def parse(cls, name: str, resolution: int | None) -> "Synthetic":
        if resolution:
            raise ConfigError(f"resolution: not for fractals; use the option fractals:size={resolution}")
        options = _parse_options(name)
        return cls(name=_canonical(options), options=options)

    @property
    def info(self) -> Info:
        return Info(
            name=self.name,
            classes=self.options.classes,
            train=ENDLESS,
            test=self.options.test,
            size=self.options.size,
            channels=self.options.channels,
            validation=10_000,
            flip=bool(self.options.flips),
            licence="none needed: generated",
            source="random iterated function systems, after FractalDB (Kataoka et al. 2020)",
            test_from="generated, from other random numbers than the training images",
            made="Its images are synthetic, fractals of random iterated function systems, made from seeds: what holds "
            "for them need not hold for photographs.",
        )


def _parse_options(name: str) -> Fractals:
    _, colon, rest = name.partition(":")
    given, fields = rest.split(",") if colon else [], {}
    for option in given:
        key, equals, value = option.partition("=")
        if not equals or key not in Fractals.model_fields:
            raise ConfigError(f"{name}: {option!r} is not a valid option=value{suggest(key, Fractals.model_fields)}")
        if key in fields:
            raise ConfigError(f"{name}: {key!r} appears twice")
        fields[key] = _number(value)
    try:
        return Fractals.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        if first["type"] == "value_error":
            raise ConfigError(f"{name}: {key}: {first['msg'].removeprefix('Value error, ')}") from None
        message = first["msg"].removeprefix("Input should be ")
        raise ConfigError(f"{name}: {key} should be {message}, not {_given(given, key)!r}") from None


def _given(given: list[str], key: str) -> str:
    return next(option.partition("=")[2] for option in given if option.startswith(f"{key}="))


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _canonical(options: Fractals) -> str:
    fields = options.model_dump(exclude_defaults=True)
    given = [f"{key}={int(value) if value == int(value) else value}" for key, value in sorted(fields.items())]
    return f"fractals:{','.join(given)}" if given else "fractals"

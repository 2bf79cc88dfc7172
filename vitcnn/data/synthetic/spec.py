"""Data sets that are made from seeds: `fractals`, `deformed:NAME`, with options behind. Their names; no torch.

A name is canonical where its options are sorted and those at their default are left out, so that one data set has one
name, and a cell one id. Image i of a stream is of class i mod classes (of test images that are deformed, once the
smallest class has run out, of the others); a cell of seed s is trained on images 0 … n − 1 of the stream `role_seed(s,
"subset")`, so that the smaller subset is in the larger one and no image is kept anywhere. Validation and test are
streams of their own.
"""

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import AfterValidator, Field, ValidationError

from vitcnn.data.sources.cache import Info
from vitcnn.errors import ConfigError, Frozen, Share, suggest

VALIDATION, TEST = 2**63, 2**63 + 1  # streams; those of cells are below, as `role_seed` is
ENDLESS = 10**12  # training images: more than any budget


def _some(share: float) -> float:
    if 0 < share <= 1 / 512:
        raise ValueError(f"a share is counted in 256ths: {share:g} is none")
    return share


Noise = Annotated[Share, AfterValidator(_some)]
Tested = Annotated[int, Field(ge=1, le=10**7)]


class Fractals(Frozen):
    """Options of `fractals`. Raising `vary`, `noise` or `classes`, or lowering `density`, makes it harder."""

    kind: ClassVar[str] = "fractals"
    base: ClassVar[None] = None
    classes: Annotated[int, Field(ge=2, le=10_000)] = 100
    size: Annotated[int, Field(ge=16, le=96)] = 32  # pixels a side
    vary: Annotated[float, Field(ge=0, le=0.5)] = (
        0.2  # each parameter of an image's maps is that of its class · (1 ± vary)
    )
    flips: Literal[0, 1] = 1  # images are mirrored at random, both ways
    patch: Annotated[int, Field(ge=1, le=3)] = 1  # pixels along the random patch that a point is drawn as
    density: Annotated[float, Field(gt=0, le=8)] = 1.0  # points a pixel
    noise: Noise = 0.0  # of the pixels
    channels: Literal[1, 3] = 1  # 3: every image in a colour of its own
    seed: Annotated[int, Field(ge=0)] = 0  # of the classes
    test: Tested = 10_000  # images


class Deformed(Frozen):
    """Options of `deformed:NAME`. Raising `strength` or `noise` makes it harder."""

    kind: ClassVar[str] = "deformed"
    base: str  # the data set that is deformed: a built-in one, or torchvision:NAME
    strength: Annotated[float, Field(ge=0, le=3)] = 1.0  # of both, elastic and affine
    noise: Noise = 0.0  # of the pixels
    test: Tested = 10_000  # images; by default no more than the base has


Synthetic = Fractals | Deformed


def options(kind: type[Fractals] | type[Deformed]) -> str:
    """`classes=100 (2 to 10,000), size=32 (16 to 96), …`: the defaults, and what else there may be."""
    out = []
    for key, field in kind.model_fields.items():
        if key == "base":
            continue
        bounds = {name: getattr(m, name) for m in field.metadata for name in ("ge", "gt", "le") if hasattr(m, name)}
        low = f"{bounds['ge']:g}" if "ge" in bounds else f"more than {bounds['gt']:g}" if "gt" in bounds else ""
        high = f" to {bounds['le']:,}" if "le" in bounds else " or more" if "ge" in bounds else ""
        values = " or ".join(map(str, get_args(field.annotation))) or f"{low}{high}"
        out.append(f"{key}={field.default:g} ({values})")
    return ", ".join(out)


def parse(name: str) -> Synthetic | None:
    """The options of a data set that is made, None for any other. Raises ConfigError, naming the nearest option."""
    text, *given = name.split(",")
    kind, _, rest = text.partition(":")
    if kind == "fractals":
        model, fields = Fractals, {}
        given = [rest, *given] if ":" in text else given
        if ":" not in text and given:
            raise ConfigError(f"{name}: options stand behind a colon: fractals:{','.join(given)}")
    elif kind == "deformed":
        model, fields = Deformed, {"base": rest}
        if not rest or rest.partition(":")[0] in ("folder", "fractals", "deformed"):
            raise ConfigError(f"{name}: behind `deformed:` stands a built-in data set or torchvision:NAME")
    else:
        return None
    known = [key for key in model.model_fields if key != "base"]
    for option in given:
        key, equals, value = option.partition("=")
        if not equals or key not in known:
            raise ConfigError(f"{name}: {option!r} is no option=value{suggest(key, known)}")
        if key in fields:
            raise ConfigError(f"{name}: {key!r} stands there twice")
        fields[key] = _number(value)
    try:
        return model.model_validate(fields)
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


def canonical(name: str) -> str:
    """The one name of a data set that is made; others come back as they are. Raises ConfigError."""
    return written(how) if (how := parse(name)) else name


def written(how: Synthetic) -> str:
    """The canonical name of options."""
    fields = how.model_dump(exclude_defaults=True, exclude={"base"})
    options = [f"{key}={int(value) if value == int(value) else value}" for key, value in sorted(fields.items())]
    if how.base:
        return ",".join([f"{how.kind}:{how.base}", *options])
    return f"{how.kind}:{','.join(options)}" if options else how.kind


def info_of(how: Synthetic, base: Info | None = None) -> Info:
    """What is known of a data set that is made; `base`: of the one that is deformed. Raises ConfigError where more test
    images are asked for than that one has: intervals would take deformations of one image for independent images."""
    if isinstance(how, Fractals):
        return Info(
            name=written(how),
            classes=how.classes,
            train=ENDLESS,
            test=how.test,
            size=how.size,
            channels=how.channels,
            validation=10_000,
            flip=bool(how.flips),
            licence="none needed: made here",
            source="random iterated function systems, after FractalDB (Kataoka et al. 2020)",
            made="Its images are synthetic, fractals of random iterated function systems, made from seeds: what holds "
            "for them need not hold for photographs.",
        )
    if "test" in how.model_fields_set and how.test > base.test:
        raise ConfigError(f"{written(how)}: {base.title} has {base.test:,} test images, not {how.test:,}")
    kept, tested = base.train - base.validation, min(how.test, base.test)
    return base.model_copy(
        update={
            "name": written(how),
            "train": ENDLESS,
            "test": tested,
            "source": f"{base.source}; deformed as in infinite MNIST (Loosli, Canu & Bottou 2007)",
            "made": f"Its images are random deformations of the images of {base.title}, for training of {kept:,}, for "
            f"validation of {base.validation:,} others, for the test of {tested:,} test images: new "
            "deformations are not new objects, so that a larger n says less here than as many new images would.",
        }
    )

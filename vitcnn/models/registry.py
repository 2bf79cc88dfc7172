"""The architectures that a study can name: built-in networks, timm's, and users' own."""

import re
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import Discriminator, Field, PrivateAttr, Tag, ValidationInfo, field_validator, model_validator

from vitcnn.errors import Frozen, Positive, suggest
from vitcnn.models.config import CNN, RNN, SASA, CNNAttention, Hybrid, Linear, Mixer, Swin, ViT, ViTWindow, few
from vitcnn.source_hash import Trust, code_hash, file_hash, sources


class Timm(Frozen):
    """Any classification architecture of timm (Wightman 2019), adapted to the data: `timm/resnet18`.

    `pretrained` takes timm's weights from their hub, `weights` a file of them (.safetensors or .pth); either way the
    head is new, and pixels are scaled as timm scaled them. `options` go to `timm.create_model`.
    """

    name: Annotated[str, Field(pattern=r"^timm/[\w.-]+$")]
    image_size: Positive | None = None  # None: timm's own with weights, else a ViT's (behind a cifar stem: the CNN's)
    pretrained: bool = False
    weights: str | None = None
    weights_sha256: str | None = None  # filled in; stands for the file in a cell's id
    stem: Literal["cifar", "imagenet"] | None = None  # of a ResNet; None: cifar up to 40 pixels and without weights
    options: dict[str, Any] = Field(default={})

    @field_validator("options")
    @classmethod
    def _few_blocks(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key, given in value.items():
            counts = given if isinstance(given, list | tuple) else (given,)
            if re.search("depth|layers|blocks", key) and all(type(count) is int for count in counts):
                few(tuple(counts))
        return value

    @model_validator(mode="before")
    @classmethod
    def _hash_weights(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get("weights"), str) or value.get("weights_sha256"):
            return value
        if value.get("pretrained"):
            raise ValueError("give either `pretrained` or `weights`")
        try:
            return value | {"weights_sha256": file_hash(Path(value["weights"]))}
        except OSError as error:
            raise ValueError(f"weights: {value['weights']}: {error.strerror or error}") from None


class Imported(Frozen):
    """A user's network: `import:mypkg.net:build`, called as
    `build(image_size=…, channels=…, classes=…, **options)`, to return an `nn.Module` from images (B, channels,
    image_size, image_size) float to logits (B, classes). Looked for beside the study, in the current folder and on
    Python's path, but run only if `trust`, which the validation's context gives, allows it.
    """

    name: str
    image_size: Positive | None = None  # None: the data's own
    options: dict[str, Any] = Field(default={})
    source_sha256: str | None = None  # of its code (`source_hash.sources`), filled in: changed code is another cell
    _trust: Trust = PrivateAttr(default=Trust())

    def model_post_init(self, context: Any) -> None:
        self._trust = context or Trust()

    @property
    def module(self) -> str:
        return self.name.split(":")[1]

    @property
    def trust(self) -> Trust:
        return self._trust

    @property
    def sources(self) -> dict[str, Path]:
        """The files of its code, by module. Raises ValueError if there is no such module."""
        return sources(self.module, self.trust)

    @model_validator(mode="before")
    @classmethod
    def _hash_source(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get("name"), str) or value.get("source_sha256"):
            return value
        _, module, _ = (value["name"] + "::").split(":")[:3]
        if not re.fullmatch(r"import:[A-Za-z_][\w.]*:[A-Za-z_]\w*", value["name"]) or module.endswith(".py"):
            raise ValueError(
                f"write import:MODULE:FUNCTION, such as import:nets:build for build() in nets.py, not {value['name']!r}"
            )
        return value | {"source_sha256": code_hash(sources(module, info.context or Trust()))}


def identity(arch: "Arch") -> dict[str, Any]:
    """The fields that decide a model's results. Fields at their default are left out, so that a new option changes no
    identity, and so is the path of a weights file, which is identified by its hash."""
    own = arch.model_dump(mode="json", exclude_defaults=True, exclude={"weights"} if isinstance(arch, Timm) else None)
    return {**own, "name": arch.name}


ARCHS = {
    "mixer": Mixer,
    "rnn": RNN,
    "vit": ViT,
    "vit-window": ViTWindow,
    "hybrid": Hybrid,
    "swin": Swin,
    "sasa": SASA,
    "cnn": CNN,
    "cnn-attention": CNNAttention,
    "linear": Linear,
    "timm/NAME": Timm,
    "import:MODULE:FUNCTION": Imported,
}


def kind(arch: Any) -> str:
    """The key of `ARCHS` for a model's `arch`. Raises ValueError with the nearest name."""
    name = arch.get("name") if isinstance(arch, dict) else getattr(arch, "name", None)
    for prefix, key in (("timm/", "timm/NAME"), ("import:", "import:MODULE:FUNCTION")):
        if str(name).startswith(prefix):
            return key
    if not isinstance(name, str) or name not in ARCHS:
        raise ValueError(f"unknown architecture {reprlib.repr(name)}{suggest(str(name)[:80], ARCHS)}")
    return name


def _tag(arch: Any) -> str | None:
    try:
        return kind(arch)
    except ValueError:  # an error here would leave pydantic without its location
        return None


Arch = Annotated[
    Union[tuple(Annotated[fields, Tag(key)] for key, fields in ARCHS.items())],  # noqa: UP007  built from a dictionary
    Discriminator(_tag),
]

"""From an entrant's fields and a data set's to a network, with what tables say about it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vitcnn.config import CNN, ConfigError, Local, Model, ViT
from vitcnn.data.cache import Info
from vitcnn.models.cnn import ResNet
from vitcnn.models.local import local
from vitcnn.models.vit import VisionTransformer

WORDS = 4  # a ViT on fewer than 4×4 words is no ViT


@dataclass(frozen=True)
class Facts:
    """What stands beside an entrant's name: parameters, multiply-accumulates of one forward image, and its words."""

    parameters: int
    macs: int
    image_size: int
    words: int | None  # of the first layer; None where there are none
    native_pixels_per_word: float | None  # along a side


def build(model: Model, data: Info, init: str = "xavier") -> tuple[nn.Module, int]:
    """(network, the image size it takes). Draws from torch's global generator. Raises ConfigError.

    `init` sets linear layers and patch embeddings: Xavier-uniform ("xavier": a patch embedding seen as the matrix it
    is) or a truncated normal of deviation 0.02 ("normal"); convolutions of the CNN keep He's.
    """
    size = image_size(model, data)
    common = {"channels": data.channels, "classes": data.classes}
    fields = model.model_dump(exclude={"model", "image_size"})
    try:
        if isinstance(model, ViT):
            network = VisionTransformer(image_size=size, **common, **fields)
        elif isinstance(model, Local):
            network = local(image_size=size, **common, **fields)
        elif isinstance(model, CNN):
            network = ResNet(**common, stages=fields.pop("channels"), **fields)
        else:
            raise TypeError(f"{model.model} is not a network")
    except ValueError as error:
        raise ConfigError(f"{model.model}: {error}") from None
    initialise(network, init, patches=not isinstance(model, CNN))
    return network, size


def image_size(model: Model, data: Info) -> int:
    """The side of the image a model is shown, in pixels: `model.image_size`, or by default the smallest that fits."""
    patch = 16 if isinstance(model, CNN) else model.patch_size
    if isinstance(model, ViT):
        if model.image_size and model.image_size < WORDS * patch:
            raise ConfigError(
                f"vit: image_size {model.image_size} holds fewer than {WORDS}×{WORDS} words of {patch}×{patch} pixels; "
                f"enlarge the image to {WORDS * patch} or more"
            )
        return model.image_size or max(WORDS, -(-data.size // patch)) * patch
    vit = max(WORDS, -(-data.size // 16)) * 16  # what a ViT of 16×16 patches is shown
    if isinstance(model, Local):
        unit = patch * 2 ** (len(model.depths) - 1)
        return model.image_size or -(-vit // unit) * unit
    return model.image_size or vit // 2


def initialise(network: nn.Module, init: str, patches: bool) -> None:
    """Weights of linear layers (and, with `patches`, of convolutions); their biases become 0."""
    kinds = (nn.Linear, nn.Conv2d) if patches else (nn.Linear,)
    for module in network.modules():
        if isinstance(module, kinds):
            if init == "xavier":
                nn.init.xavier_uniform_(module.weight.data.flatten(1))
            else:
                nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def facts(model: Model, data: Info) -> Facts:
    """Counted, not computed by formula: torch's FLOP counter over one forward image, two FLOPs a MAC."""
    if model.model == "linear":
        inputs = data.size**2 * data.channels
        return Facts((inputs + 1) * data.classes, inputs * data.classes, data.size, None, None)
    state = torch.get_rng_state()
    try:
        network, size = build(model, data)
    finally:
        torch.set_rng_state(state)
    network.eval()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, data.channels, size, size))
    words = None if isinstance(model, CNN) else (size // model.patch_size) ** 2
    return Facts(
        parameters=sum(p.numel() for p in network.parameters()),
        macs=counter.get_total_flops() // 2,
        image_size=size,
        words=words,
        native_pixels_per_word=None if words is None else data.size * model.patch_size / size,
    )


def decay_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Parameter groups: weight decay on matrices and kernels; none on biases, norms, positions or bias tables."""
    spared = ("positions", "relative_position_bias_table")

    def decays(name: str, p: Tensor) -> bool:
        return p.ndim > 1 and not name.endswith(spared)

    named = list(network.named_parameters())
    return [
        {"params": [p for name, p in named if decays(name, p)], "weight_decay": weight_decay},
        {"params": [p for name, p in named if not decays(name, p)], "weight_decay": 0.0},
    ]

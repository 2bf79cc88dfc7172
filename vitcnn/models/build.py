"""Builds a network and its preprocessing from a model's config and a data set."""

from functools import partial

import torch
from torch import Tensor, nn

from vitcnn.data.cell_data import Images, statistics_sample
from vitcnn.data.permutation import PATCHES, Permutation, order, tokens_along
from vitcnn.data.preprocess import Preprocess
from vitcnn.data.sources.cache import Info
from vitcnn.errors import ConfigError
from vitcnn.models import custom, timm_models
from vitcnn.models.config import CNN, CNNAttention, Hybrid, Linear, Swin, TokenArch
from vitcnn.models.conv_attention import rewrite
from vitcnn.models.memory import check_memory
from vitcnn.models.registry import Arch, Imported, Timm
from vitcnn.models.resnet import ResNet
from vitcnn.models.sasa import sasa
from vitcnn.models.swin import swin
from vitcnn.models.vit import mixer, rnn, vit

NETWORKS = {
    "mixer": mixer,
    "rnn": rnn,
    "vit": vit,
    "vit-window": vit,
    "hybrid": partial(vit, convolutions=True),
    "swin": swin,
    "sasa": sasa,
    "cnn": ResNet,
}


def build(
    arch: Arch,
    data: Info,
    init: str = "xavier",
    weights: dict[str, Tensor] | None = None,
    own_head: bool = False,
) -> tuple[nn.Module, int]:
    """(network from images (B, C, S, S) to logits (B, classes), the size S). Draws from torch's global generator.
    Raises ConfigError.

    `init` sets linear layers and patch embeddings: Xavier-uniform (Glorot & Bengio 2010; "xavier": a patch embedding
    seen as the matrix it is, W^q, W^k and W^v as the one that they are kept in, smaller by √2 than each by itself) or a
    truncated normal of deviation 0.02 ("normal"); convolutions of the CNN and of the hybrid's stem keep their own,
    LSTMs torch's, and networks of timm and of users everything. `weights`: a state dict to load instead, of the same
    network or of the CNN that a `cnn-attention` rewrites; with `own_head` the head is new, since classes differ.
    """
    size = image_size(arch, data)
    if isinstance(arch, Timm):
        network = timm_models.network(arch, data, size)
    elif isinstance(arch, Imported):
        network = custom.network(arch, data, size)
    else:
        check_memory(arch.name, lambda: _rewritten(arch, _own_network(arch, data, size, init)))
        network = _own_network(arch, data, size, init)
    if weights and own_head:
        weights = _with_head_of(network, arch, weights)
    before = weights and weights.keys() == network.state_dict().keys()
    if before:
        network.load_state_dict(weights)
    network = _rewritten(arch, network)
    if weights and not before:
        network.load_state_dict(weights)
    return network, size


def _with_head_of(network: nn.Module, arch: Arch, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Raises ConfigError if shapes differ (number of tokens, channels)."""
    heads = timm_models.heads(network) if isinstance(arch, Timm) else ("head",)
    own = network.state_dict()
    out = {
        k: own[k] if k.startswith(tuple(f"{head}." for head in heads)) else v for k, v in weights.items() if k in own
    }
    other = [k for k, v in own.items() if k not in out or out[k].shape != v.shape]
    if other:
        raise ConfigError(
            f"pretrain: {arch.name}: the weights do not fit at {other[0]}; check that both have the same image_size"
        )
    return out


def _own_network(arch: Arch, data: Info, size: int, init: str) -> nn.Module:
    if isinstance(arch, CNNAttention):  # build the CNN that it rewrites
        arch = CNN(**arch.model_dump(include=CNN.model_fields.keys() - {"name"}))
    make = NETWORKS.get(arch.name)
    if not make:
        raise TypeError(f"{arch.name} is not a network")
    fields = arch.model_dump(exclude={"name", "image_size"})
    if isinstance(arch, CNN):
        fields["stages"] = fields.pop("channels")
    else:
        fields["image_size"] = size
    try:
        network = make(channels=data.channels, classes=data.classes, **fields)
    except ValueError as error:
        raise ConfigError(f"{arch.name}: {error}") from None
    initialise(network, init, patches=not isinstance(arch, CNN | Hybrid))
    return network


def _rewritten(arch: Arch, network: nn.Module) -> nn.Module:
    if not isinstance(arch, CNNAttention):
        return network
    return rewrite(network, arch.gate, arch.sharpness, arch.head_width)


def image_size(arch: Arch, data: Info) -> int:
    """The side of a network's input in pixels: `model.image_size`, or by default the smallest that fits."""
    vit = tokens_along(data.size) * 16  # the input size of a ViT with 16×16 patches
    if isinstance(arch, TokenArch):
        patch = arch.patch_size
        if arch.image_size and arch.image_size < PATCHES * patch:
            tokens = f"{PATCHES}×{PATCHES} tokens of {patch}×{patch} pixels"
            raise ConfigError(
                f"{arch.name}: image_size {arch.image_size} has fewer than {tokens}; "
                f"set it to {PATCHES * patch} or more"
            )
        return arch.image_size or tokens_along(data.size, patch) * patch
    if isinstance(arch, Timm):
        return arch.image_size or timm_models.default_size(arch, vit, vit // 2)
    if isinstance(arch, Imported):
        return arch.image_size or data.size
    if isinstance(arch, Swin):
        unit = arch.patch_size * 2 ** (len(arch.depths) - 1)
        return arch.image_size or -(-vit // unit) * unit
    return arch.image_size or vit // 2


def preprocess(arch: Arch, data: Info, images: Images, size: int, permutation: Permutation | None = None) -> Preprocess:
    """Pixels scaled by the training subset's statistics (of its first 10,000 images if synthetic), or by those of
    pretrained weights. Raises ConfigError if the input is smaller than the image, which would mix permuted pixels."""
    check_input(arch, data, permutation)
    known = timm_models.pixel_statistics(arch, data) if isinstance(arch, Timm) else None
    moved = torch.from_numpy(order(data.size, permutation)) if permutation else None
    if known:
        return Preprocess(data.size, size, *map(torch.tensor, known), moved)
    return Preprocess.of(statistics_sample(images), size, moved)


def check_input(arch: Arch, data: Info, permutation: Permutation | None) -> None:
    if permutation and not isinstance(arch, Linear) and (size := image_size(arch, data)) < data.size:
        raise ConfigError(
            f"permutation: {arch.name} shrinks images from {data.size} to {size} pixels, which would mix permuted "
            f"pixels; set image_size: {data.size} or more"
        )


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


def memory_layout(network: nn.Module) -> torch.memory_format:
    """The memory format for training: channels last, which is faster for convolutions.

    Not for a user's network, which may call `view` (LeNet's `x.view(-1, 400)`). Not if the only convolution is a patch
    embedding: converting the images costs more than it saves. Nor if a 1×1 convolution with a stride has fewer than 8
    channels: its backward then writes past its memory on the CPU (torch 2.14.1 with AVX2: "free(): invalid pointer",
    from 2 to 6 channels).
    """
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    unsafe = any(c.in_channels < 8 and c.kernel_size == (1, 1) and c.stride != (1, 1) for c in convolutions)
    known = type(network).__module__.partition(".")[0] in ("vitcnn", "timm")
    return torch.channels_last if known and not unsafe and len(convolutions) > 1 else torch.contiguous_format


def decayed(network: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """(parameters with weight decay, parameters without), by name. Matrices and kernels have it; biases, norms,
    position embeddings, bias tables and what the network lists in `no_weight_decay` (timm's do) have not."""
    spared = ("positions", "relative_position_bias_table")
    named_by_it = getattr(network, "no_weight_decay", ())  # a method, or names
    named_by_it = set(named_by_it() if callable(named_by_it) else named_by_it)
    decays, others = {}, {}
    for name, p in network.named_parameters():
        own = p.ndim > 1 and not name.endswith(spared) and name not in named_by_it
        (decays if own else others)[name] = p
    return decays, others


def decay_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Parameter groups for an optimiser: `decayed` with weight decay, the others without."""
    decays, others = decayed(network)
    return [
        {"params": list(decays.values()), "weight_decay": weight_decay},
        {"params": list(others.values()), "weight_decay": 0.0},
    ]

"""Any classification architecture of timm, adapted to image size, channels and classes.

Of timm's 98 model files, one small architecture each was tried at 64 pixels (colour and grey; forward, backward). All
fit but crossvit_* (wants image_size 240), efficientformer_l* (224), inception_* (96 or more), those of 14-pixel patches
(70), and csatv2 on grey images.
"""

from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import PatchEmbed
from timm.models.resnet import ResNet
from torch import nn

from vitcnn.data.sources.cache import Info
from vitcnn.errors import ConfigError, suggest
from vitcnn.models.memory import check_memory
from vitcnn.models.registry import Timm, file_hash

RESERVED = {  # options set by the study
    "pretrained", "checkpoint_path", "num_classes", "in_chans", "img_size", "pretrained_cfg", "pretrained_cfg_overlay"
}  # fmt: skip
UNREADABLE = "not a weights file of torch.save or safetensors"
CIFAR = 40  # pixels up to which a ResNet gets the small stem: behind timm's own, 32 pixels are an 8×8 grid


def network(arch: Timm, data: Info, size: int) -> nn.Module:
    """Draws from torch's global generator. Raises ConfigError with timm's error if the architecture does not fit or
    the weights are of another network."""
    name, state = _known(arch), torch.get_rng_state()
    if taken := sorted(RESERVED & arch.options.keys()):
        raise ConfigError(f"{arch.name}: options: {', '.join(taken)} cannot be set here; the study sets it")
    common = {"in_chans": data.channels, "num_classes": data.classes, **arch.options}
    try:
        check_memory(arch.name, lambda: _created(name, size, common)[0])
        model, common = _created(name, size, common)
    except ConfigError:
        raise
    except Exception as error:  # whatever an architecture raises on a size or an option that it cannot take
        more = "" if arch.options or "unexpected keyword" in str(error) else hint(arch, size)
        raise ConfigError(f"{arch.name} at {size} pixels: {_format_error(error)}{more}") from error
    _check_tokens(arch, model, size)
    if arch.pretrained or arch.weights:
        torch.set_rng_state(state)
        model = _with_weights(arch, name, common, model)
    if stem(arch, size) == "cifar" and isinstance(model, ResNet):
        _cifar_stem(model, data.channels)
    elif arch.stem == "cifar":
        raise ConfigError(f"{arch.name}: stem: cifar works for timm's ResNets only, not for {type(model).__name__}")
    return model


def _created(name: str, size: int, options: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """(the network, the options that it took); with `img_size` if it has that."""
    try:
        return timm.create_model(name, img_size=size, **options), options | {"img_size": size}
    except TypeError as error:  # most convolutional networks take any size and have no such argument
        if "img_size" not in str(error):
            raise
        return timm.create_model(name, **options), options


def heads(network: nn.Module) -> tuple[str, ...]:
    """The names of its classifiers; timm's distilled ViTs have two."""
    names = network.pretrained_cfg["classifier"]
    return (names,) if isinstance(names, str) else tuple(names)


def tokens_of(model: nn.Module) -> nn.Module | None:
    """The patch embedding; timm's mixers call it a stem."""
    stem = getattr(model, "stem", None)
    return getattr(model, "patch_embed", stem if isinstance(stem, PatchEmbed) else None)


def _check_tokens(arch: Timm, model: nn.Module, size: int) -> None:
    """Most of timm's ViTs silently drop a border that whole patches do not cover. Raises ConfigError."""
    embed = tokens_of(model)
    if isinstance(embed, PatchEmbed) and not embed.dynamic_img_pad and (over := size % (token := embed.patch_size[0])):
        raise ConfigError(
            f"{arch.name}: an image of {size} pixels cannot be cut into whole {token}×{token} tokens; "
            f"try image_size: {size + token - over}"
        )


def _with_weights(arch: Timm, name: str, common: dict[str, Any], fresh: nn.Module) -> nn.Module:
    """The same network with weights; `fresh` is drawn from the same state, to see which tensors were loaded.

    timm silently skips tensors that do not fit, because a new head never does.
    """
    file = {"pretrained_cfg_overlay": {"file": str(Path(arch.weights).expanduser())}} if arch.weights else {}
    where = arch.weights or "timm's hub"
    try:
        changed = arch.weights and file_hash(Path(arch.weights)) != arch.weights_sha256
    except OSError as error:
        raise ConfigError(f"{arch.name}: weights: {where}: {error.strerror or error}") from None
    if changed:
        raise ConfigError(f"{arch.name}: {where} has changed since the study was started")
    try:
        model = timm.create_model(name, pretrained=True, **file, **common)
    except Exception as error:  # any error of a host or a file
        reason = UNREADABLE if arch.weights and not _readable(arch.weights) else _format_error(error)
        raise ConfigError(f"{arch.name}: no weights from {where}: {reason}") from error
    pairs = zip(fresh.parameters(), model.parameters(), strict=True)
    pairs = [(p, q) for p, q in pairs if p.ndim > 1 and p.min() < p.max()]  # randomly initialised, not constant
    loaded = sum(not torch.equal(p, q) for p, q in pairs)
    if loaded < 0.9 * len(pairs):  # resnet18's are more than half of resnet34's
        raise ConfigError(f"{arch.name}: {where} has weights of another network: {loaded} of {len(pairs)} tensors fit")
    return model


def _readable(file: str) -> bool:
    """True if it is a file of tensors; for a better message after loading has failed."""
    try:
        timm.models.load_state_dict(str(Path(file).expanduser()))
    except Exception:  # whatever a file of another kind makes torch or safetensors raise
        return False
    return True


def _format_error(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()}"


def stem(arch: Timm, cnn: int) -> str | None:
    """`cifar`, or None for timm's own stem; `cnn`: the default input size of `cnn`."""
    if arch.stem:
        return "cifar" if arch.stem == "cifar" else None
    fresh = not (arch.pretrained or arch.weights)
    is_resnet = timm.models.model_entrypoint(_known(arch)).__module__ == "timm.models.resnet"
    return "cifar" if is_resnet and fresh and (arch.image_size or cnn) <= CIFAR else None


def default_size(arch: Timm, vit: int, cnn: int) -> int:
    """With weights, the size that timm trained them at; with a cifar stem, that of `cnn`; else that of `vit`."""
    if arch.pretrained or arch.weights:
        return timm.get_pretrained_cfg(_known(arch)).input_size[-1]
    return cnn if stem(arch, cnn) == "cifar" else vit


def pixel_statistics(arch: Timm, data: Info) -> tuple[list[float], list[float]] | None:
    """(mean, deviation) a channel in [0, 1] that weights were trained with; None without pretrained weights."""
    if not (arch.pretrained or arch.weights):
        return None
    about = timm.get_pretrained_cfg(_known(arch))
    mean, std = list(about.mean), list(about.std)
    return (mean, std) if data.channels == 3 else ([sum(mean) / 3], [sum(std) / 3])


def _known(arch: Timm) -> str:
    name = arch.name.removeprefix("timm/")
    if not timm.is_model(name):
        raise ConfigError(
            f"timm {timm.__version__} has no {name!r}{suggest(name, timm.list_models(), all_of_them=False)}"
        )
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag after the dot
        architecture, _, tag = name.partition(".")
        known = [one.partition(".")[2] for one in timm.list_pretrained(f"{architecture}.*")]
        why = f"timm {timm.__version__} has no weights {tag!r} of {architecture}{suggest(tag, known)}"
        raise ConfigError(why) from None
    return name


def hint(arch: Timm, size: int) -> str:
    """A hint if an architecture rejects this image size."""
    about = timm.get_pretrained_cfg(_known(arch))
    own = about.input_size[-1] if about else size
    return f"; timm's own size is {own}: try image_size: {own}" if own != size else ""


def _cifar_stem(model: ResNet, channels: int) -> None:
    """A 3×3 convolution of stride 1 and no pooling (He et al. 2016, section 4.2)."""
    model.conv1 = nn.Conv2d(channels, model.bn1.num_features, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()

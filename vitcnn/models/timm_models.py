"""Any classification architecture of timm, adapted to image size, channels and classes.

Of timm's 98 model files, one small architecture each was tried at 64 pixels (colour and grey; forward, backward). All
fit but crossvit_* (wants image_size 240), efficientformer_l* (224), inception_* (96 or more), those of 14-pixel patches
(70), and csatv2 on grey images.
"""

from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from huggingface_hub.errors import HfHubHTTPError
from timm.layers import PatchEmbed
from timm.models.resnet import ResNet
from torch import nn

from vitcnn.data.sources.cache import Info
from vitcnn.errors import ConfigError, suggest
from vitcnn.models.memory import check_memory
from vitcnn.models.registry import Timm, file_hash
from vitcnn.models.weight_files import Weights, read_weights

RESERVED = {  # options set by the study
    "pretrained", "checkpoint_path", "num_classes", "in_chans", "img_size", "pretrained_cfg", "pretrained_cfg_overlay"
}  # fmt: skip
HUB_TIMEOUT = 5.0  # seconds
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

    timm silently skips tensors that do not fit, because a new head never does. `weights_from`: the part of the file
    that is used, "" if it is the whole.
    """
    source, where, part = {}, arch.weights or "timm's hub", ""
    if arch.weights:
        tensors, part = _from_file(arch, fresh)
        source = {"pretrained_cfg_overlay": {"state_dict": tensors}}
    else:
        _check_hub(arch, name)
    try:
        model = timm.create_model(name, pretrained=True, **source, **common)
    except Exception as error:  # any error of a host or a file
        raise ConfigError(f"{arch.name}: no weights from {where}: {_format_error(error)}") from error
    model.pretrained_cfg.pop("state_dict", None)
    model.weights_from = part
    pairs = zip(fresh.parameters(), model.parameters(), strict=True)
    pairs = [(p, q) for p, q in pairs if p.ndim > 1 and p.min() < p.max()]  # randomly initialised, not constant
    loaded = sum(not torch.equal(p, q) for p, q in pairs)
    if loaded < 0.9 * len(pairs):  # resnet18's are more than half of resnet34's
        fit = f"{loaded} of {len(pairs)} tensors fit" + (f" ({part})" if part else "")
        raise ConfigError(f"{arch.name}: {where} has weights of another network: {fit}")
    return model


def _check_hub(arch: Timm, name: str) -> None:
    """Raises ConfigError in seconds if the hub cannot be reached and its cache has no such weights: the hub's own
    client tries again for most of a minute."""
    about = timm.get_pretrained_cfg(name)
    repository, _, revision = (about.hf_hub_id or "").partition("@")
    files = (about.hf_hub_filename or "pytorch_model.bin", "model.safetensors", "open_clip_model.safetensors")
    cached = (huggingface_hub.try_to_load_from_cache(repository, file, revision=revision or None) for file in files)
    if not repository or any(isinstance(path, str) for path in cached):
        return
    url = huggingface_hub.hf_hub_url(repository, files[0], revision=revision or None)
    try:
        huggingface_hub.get_hf_file_metadata(url, timeout=HUB_TIMEOUT)
    except HfHubHTTPError:  # an answer; timm will say what is wrong with it
        return
    except Exception as error:  # of the HTTP client's, whichever this version uses
        raise ConfigError(
            f"{arch.name}: no weights from timm's hub: {_format_error(error)} ({url}), and none in its cache "
            f"({huggingface_hub.constants.HF_HUB_CACHE}); on a machine without network, give a file as `weights`"
        ) from error


def _from_file(arch: Timm, network: nn.Module) -> Weights:
    file = Path(arch.weights).expanduser()
    try:
        if file_hash(file) != arch.weights_sha256:
            raise ConfigError(f"{arch.name}: {arch.weights} has changed since the study was started")
        return read_weights(file, network.state_dict().keys())
    except OSError as error:
        raise ConfigError(f"{arch.name}: weights: {arch.weights}: {error.strerror or error}") from None
    except ValueError as error:
        raise ConfigError(f"{arch.name}: no weights from {arch.weights}: {error}") from None


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
    """timm's current name, also of an architecture that it has renamed. Raises ConfigError if there is none."""
    given, version = arch.name.removeprefix("timm/"), f"timm {timm.__version__}"
    architecture, _, tag = given.partition(".")
    renamed = timm.models.get_deprecated_models()
    name = given
    if architecture in renamed:
        name = renamed[architecture]
        if tag or name is None:
            now = f"; {architecture!r} is now called {name!r}" if name else f": {architecture!r} was removed"
            raise ConfigError(f"{version} has no {given!r}{now}")
    if not timm.is_model(name):
        raise ConfigError(f"{version} has no {name!r}{suggest(name, timm.list_models(), all_of_them=False)}")
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag after the dot
        architecture, _, tag = name.partition(".")
        known = [one.partition(".")[2] for one in timm.list_pretrained(f"{architecture}.*")]
        old = f", the current name of {given!r}" if name != given else ""
        raise ConfigError(f"{version} has no weights {tag!r} of {architecture}{old}{suggest(tag, known)}") from None
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

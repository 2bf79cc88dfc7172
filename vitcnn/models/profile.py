"""Counts of a network: parameters, multiply-accumulates, tokens."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import UninitializedParameter
from torch.utils.flop_counter import FlopCounterMode

from vitcnn.data.sources.cache import Info
from vitcnn.errors import ConfigError, JobFailed
from vitcnn.models import timm_models
from vitcnn.models.build import build, decay_groups, memory_layout
from vitcnn.models.config import InputSpec, Linear
from vitcnn.models.custom import format_error
from vitcnn.models.registry import Arch, Imported, Timm
from vitcnn.system.machine import cores
from vitcnn.system.processes import apart

PATIENCE = 300.0  # seconds for a user's network, which may fetch weights


@dataclass(frozen=True)
class ModelProfile:
    """Parameters, multiply-accumulates of one forward image, and input of a model; `weights_from`: the part of its
    weights file that is used, "" if it is the whole or there is none."""

    parameters: int
    macs: int
    input: InputSpec
    weights_from: str = ""


def profile(arch: Arch, data: Info) -> ModelProfile:
    """Counted over one forward image by torch's FLOP counter, two FLOPs per MAC. If the counter sees none in a
    recurrent layer (run by a library), its weights are counted once per token."""
    if isinstance(arch, Linear):
        inputs, rows = data.size**2 * data.channels, data.classes if data.classes > 2 else 1
        return ModelProfile((inputs + 1) * rows, inputs * rows, InputSpec(image_size=data.size))
    state = torch.get_rng_state()
    try:
        return _profile(arch, data)
    finally:
        torch.set_rng_state(state)


def profile_apart(arch: Arch, data: Info, seconds: float = PATIENCE) -> ModelProfile:
    """`profile`, of a user's network in a process of its own. Raises ConfigError also if that process ends, or is not
    done within `seconds`."""
    if not isinstance(arch, Imported):
        return profile(arch, data)
    try:
        return apart(profile, arch, data, threads=cores(), seconds=seconds)
    except TimeoutError:
        raise ConfigError(f"{arch.name}: not built and tried within {seconds:g} seconds") from None
    except JobFailed as error:
        raise ConfigError(f"{arch.name}: {error}") from None


def _profile(arch: Arch, data: Info) -> ModelProfile:
    network, size = build(arch, data)
    if any(isinstance(p, UninitializedParameter) for p in network.parameters()):
        raise ConfigError(f"{arch.name}: its lazy layers have no weights yet; run it on an image before returning it")
    if isinstance(arch, Imported) and _memory(network) & _memory(build(arch, data)[0]):
        raise ConfigError(
            f"{arch.name}: two calls return networks that share weights, so what one cell learns would reach the next; "
            "build new ones in every call, without a cache or layers of the module's own"
        )
    free = [p for p in network.parameters() if p.requires_grad]
    network.eval().requires_grad_(False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        recurrent = _count_recurrent(network, counter)
        with _as_config_errors(arch, size):
            out = network(torch.zeros(1, data.channels, size, size))
    _check_logits(arch, out, "one image", (1, data.classes))
    macs = counter.get_total_flops() // 2 + sum(recurrent)
    if isinstance(arch, Imported | Timm):
        for p in free:
            p.requires_grad_(True)
        _try_a_step(arch, network, data, size)
    tokens = _tokens(arch, network, size)
    native = data.size / math.sqrt(tokens) if tokens else None
    return ModelProfile(
        parameters=sum(p.numel() for p in network.parameters()),
        macs=macs,
        input=InputSpec(image_size=size, tokens=tokens, native_pixels_per_token=native),
        weights_from=getattr(network, "weights_from", "") if isinstance(arch, Timm) else "",
    )


def _memory(network: nn.Module) -> set[int]:
    """Where the network's parameters and buffers lie."""
    tensors = (t for t in (*network.parameters(), *network.buffers()) if t.numel() and t.layout == torch.strided)
    return {t.untyped_storage().data_ptr() for t in tensors}


def _try_a_step(arch: Arch, network: nn.Module, data: Info, size: int) -> None:
    """Runs one training step on two images. Raises ConfigError for any error."""
    if not any(p.requires_grad for p in network.parameters()):
        raise ConfigError(f"{arch.name}: no parameter is trainable (requires_grad)")
    layout = memory_layout(network.train())
    images = torch.rand(2, data.channels, size, size).to(memory_format=layout)
    with _as_config_errors(arch, size):
        network.to(memory_format=layout)
        optimizer = torch.optim.AdamW(decay_groups(network, 0.05), lr=1e-6, fused=True)
        out = network(images)
    _check_logits(arch, out, "two images in training", (2, data.classes))
    with _as_config_errors(arch, size):
        F.cross_entropy(out, torch.tensor([0, data.classes - 1])).backward()
        optimizer.step()


@contextlib.contextmanager
def _as_config_errors(arch: Arch, size: int) -> Iterator[None]:
    """Turns any error of a network into a ConfigError, for instance on an unsupported image size."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        own = isinstance(arch, Imported)
        reason = format_error(error, arch.sources) if own else f"{type(error).__name__}: {error}"
        more = timm_models.hint(arch, size) if isinstance(arch, Timm) else ""
        raise ConfigError(f"{arch.name} at {size} pixels: {reason}{more}") from error


def _check_logits(arch: Arch, out: object, of: str, shape: tuple[int, int]) -> None:
    if not isinstance(out, Tensor) or out.shape != shape:
        what = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ConfigError(f"{arch.name}: the output for {of} is {what}, not logits of shape {shape}")


def _count_recurrent(network: nn.Module, counter: FlopCounterMode) -> list[int]:
    """A list that the next forward fills with the MACs of recurrent layers that the counter misses."""
    macs, seen = [], [0]

    def before(*_: object) -> None:
        seen[0] = counter.get_total_flops()

    def count(layer: nn.RNNBase, inputs: tuple[Tensor, ...], _: object) -> None:
        if counter.get_total_flops() == seen[0]:
            tokens = inputs[0].numel() // inputs[0].shape[-1]
            macs.append(tokens * sum(p.numel() for p in layer.parameters() if p.ndim > 1))

    for layer in network.modules():
        if isinstance(layer, nn.RNNBase):
            layer.register_forward_pre_hook(before)
            layer.register_forward_hook(count)
    return macs


def _tokens(arch: Arch, network: nn.Module, size: int) -> int | None:
    """Tokens of the first layer; None if it has none."""
    if isinstance(arch, Timm):
        embed = timm_models.tokens_of(network)  # VOLO's has no img_size: it always counts those of 224 pixels
        return getattr(embed, "num_patches", None) if hasattr(embed, "img_size") else None
    return (size // arch.patch_size) ** 2 if hasattr(arch, "patch_size") else None

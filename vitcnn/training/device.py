"""The device that cells are trained on."""

import os
from collections.abc import Iterable

import torch

from vitcnn.errors import ConfigError


def pick_device(wanted: str) -> torch.device:
    """`auto` is the GPU if there is one. Raises ConfigError if `wanted` is not available.

    On a GPU this makes runs reproducible: deterministic forms of all operations that have one (see `training.capture`),
    and float32 without TF32 in convolutions and matrix products.
    """
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")  # queues for the lanes' streams, 8 by default
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(automatic) if wanted == "auto" else _named(wanted)
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # costs a kernel for each new tensor
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return device


def _named(wanted: str) -> torch.device:
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise ConfigError(f"device {wanted!r} is not known to torch; try auto, cpu, cuda or cuda:1") from None
    there = {
        "cpu": lambda: True,
        "cuda": lambda: (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available,
        "xpu": torch.xpu.is_available,
    }
    if device.type not in there:
        raise ConfigError(f"device {wanted!r} is not supported; use one of {', '.join(there)}")
    if not there[device.type]():
        seen = f"{torch.cuda.device_count()} CUDA devices" if device.type == "cuda" else f"no {device.type} device"
        raise ConfigError(f"device {wanted!r}: torch {torch.__version__} sees {seen}")
    return device


def check_devices(first: torch.device, count: int) -> None:
    """Raises ConfigError if there are not `count` devices from `first` on. On CPUs each is a process."""
    if count == 1 or first.type == "cpu":
        return
    if first.type != "cuda":
        raise ConfigError(f"trainer.devices: {count}: only cuda and cpu train on several devices, not {first.type}")
    there = torch.cuda.device_count() - (first.index or 0)
    if there < count:
        raise ConfigError(f"trainer.devices: {count} requested, torch sees {there} from cuda:{first.index or 0} on")


def is_out_of_memory(error: BaseException | None) -> bool:
    """True if memory ran out: torch's own error, or the messages of libraries and of the CPU allocator."""
    if error is None:
        return False
    message = str(error)
    words = ("out of memory", "ALLOC_FAILED", "can't allocate memory")
    found = isinstance(error, torch.OutOfMemoryError) or any(word in message for word in words)
    return found or is_out_of_memory(error.__context__)


def caveat(device: torch.device, precisions: Iterable[str]) -> str | None:
    """A warning about the device, or None. Raises ConfigError if a precision is not available."""
    if device.type not in ("mps", "xpu"):
        return None
    if other := set(precisions) - {"float32"}:
        raise ConfigError(f"device {device.type!r}: only float32 is supported, not {', '.join(sorted(other))}")
    return f"device {device.type!r}: untested; cells are trained eagerly, in float32, by one process"

"""Which device a cell is trained on."""

import os
from collections.abc import Iterable

import torch

from vitcnn.errors import ConfigError


def pick_device(wanted: str) -> torch.device:
    """`auto` is the GPU where there is one. Raises ConfigError where `wanted` is not to be had.

    On a GPU a second run is made to end with the same weights: deterministic forms of all operations, where there are
    such (`training.capture` finds out), and float32 without rounding to TF32, in convolutions as in matrix products.
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
        raise ConfigError(f"device {wanted!r} is not one that torch knows; try auto, cpu, cuda or cuda:1") from None
    there = {
        "cpu": lambda: True,
        "cuda": lambda: (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available,
        "xpu": torch.xpu.is_available,
    }
    if device.type not in there:
        raise ConfigError(f"device {wanted!r}: cells are trained on {', '.join(there)}")
    if not there[device.type]():
        seen = f"{torch.cuda.device_count()} CUDA devices" if device.type == "cuda" else f"no {device.type} device"
        raise ConfigError(f"device {wanted!r}: torch {torch.__version__} sees {seen}")
    return device


def is_out_of_memory(error: BaseException | None) -> bool:
    """torch has a name for it where its own allocator finds none; libraries and the CPU have only words."""
    if error is None:
        return False
    message = str(error)
    words = ("out of memory", "ALLOC_FAILED", "can't allocate memory")
    found = isinstance(error, torch.OutOfMemoryError) or any(word in message for word in words)
    return found or is_out_of_memory(error.__context__)


def caveat(device: torch.device, precisions: Iterable[str]) -> str | None:
    """What has to be said before cells are trained there. Raises ConfigError where a precision is not to be had."""
    if device.type not in ("mps", "xpu"):
        return None
    if other := set(precisions) - {"float32"}:
        raise ConfigError(f"device {device.type!r}: float32 only, and the study asks for {', '.join(sorted(other))}")
    return f"device {device.type!r}: untried by us; cells are trained eagerly, in float32, by one process"

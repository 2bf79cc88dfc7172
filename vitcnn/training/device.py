"""Which device a cell is trained on."""

import torch

from vitcnn.base import ConfigError


def pick_device(wanted: str) -> torch.device:
    """`auto` is the GPU where there is one. Raises ConfigError where `wanted` is not to be had.

    On a GPU float32 is then float32 for every network: by default cuDNN rounds the factors of convolutions to TF32,
    while products of matrices, which a ViT is made of, are not rounded.
    """
    torch.backends.cudnn.allow_tf32 = False
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise ConfigError(f"device {wanted!r} is none that torch knows; try auto, cpu, cuda or cuda:1") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {wanted!r}: cells are trained on cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {wanted!r}: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices")
    return device

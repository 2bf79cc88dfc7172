"""Networks of timm, and weights in files."""

from pathlib import Path

import timm
import torch
from building import shaken
from safetensors.torch import save_file
from torch import Tensor

from vitcnn.models.registry import Timm

STUDY = """
dataset: digits
sizes: [50]
seeds: 1
validation: 50
models: {net: {arch: timm/test_vit}}
budget: {images_seen: 48}
recipe: {batch_size: 16}
"""


def of(name: str, **more) -> Timm:
    return Timm(name=f"timm/{name}", **more)


def saved(path: Path, name: str = "test_vit", **options) -> tuple[dict[str, Tensor], str]:
    """Weights as another training left them, in a file, for 1000 classes in colour; (the tensors, the file)."""
    torch.manual_seed(123)
    state = shaken(timm.create_model(name, **options)).state_dict()
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return state, str(path)

"""Whether a network fits into memory, found without building it."""

from collections.abc import Callable

import torch
from torch import nn

from vitcnn.errors import ConfigError
from vitcnn.system.machine import free_bytes

TRAINED = 4  # numbers that training keeps of each parameter: itself, its gradient, AdamW's two averages


def check_memory(name: str, make: Callable[[], nn.Module]) -> None:
    """Calls `make` on the meta device, where tensors have a shape and no memory. Draws nothing from torch's generators.
    Raises ConfigError if training the network would need more memory than is free."""
    with torch.random.fork_rng(devices=()), torch.device("meta"):
        try:
            network = make()
        except RuntimeError as error:
            if "overflow" not in str(error):
                raise
            raise ConfigError(f"{name}: does not fit into memory: a tensor has more than 2^63 bytes") from None
    need = sum(TRAINED * p.numel() * p.element_size() for p in network.parameters())
    need += sum(buffer.numel() * buffer.element_size() for buffer in network.buffers())
    if need > (free := free_bytes()):
        count = sum(p.numel() for p in network.parameters())
        raise ConfigError(
            f"{name}: does not fit into memory: training its {count:,} parameters needs {need / 1e9:,.0f} GB, and "
            f"{free / 1e9:,.0f} GB are free"
        )

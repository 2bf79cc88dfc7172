"""Final weights of cells: kept for `init_from` and with --keep-weights."""

import hashlib
import io
from pathlib import Path

import torch
from torch import Tensor, nn

from vitcnn.errors import ConfigError
from vitcnn.store.paths import StudyPaths, write_atomically
from vitcnn.store.records import read_record


def save_weights(network: nn.Module, path: Path) -> None:
    """Saves the state dict atomically, on the CPU. Raises OSError if the disk is full."""
    state, buffer = network.state_dict(), io.BytesIO()  # torch would raise its own errors on a file
    torch.save({name: v.cpu() if isinstance(v, Tensor) else v for name, v in state.items()}, buffer)
    write_atomically(path, buffer.getbuffer())


def load_weights(cell_id: str, paths: StudyPaths) -> dict[str, Tensor]:
    """The state dict of a finished cell. Raises ConfigError if it was not kept, or does not match its record."""
    path, record = paths.weights(cell_id), paths.record(cell_id)
    if not record.exists():
        raise ConfigError(f"cell {cell_id}, whose trained weights are needed, is not finished")
    if not path.exists():
        raise ConfigError(
            f"the trained weights of cell {cell_id} are needed, but {path} is missing; to train it again and keep "
            f"them, delete {record} and run with --keep-weights"
        )
    try:
        known = read_record(record)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a broken file makes torch raise
        raise ConfigError(
            f"{path} is damaged ({type(error).__name__}); to train the cell again and keep its weights, delete "
            f"{record} and run with --keep-weights"
        ) from error
    if weights_hash(weights) != known.weights:
        raise ConfigError(f"{path}: does not match the weights of {record}")
    return weights


def weights_hash(weights: dict[str, Tensor]) -> str:
    """16 hexadecimal digits over all parameters and buffers; equal only where every bit is."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(name.encode())
        if isinstance(value, Tensor):
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().tobytes())  # NumPy has no bfloat16
        else:  # from `get_extra_state`
            digest.update(repr(value).encode())
    return digest.hexdigest()[:16]

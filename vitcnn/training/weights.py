"""The final weights of a cell: kept where another cell begins with them, or when asked for."""

import hashlib
import io
from pathlib import Path

import torch
from torch import Tensor, nn

from vitcnn.errors import ConfigError
from vitcnn.store.paths import StudyPaths, write_atomically
from vitcnn.store.records import read_record


def save_weights(network: nn.Module, path: Path) -> None:
    """The state dict, on the CPU; the file is there whole or not at all. Raises OSError where there is no room."""
    state, buffer = network.state_dict(), io.BytesIO()  # to a file torch would write with errors of its own
    torch.save({name: v.cpu() if isinstance(v, Tensor) else v for name, v in state.items()}, buffer)
    write_atomically(path, buffer.getbuffer())


def load_weights(cell_id: str, paths: StudyPaths) -> dict[str, Tensor]:
    """The state dict of a finished cell. Raises ConfigError where it was not kept, or is not what its record says."""
    path, record = paths.weights(cell_id), paths.record(cell_id)
    if not record.exists():
        raise ConfigError(f"cell {cell_id}, whose trained weights are needed, is not finished")
    if not path.exists():
        raise ConfigError(
            f"the trained weights of cell {cell_id} are needed, and {path} is not there; to train it again and keep "
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
        raise ConfigError(f"{path}: not the weights that {record} was made with")
    return weights


def weights_hash(weights: dict[str, Tensor]) -> str:
    """16 hexadecimal digits over all parameters and buffers; equal only where every bit is."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(name.encode())
        if isinstance(value, Tensor):
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().tobytes())  # NumPy knows no bfloat16
        else:  # what `get_extra_state` returned
            digest.update(repr(value).encode())
    return digest.hexdigest()[:16]

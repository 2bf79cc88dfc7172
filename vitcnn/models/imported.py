"""A network of one's own, made by a function that a study names."""

import importlib
import sys
from pathlib import Path

from torch import nn

from vitcnn.base import ConfigError
from vitcnn.data.cache import Info
from vitcnn.entrants import Imported, file_hash, find_source


def network(model: Imported, data: Info, size: int) -> nn.Module:
    """Calls it. Raises ConfigError where it cannot be found or called, or returns no module."""
    _, module, name = model.model.split(":")
    try:
        changed = file_hash(find_source(module)) != model.source_sha256
    except (ValueError, OSError) as error:
        raise ConfigError(f"{model.model}: {error}") from None
    if changed:
        raise ConfigError(f"{model.model}: its code has changed since the study was begun")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        build = getattr(importlib.import_module(module), name)
        made = build(image_size=size, channels=data.channels, classes=data.classes, **model.options)
    except Exception as error:  # another person's code can raise anything
        raise ConfigError(f"{model.model}: {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise ConfigError(f"{model.model} returned {type(made).__name__}, not an nn.Module")
    return made

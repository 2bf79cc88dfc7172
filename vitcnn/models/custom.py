"""A user's network, built by a function that a study names."""

import importlib
import inspect
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from torch import nn

from vitcnn.data.sources.cache import Info
from vitcnn.errors import ConfigError
from vitcnn.models.registry import Imported
from vitcnn.source_hash import code_hash, root_of

_running: dict[str, str] = {}  # by module, the hash of the code that this process runs


def network(arch: Imported, data: Info, size: int) -> nn.Module:
    """Builds the network, in training mode. Raises ConfigError if the function cannot be found or called, may not be
    run, or returns something else."""
    try:
        files = arch.sources
        changed = code_hash(files) != arch.source_sha256
    except (ValueError, OSError) as error:
        raise ConfigError(f"{arch.name}: {error}") from None
    _check_trust(arch, arch.module, files[arch.module])
    if changed:
        raise ConfigError(f"{arch.name}: its code has changed since the study was started")
    for folder in (os.getcwd(), str(root_of(arch.module, files[arch.module]))):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    try:
        build = getattr(_imported(arch.module, files, arch.source_sha256), arch.name.split(":")[2])
        _check_home(arch, build)
        model = build(image_size=size, channels=data.channels, classes=data.classes, **arch.options)
    except (ConfigError, KeyboardInterrupt):
        raise
    except BaseException as error:  # user code can raise anything, or call sys.exit
        raise ConfigError(f"{arch.name}: {format_error(error, files)}") from error
    if not isinstance(model, nn.Module):
        raise ConfigError(f"{arch.name} returned {type(model).__name__}, not an nn.Module")
    return model.train()


def _check_trust(arch: Imported, module: str, file: Path | None) -> None:
    if not arch.trust.allows(module, file):
        raise ConfigError(
            f"{arch.name}: the module {module} lies neither beside the study nor in the current folder, so it is not "
            f"run; if you trust it, add --allow-import {module}"
        )


def _check_home(arch: Imported, build: object) -> None:
    """A function that the module only imports must be allowed where it is written: else `from torch.hub import load` in
    somebody's module would let a study load any folder."""
    if inspect.isroutine(build) or inspect.isclass(build):
        home = sys.modules.get(build.__module__)
        file = getattr(home, "__file__", None)
        _check_trust(arch, str(build.__module__), file and Path(file))


def format_error(error: BaseException, files: dict[str, Path]) -> str:
    """The type of an error, its first line, and its position in these files."""
    known = {str(file.resolve()) for file in files.values()}
    frames = [f for f in traceback.extract_tb(error.__traceback__) if str(Path(f.filename).resolve()) in known]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    if isinstance(error, SystemExit):
        return f"it exits (SystemExit: {error}) when imported or called{where}"
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}{where}"


def _imported(name: str, files: dict[str, Path], sha256: str) -> ModuleType:
    """Imports the module, again if its files have changed. Raises ImportError if Python finds another module first."""
    if _running.setdefault(name, sha256) != sha256:
        for part in files:
            sys.modules.pop(part, None)
        importlib.invalidate_caches()
        _running[name] = sha256
    module = importlib.import_module(name)
    if not module.__file__ or not files[name].samefile(module.__file__):
        raise ImportError(f"{module.__file__} comes before {files[name]} on Python's path")
    return module

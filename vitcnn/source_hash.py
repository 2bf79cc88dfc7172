"""Hashes the source files of a user's function that a study names; they are read, not run."""

import hashlib
import importlib.util
import os
import sys
import sysconfig
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from modulefinder import ModuleFinder
from pathlib import Path

from vitcnn.system.files import open_file


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises OSError."""
    with open_file(path.expanduser()) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Trust:
    """What a study may run: modules that lie in its `folder` or in the current one and are not installed there, and
    `modules` allowed by name. Any two are equal: they are no part of what a network is."""

    folder: Path | None = field(default=None, compare=False)
    modules: tuple[str, ...] = field(default=(), compare=False)

    @property
    def folders(self) -> list[str]:
        return [os.path.abspath(self.folder), os.getcwd()] if self.folder else [os.getcwd()]

    def allows(self, module: str, file: Path | None) -> bool:
        """`file`: of the module; None where it has none, as `builtins`."""
        if any(f"{module}.".startswith(f"{allowed}.") for allowed in self.modules):
            return True
        return file is not None and any(map(file.absolute().is_relative_to, self.folders)) and not _installed(file)


def _installed(file: Path) -> bool:
    """In a folder of packages, as of an environment in the current folder, or in Python's library."""
    library = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
    return not {"site-packages", "dist-packages"}.isdisjoint(file.parts) or any(map(file.is_relative_to, library))


def find_source(module: str, trust: Trust) -> Path:
    """The file of a module, found without running it or its parents. Raises ValueError if there is none."""
    path: list[str] = [*trust.folders, *sys.path]
    parts = module.split(".")
    for depth in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: depth + 1]), path)
        if spec is None and not depth:
            spec = importlib.util.find_spec(parts[0])  # another finder may know editable installs
        if spec is None:
            places = " or ".join(dict.fromkeys(trust.folders))
            raise ValueError(f"no module {module!r} on Python's path or in {places}")
        path = list(spec.submodule_search_locations or [])
    if not spec.origin or not Path(spec.origin).is_file():
        raise ValueError(f"module {module!r} has no source file")
    return Path(spec.origin)


def sources(module: str, trust: Trust = Trust()) -> dict[str, Path]:
    """A module and what it imports that lies beside it (its package, other files of its folder), by module name, as far
    as import statements tell. An installed package's module is alone: its version stands for the rest. Raises
    ValueError where there is no such module."""
    own = {module: find_source(module, trust)}
    root = root_of(module, own[module])
    if root.name in ("site-packages", "dist-packages"):
        return own
    finder = ModuleFinder([str(root)], excludes=["vitcnn"])
    try:
        finder.import_hook(module)
    except (ImportError, SyntaxError):  # a folder without __init__.py, or code that does not compile
        return own
    return {name: Path(found.__file__) for name, found in finder.modules.items() if found.__file__} | own


def root_of(module: str, file: Path) -> Path:
    """The folder that has to be on Python's path."""
    return file.parents[module.count(".") + (file.name == "__init__.py")]


def code_hash(files: dict[str, Path]) -> str:
    """Of all of `sources`; of one file alone its SHA-256. Raises OSError."""
    hashes = {name: file_hash(path) for name, path in sorted(files.items())}
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    return hashlib.sha256("".join(f"{name} {of}\n" for name, of in hashes.items()).encode()).hexdigest()

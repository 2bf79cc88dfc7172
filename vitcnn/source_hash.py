"""Hashes the source files of a user's function that a study names; they are read, not run."""

import hashlib
import importlib.util
import sys
from importlib.machinery import PathFinder
from modulefinder import ModuleFinder
from pathlib import Path

from vitcnn.files import open_file


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises OSError."""
    with open_file(path.expanduser()) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_source(module: str) -> Path:
    """The file of a module, found without running it or its parents. Raises ValueError if there is none."""
    path: list[str] = [str(Path.cwd()), *sys.path]
    parts = module.split(".")
    for depth in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: depth + 1]), path)
        if spec is None and not depth:
            spec = importlib.util.find_spec(parts[0])  # another finder may know editable installs
        if spec is None:
            raise ValueError(f"no module {module!r} on Python's path or in {Path.cwd()}")
        path = list(spec.submodule_search_locations or [])
    if not spec.origin or not Path(spec.origin).is_file():
        raise ValueError(f"module {module!r} has no source file")
    return Path(spec.origin)


def sources(module: str) -> dict[str, Path]:
    """A module and what it imports that lies beside it (its package, other files of its folder), by module name, as far
    as import statements tell. An installed package's module is alone: its version stands for the rest. Raises
    ValueError where there is no such module."""
    own = {module: find_source(module)}
    up = module.count(".") + (own[module].name == "__init__.py")
    root = own[module].parents[up]
    if root.name in ("site-packages", "dist-packages"):
        return own
    finder = ModuleFinder([str(root)], excludes=["vitcnn"])
    try:
        finder.import_hook(module)
    except (ImportError, SyntaxError):  # a folder without __init__.py, or code that does not compile
        return own
    return {name: Path(found.__file__) for name, found in finder.modules.items() if found.__file__} | own


def code_hash(files: dict[str, Path]) -> str:
    """Of all of `sources`; of one file alone its SHA-256. Raises OSError."""
    hashes = {name: file_hash(path) for name, path in sorted(files.items())}
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    return hashlib.sha256("".join(f"{name} {of}\n" for name, of in hashes.items()).encode()).hexdigest()

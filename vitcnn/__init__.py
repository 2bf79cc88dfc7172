"""How much data does a Vision Transformer need before it beats a CNN? `load_records` reads what a study left."""

from typing import Any

__all__ = ["load_records"]


def __getattr__(name: str) -> Any:
    """Imported when asked for: the command line has no need of it."""
    if name == "load_records":
        from vitcnn.analysis.tidy import load_records

        return load_records
    raise AttributeError(f"module 'vitcnn' has no attribute {name!r}")

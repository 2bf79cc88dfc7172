"""How much data does a Vision Transformer need before it beats a CNN?

`run_study` runs a study as `vitcnn run` does, `submit_study` as `vitcnn run --launcher slurm`, `train_cell` trains one
of its cells, `load_records` reads a study's records.
"""

from importlib import import_module
from typing import Any

_WHERE = {
    "run_study": "vitcnn.launch.run_study",
    "submit_study": "vitcnn.launch.slurm",
    "train_cell": "vitcnn.training.train",
    "load_records": "vitcnn.analysis.tidy",
}
__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    """Imports lazily: these modules load torch or pandas."""
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'vitcnn' has no attribute {name!r}")

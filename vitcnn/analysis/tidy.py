"""Records as a tidy table: one row a cell, one column a fact; for notebooks and CSV files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitcnn.analysis.results import overfitting
from vitcnn.data.permutation import Permutation
from vitcnn.store.records import Record, Score, read_records

if TYPE_CHECKING:
    import pandas as pd

LABELS = ("study", "dataset", "model", "role", "variant", "n", "seed")


def load_records(folder: str | Path) -> "pd.DataFrame":
    """The records of `results/<study>`, sorted by role, n, model and seed, one row a cell.

    Accuracies and calibration errors are in [0, 1], losses in nats; `recipe_…` is empty for what is not trained by
    gradient descent. Raises FileNotFoundError where there are no records, ValueError for a file that is none.
    """
    records, wrong = read_records(Path(folder) / "records")
    if wrong:
        raise ValueError("\n".join(wrong))
    if not records:
        raise FileNotFoundError(f"{Path(folder) / 'records'}: no records there")
    return tidy(records)


def tidy(records: Sequence[Record]) -> "pd.DataFrame":
    """One row a record; every column is there for every record, empty where it does not apply."""
    import pandas as pd

    table = pd.DataFrame([_row(record) for record in records])
    return table.sort_values(["role", "n", "model", "seed", "variant"], ignore_index=True)


def _row(record: Record) -> dict[str, Any]:
    cell = record.cell
    row = {key: getattr(cell, key) for key in LABELS} | {"arch": cell.arch.name}
    for part in ("test", "validation", "train"):
        score = getattr(record, part)
        row |= {f"{part}_{field}": getattr(score, field) for field in Score.model_fields}
    row["overfitting"] = overfitting(record)
    row |= record.cost.model_dump() | record.input.model_dump()
    row |= {f"recipe_{k}": v for k, v in cell.recipe or ()}
    row |= {f"permutation_{k}": getattr(cell.permutation, k, None) for k in Permutation.model_fields} | {
        "init_from": cell.init_from
    }
    row |= {f"arch_{k}": v for k, v in cell.arch.model_dump(exclude={"name"}, exclude_defaults=True).items()}
    return row | {"id": record.id, "subset": record.subset, "weights": record.weights, **record.made_by}

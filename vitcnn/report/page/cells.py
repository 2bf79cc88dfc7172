"""The table of a study's finished cells: what the page shows of it, and all of it as CSV."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from vitcnn.analysis.tidy import tidy
from vitcnn.store.records import Record


@dataclass(frozen=True)
class Column:
    """`form`: of its numbers, after `factor`; none for text."""

    title: str
    form: str = ""
    factor: float = 1.0


PERCENT, COUNT = (".2f", 100.0), (",.0f", 1.0)
COLUMNS = {
    "model": Column("model"),
    "n": Column("n", *COUNT),
    "seed": Column("seed", *COUNT),
    "role": Column("role"),
    "variant": Column("recipe"),
    "permutation_patches": Column("patches permuted", "g"),
    "permutation_pixels": Column("pixels permuted", "g"),
    "test_accuracy": Column("test accuracy, %", *PERCENT),
    "validation_accuracy": Column("validation, %", *PERCENT),
    "train_accuracy": Column("train, %", *PERCENT),
    "test_nll": Column("test loss, nats", ".3f"),
    "test_ece": Column("calibration error, points", *PERCENT),
    "images_seen": Column("images seen", *COUNT),
    "seconds": Column("seconds", *COUNT),
    "id": Column("cell"),
    "subset": Column("hash of the subset"),
    "weights": Column("hash of the weights"),
}
OPTIONAL = {"variant", "permutation_patches", "permutation_pixels", "test_ece"}  # left out where no cell has them


@dataclass(frozen=True)
class Cells:
    """`rows`: of (value as in the record, as shown) a column; `csv`: a data URI of what `vitcnn export` writes."""

    columns: list[Column]
    rows: list[list[tuple[object, str]]]
    csv: str


def cells_table(records: Sequence[Record]) -> Cells | None:
    """None without records."""
    if not records:
        return None
    table = tidy(records)
    shown = [key for key in COLUMNS if key not in OPTIONAL or table[key].replace("", None).notna().any()]
    order = sorted(table[shown].to_dict("records"), key=lambda row: row["role"] != "main")
    rows = [[_cell(row[key], COLUMNS[key]) for key in shown] for row in order]
    csv = base64.b64encode(table.to_csv(index=False, lineterminator="\n").encode()).decode()
    return Cells([COLUMNS[key] for key in shown], rows, f"data:text/csv;charset=utf-8;base64,{csv}")


def _cell(value: object, column: Column) -> tuple[object, str]:
    if value is None or pd.isna(value):
        return "", "–"
    return value, f"{column.factor * value:{column.form}}" if column.form else str(value)

"""What networks look at, as files: PNGs, `index.json` in display order, and the numbers."""

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitcnn.inspect.look import Look
from vitcnn.report.look_pictures import pictures
from vitcnn.report.report import save
from vitcnn.report.style import drawing
from vitcnn.store.paths import StudyPaths, write_atomically
from vitcnn.study.cell import Cell


def write_look(pictured: Sequence[Look], measured: Sequence[Look], paths: StudyPaths) -> Path:
    """The folder `look` of the study's report, with the pictures of this call and no others.

    `pictured`: from `look_at`; `measured`: distances of more cells, for the figure over n. Writes PNGs, `look.json`
    (numbers: a row for each layer and head) and, last, `index.json`: a list of {"file", "title", "caption"}.
    """
    folder = paths.report / "look"
    every = sorted([*pictured, *measured], key=lambda one: (one.cell.model, one.cell.n, one.cell.seed))
    names = _names([one.cell for one in every])
    index = []
    with drawing():
        for file, title, caption, figure in pictures(pictured, every, names):
            file = re.sub(r"[\s/]+", "-", file) + ".png"
            save(figure, folder / file)
            index.append({"file": file, "title": title, "caption": caption})
    write_atomically(folder / "look.json", json.dumps(_numbers(every), indent=1) + "\n")
    write_atomically(folder / "index.json", json.dumps(index, indent=1, ensure_ascii=False) + "\n")
    for old in {path.name for path in folder.glob("*.png")} - {picture["file"] for picture in index}:
        (folder / old).unlink()
    return folder


def _names(cells: Sequence[Cell]) -> dict[str, str]:
    """By id; with the id in the name where titles are the same, as of cells at several budgets."""
    count = Counter(cell.title for cell in cells)
    return {cell.id: cell.title if count[cell.title] == 1 else f"{cell.title} {cell.id}" for cell in cells}


def _numbers(looks: Sequence[Look]) -> dict[str, Any]:
    heads, fields = [], []
    for one in looks:
        cell = {"cell": one.cell.id, "title": one.cell.title, "model": one.cell.model, "n": one.cell.n}
        cell |= {"seed": one.cell.seed}
        initial = {distance.layer: distance.heads for distance in one.initial}
        for distance in one.distances:
            for head, value in enumerate(distance.heads):
                before = initial[distance.layer][head] if initial else math.nan
                row = {"distance": value, "at_initialisation": before, "uniform": distance.uniform}
                heads.append(cell | {"layer": distance.layer, "head": head} | {k: _json(v) for k, v in row.items()})
        if one.fields:
            before, after = (_json(field.side) for field in one.fields)
            fields.append(cell | {"side": after, "at_initialisation": before})
    unit = "pixels of the data set's images"
    about = {"unit": unit, "test_images": looks[0].images}
    return about | {"attention_distance": heads, "receptive_field": fields}


def _json(value: float) -> float | None:
    return round(float(value), 4) if math.isfinite(value) else None

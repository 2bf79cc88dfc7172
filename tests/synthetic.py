"""Records for the cells of a study, made from chosen accuracies: what analysis and report are tested on."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from scipy import stats

from vitcnn.data.sources.registry import parse_dataset
from vitcnn.models.config import InputSpec
from vitcnn.seeds import role_seed
from vitcnn.store import records
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import Cost, Point, Record, Score
from vitcnn.study.cell import Cell
from vitcnn.study.load import load_study
from vitcnn.study.matrix import cells
from vitcnn.study.schema import Study

TRIO = """
dataset: digits
sizes: [50, 200, 1000]
seeds: 3
models: [vit, swin, cnn, linear]
budget: {images_seen: 1280}
recipe: {batch_size: 64}
"""
SEARCH = """
dataset: digits
sizes: [50, 1000]
seeds: 1
models: [vit, cnn]
budget: {images_seen: 1280}
grid: {lr: [0.001, 0.003, 0.01], augment: [none, "shift:1"]}
"""
BUDGETS = (1_280, 12_800, 128_000)
SEVERAL = f"""
dataset: digits
sizes: [50, 200, 1000]
seeds: 5
models: [vit, cnn, linear]
budget: [{", ".join(f"{{images_seen: {b}}}" for b in BUDGETS)}]
recipe: {{batch_size: 64}}
"""


def make_study(
    folder: Path, *overrides: str, text: str = TRIO, name: str = "trio"
) -> tuple[Study, list[Cell], StudyPaths]:
    """A study written to `folder` and read from there, its cells, and its paths in the same folder."""
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    study = load_study(path, overrides)
    return study, cells(study), StudyPaths(study.name, folder / "results", folder / "runs")


def record(
    cell: Cell,
    accuracy: float,
    *,
    rng: np.random.Generator,
    train: float | None = None,
    validation: float | None = None,
    nll: float | None = None,
) -> Record:
    """A finished cell with `accuracy` on the test set, rounded to whole images, its bits to match.

    `train` and `validation` are accuracies (by default a little above the test's, and the test's); `nll` is the
    validation loss. What is not given is drawn from `rng`.
    """
    about, linear = parse_dataset(cell.dataset).info, cell.recipe is None
    test = _score(accuracy, about.test)
    on_train = _score(min(1.0, accuracy + 0.1) if train is None else train, min(cell.n, 10_000))
    on_validation = _score(accuracy if validation is None else validation, cell.validation, nll)
    correct = rng.permutation(np.arange(about.test) < round(test.accuracy * about.test))
    seen = cell.steps * cell.recipe.batch_size if cell.recipe else 0
    seconds = 10.0 + rng.random()
    return Record(
        id=cell.id,
        cell=cell,
        test=records.TestScore(**test.model_dump(), bits=records.pack_bits(correct)),
        validation=on_validation,
        train=on_train,
        curve=() if linear else _curve(on_validation.accuracy, seen, cell.validation, rng),
        cost=Cost(
            parameters=650 if linear else 500_000,
            macs=640 if linear else 9_000_000,
            steps=cell.steps,
            images_seen=seen,
            epochs=seen / cell.n,
            seconds=seconds,
            images_per_s=None if linear else seen / seconds,
        ),
        input=InputSpec(image_size=8, tokens=None, native_pixels_per_token=None)
        if linear
        else InputSpec(image_size=64, tokens=16, native_pixels_per_token=2.0),
        subset=f"{role_seed(cell.seed, 'subset', cell.n):016x}",
        weights=None if linear else f"{rng.integers(2**63):016x}",
        found={"C": 0.1} if linear else {},
        made_by={"torch": "2.11.0", "device": "cpu (x86_64)", "git": None, "date": f"2026-01-0{cell.seed + 1}"},
    )


def _score(accuracy: float, images: int, nll: float | None = None) -> Score:
    right = round(accuracy * images) / images
    return Score(accuracy=right, nll=2.3 * (1 - right) + 0.05 if nll is None else nll, images=images)


def _curve(end: float, seen: int, validation: int, rng: np.random.Generator) -> tuple[Point, ...]:
    """Five points that climb from chance to `end`."""
    points = []
    for share in (0.2, 0.4, 0.6, 0.8, 1.0):
        accuracy = 0.1 + (end - 0.1) * share
        loss = 2.3 * (1 - accuracy) + 0.05 * rng.random()
        score = _score(accuracy, min(validation, 1000))
        points.append(
            Point(images_seen=round(seen * share), train_loss=loss, val_accuracy=score.accuracy, val_nll=score.nll)
        )
    return tuple(points)


def every(all_cells: Iterable[Cell], accuracy: Callable[[Cell], float], seed: int = 0) -> list[Record]:
    """One record a cell, `accuracy(cell)` on the test set."""
    rng = np.random.default_rng(seed)
    return [record(cell, accuracy(cell), rng=rng) for cell in all_cells]


def write(all_records: Iterable[Record], paths: StudyPaths) -> None:
    for each in all_records:
        records.write_record(each, paths)


def rows(text: str, heading: str, which: int = 0) -> list[list[str]]:
    """The cells of the first Markdown table under a heading, or of a later one, the dashes left out."""
    after = text.split(f"## {heading}\n", 1)[1]
    table = [found[0] for found in re.finditer(r"(^\|.*\n)+", after, re.MULTILINE)][which].splitlines()
    split = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table]
    return [split[0], *split[2:]]


def spread(values, signed: bool = False) -> str:
    """As tables show it: the mean in percent, half its 95 % interval, and the seeds."""
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f"{100 * np.mean(values):{'+' if signed else ''}.1f} ± {100 * half:.1f} ({len(values)} seeds)"

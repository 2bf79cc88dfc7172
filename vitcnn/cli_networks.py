"""Commands on trained networks."""

from typing import Annotated

import typer

from vitcnn.cli_common import RESULTS, RUNS, Overrides, Results, Runs, StudyFile, load
from vitcnn.cli_data import DataDir


def as_attention(
    study: StudyFile,
    overrides: Overrides = None,
    cell: Annotated[
        list[str] | None, typer.Option("--cell", help="A cell's title or id; else all whose weights were kept.")
    ] = None,
    data_dir: DataDir = None,
    results: Results = RESULTS,
    runs: Runs = RUNS,
) -> None:
    """Rewrites trained CNNs as self-attention, without training, and holds both against each other on the test set."""
    from vitcnn.base import ConfigError, near
    from vitcnn.records import write_atomically
    from vitcnn.report.tables import markdown

    loaded = load(study, overrides, results, runs, data_dir)
    places, known = loaded.places, {name: c for c in loaded.cells for name in (c.title, c.id)}
    for name in cell or ():
        if name not in known:
            raise ConfigError(f"--cell {name}: no such cell{near(name, known, all_of_them=False)}")
    kept = [c for c in loaded.cells if places.weights(c.id).exists() and c.model.model == "cnn"]
    chosen = [known[name] for name in cell] if cell else kept
    if not chosen:
        raise ConfigError(f"{places.run}: no CNN's weights were kept there; `vitcnn run --keep-weights` keeps them")
    from vitcnn.training.rewritten import as_attention as rewrite  # loads torch

    rows = []
    for one in chosen:
        found = rewrite(one, places, data_dir)
        row = [one.title, f"{found.convolutions}", f"{found.heads}", f"{found.single.images:,}"]
        rows.append(row + [f(a) for a in (found.single, found.double) for f in (_largest, _same)])
        typer.echo("  ".join(rows[-1]))
    head = ["cell", "convolutions", "heads", "test images"]
    head += [f"{what}, {dtype}" for dtype in ("float32", "float64") for what in ("largest difference", "same class")]
    path = places.report / "as-attention.md"
    text = (
        "# Convolutions rewritten as self-attention\n\nOne head a kernel offset (Cordonnier et al. 2020), no training."
    )
    write_atomically(path, f"{text}\n\n{markdown(head, rows)}")
    typer.echo(f"written to {path}")


def _largest(agreement: object) -> str:
    return f"{agreement.largest:.1e}"


def _same(agreement: object) -> str:
    return f"{agreement.same:,}"

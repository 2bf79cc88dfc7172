"""Commands on trained networks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitcnn.cli.common import RESULTS, RUNS, AllowImport, Overrides, Results, Runs, StudyFile, load
from vitcnn.cli.data import DataDir

if TYPE_CHECKING:
    from vitcnn.launch.open_study import OpenStudy
    from vitcnn.study.cell import Cell


def as_attention(
    study: StudyFile,
    overrides: Overrides = None,
    cell: Annotated[
        list[str] | None,
        typer.Option("--cell", help="A cell's title or id; default: all CNN cells whose weights were kept."),
    ] = None,
    allow_import: AllowImport = None,
    data_dir: DataDir = None,
    results: Results = RESULTS,
    runs: Runs = RUNS,
) -> None:
    """Rewrites CNNs of `run --keep-weights` as self-attention, without training, and compares both on the test set."""
    from vitcnn.errors import ConfigError
    from vitcnn.report.markdown import heading, join, paragraph, table
    from vitcnn.store.paths import write_atomically

    loaded = load(study, overrides, results, runs, data_dir, allow_import)
    paths = loaded.paths
    kept = [c for c in loaded.cells if paths.weights(c.id).exists() and c.arch.name == "cnn"]
    chosen = [_cell(loaded, name) for name in cell] if cell else kept
    if not chosen:
        raise ConfigError(f"{paths.run}: no weights of a CNN found; `vitcnn run --keep-weights` keeps them")
    from vitcnn.inspect.conv_as_attention import as_attention as rewrite  # loads torch

    rows = []
    for one in chosen:
        found = rewrite(one, paths, data_dir)
        row = [one.title, f"{found.convolutions}", f"{found.heads}", f"{found.single.images:,}"]
        rows.append(row + [text for a in (found.single, found.double) for text in (f"{a.largest:.1e}", f"{a.same:,}")])
        typer.echo("  ".join(rows[-1]))
    head = ["cell", "convolutions", "heads", "test images"]
    head += [f"{what}, {dtype}" for dtype in ("float32", "float64") for what in ("largest difference", "same class")]
    if cell:  # the file holds all cells, so a selection does not overwrite it
        return
    path = paths.report / "as-attention.md"
    title = heading(1, "Convolutions rewritten as self-attention")
    how = paragraph("One head a kernel offset (Cordonnier et al. 2020), no training.")
    write_atomically(path, join([title, how, table(head, rows)]))
    typer.echo(f"written to {path}")


def look(
    study: StudyFile,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="Image files or folders of images (default: a few test images), and changes to the study.",
            metavar="[IMAGE]… [KEY=VALUE]…",
        ),
    ] = None,
    cell: Annotated[
        list[str] | None,
        typer.Option("--cell", help="A cell's title or id, whose weights were kept; may be given several times."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="All cells of a model whose weights were kept: attention distance against n of all, pictures of one "
            "seed at the smallest and largest n. Without --cell and --model: of every model.",
        ),
    ] = None,
    allow_import: AllowImport = None,
    data_dir: DataDir = None,
    results: Results = RESULTS,
    runs: Runs = RUNS,
) -> None:
    """Draws what networks of `run --keep-weights` look at: attention over images, attention distance, effective
    receptive fields, position embeddings, filters. Replaces the pictures of an earlier call in results/<study>/look."""
    overrides, images = _sorted_out(words or [])
    loaded = load(study, overrides, results, runs, data_dir, allow_import)
    named = [_cell(loaded, name) for name in cell or []]
    from vitcnn.inspect.look import distances, look_at  # loads torch
    from vitcnn.inspect.trained import kept_cells
    from vitcnn.report.look_files import write_look

    more = [] if named and not model else kept_cells(loaded.cells, loaded.paths, model or [])
    ends = [one for group in more for one in (group[0], group[-1])]
    pictured = list({one.id: one for one in [*named, *ends]}.values())
    known = {one.id for one in pictured}
    looks = []
    for one in pictured:
        looks.append(look_at(one, loaded.paths, images, data_dir))
        for line in looks[-1].lacks or ["done"]:
            typer.echo(f"{one.title}: {line}")
    measured = [distances(one, loaded.paths, data_dir) for group in more for one in group if one.id not in known]
    typer.echo(f"written to {write_look(looks, measured, loaded.paths)}")


def predict(
    study: StudyFile,
    words: Annotated[
        list[str],
        typer.Argument(
            help="Image files or folders of images, and changes to the study.", metavar="IMAGE… [KEY=VALUE]…"
        ),
    ],
    cell: Annotated[
        str, typer.Option("--cell", help="A cell's title or id; its weights must be kept (--keep-weights).")
    ],
    top: Annotated[int, typer.Option(min=1, help="Classes shown for each image.")] = 3,
    allow_import: AllowImport = None,
    data_dir: DataDir = None,
    results: Results = RESULTS,
    runs: Runs = RUNS,
) -> None:
    """Classifies image files with a network of `run --keep-weights`: one line per image, the most probable classes
    first. The exit status is 1 if a file cannot be read."""
    overrides, images = _sorted_out(words)
    loaded = load(study, overrides, results, runs, data_dir, allow_import)
    one = _cell(loaded, cell)
    from vitcnn.inspect.predict import predict as classify  # loads torch

    unread = 0
    for file, classes, error in classify(one, loaded.paths, images, data_dir):
        unread += error is not None
        shown = ", ".join(f"{name} {chance:.1%}" for name, chance in classes[:top])
        typer.echo(f"{file}: {error or shown}", err=error is not None)
    raise typer.Exit(int(unread > 0))


def _sorted_out(words: list[str]) -> tuple[list[str], list[str]]:
    """(changes to the study, files)."""
    overrides = [word for word in words if "=" in word and not Path(word).exists()]
    return overrides, [word for word in words if word not in overrides]


def _cell(loaded: "OpenStudy", name: str) -> "Cell":
    from vitcnn.errors import ConfigError, suggest

    known = {key: cell for cell in loaded.cells for key in (cell.title, cell.id)}
    if name not in known:
        raise ConfigError(f"--cell {name}: no such cell{suggest(name, known, all_of_them=False)}")
    return known[name]

"""The command line: parse, call, print. Heavy imports happen inside the command that needs them."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="vitcnn",
    help="How much data does a Vision Transformer need before it beats a CNN? Runs studies and reads them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Data sets: what there is, and fetching it.", no_args_is_help=True)
app.add_typer(data_app, name="data")

StudyFile = Annotated[Path, typer.Argument(help="The study's YAML file.", metavar="STUDY.yaml")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes to the study: seeds=1 'sizes=[50,100]' recipe.lr=1e-3 …", metavar="[KEY=VALUE]…"),
]
Results = Annotated[Path, typer.Option("--results", help="Where records and reports are kept.")]
Runs = Annotated[Path, typer.Option("--runs", help="Where checkpoints and W&B files are kept.")]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="The data cache; else $VITCNN_DATA, else the platform's cache folder.")
]
RESULTS, RUNS = Path("results"), Path("runs")


def _study(path: Path, overrides: list[str] | None, results: Path, runs: Path):
    from vitcnn.matrix import cells
    from vitcnn.records import Places
    from vitcnn.study_file import load_study

    study = load_study(path, overrides or ())
    return study, cells(study), Places(study.name, results, runs)


@app.command()
def plan(
    study: StudyFile,
    overrides: Overrides = None,
    workers: Annotated[int, typer.Option(min=1, help="For the estimate of the time.")] = os.cpu_count() or 1,
    results: Results = RESULTS,
    runs: Runs = RUNS,
) -> None:
    """Shows the cells, what is done, what each entrant costs and how long it may take. Trains nothing."""
    from rich.console import Console

    from vitcnn.launch.plan import plan as render

    loaded, all_cells, places = _study(study, overrides, results, runs)
    Console().print(render(loaded, all_cells, places, workers))


@app.command()
def run(
    study: StudyFile,
    overrides: Overrides = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default one a core on the CPU, one on a GPU.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each worker.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
    wandb: Annotated[
        str, typer.Option(help="auto (online when logged in, else offline), online, offline or off.")
    ] = "auto",
    data_dir: DataDir = None,
    results: Results = RESULTS,
    runs: Runs = RUNS,
) -> None:
    """Trains the cells that have no record yet; goes on where an earlier run stopped."""
    from rich.console import Console
    from rich.live import Live

    from vitcnn.config import ConfigError
    from vitcnn.data.sources import fetch
    from vitcnn.launch.local import run_cells
    from vitcnn.launch.table import headline, table
    from vitcnn.launch.worker import Options
    from vitcnn.records import states

    if wandb not in ("auto", "online", "offline", "off"):
        raise ConfigError(f"--wandb {wandb}: one of auto, online, offline, off")
    loaded, all_cells, places = _study(study, overrides, results, runs)
    waiting = [state.cell for state in states(all_cells, places) if state.kind != "done"]
    console = Console(soft_wrap=True)
    if not waiting:
        console.print(f"{places.study}: all {len(all_cells)} cells are done")
        return
    from vitcnn.launch.plan import check  # loads torch: only now that the study is known to be one

    on_gpu = check(loaded, device)
    fetch(loaded.dataset, data_dir)
    workers = min(workers or (1 if on_gpu else os.cpu_count() or 1), len(waiting))
    console.print(f"{places.study}: {len(waiting)} of {len(all_cells)} cells to train in {workers} worker(s)")
    options = Options(device=device, threads=threads, data_folder=data_dir, tracking=wandb)
    with Live(console=console, auto_refresh=False) as live:
        shown = time.monotonic()

        def tick() -> None:
            nonlocal shown
            if console.is_terminal:
                live.update(table(states(all_cells, places), places, workers), refresh=True)
            elif time.monotonic() - shown > 30:
                console.print(headline(states(all_cells, places), places, workers))
                shown = time.monotonic()

        outcome = run_cells(waiting, places, options, workers, tick, console.print)
        live.update(table(states(all_cells, places), places), refresh=True)
    if outcome.interrupted:
        console.print("Interrupted. The same command goes on from here.")
        raise typer.Exit(130)
    if outcome.failed:
        raise typer.Exit(1)


@app.command()
def status(study: StudyFile, overrides: Overrides = None, results: Results = RESULTS, runs: Runs = RUNS) -> None:
    """Shows how far a study is, from its files alone, whether it is running or not."""
    from rich.console import Console

    from vitcnn.launch.table import table
    from vitcnn.records import states

    _, all_cells, places = _study(study, overrides, results, runs)
    Console().print(table(states(all_cells, places), places))


@app.command()
def select(study: StudyFile, overrides: Overrides = None, results: Results = RESULTS, runs: Runs = RUNS) -> None:
    """Picks each entrant's recipe from a finished search, on validation, and writes `recipes.yaml`."""
    from vitcnn.analysis.select import choose, write_recipes

    loaded, all_cells, places = _study(study, overrides, results, runs)
    path = write_recipes(choose(loaded, all_cells, places), places)
    typer.echo(path.read_text(encoding="utf-8") + f"\nwritten to {path}")


@app.command()
def report(study: StudyFile, overrides: Overrides = None, results: Results = RESULTS, runs: Runs = RUNS) -> None:
    """Writes `results/<study>/report.md` and its figures from the records."""
    from vitcnn.report.report import write_report

    loaded, all_cells, places = _study(study, overrides, results, runs)
    path = write_report(loaded, all_cells, places)
    typer.echo(f"written to {path}")


@app.command()
def curves(study: StudyFile, overrides: Overrides = None, results: Results = RESULTS, runs: Runs = RUNS) -> None:
    """Opens W&B's own terminal viewer on the study's offline runs."""
    from vitcnn.config import ConfigError

    _, _, places = _study(study, overrides, results, runs)
    folder = places.run / "wandb"
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no W&B runs there; `vitcnn run` writes them unless --wandb off")
    os.execvp(sys.executable, [sys.executable, "-m", "wandb", "leet", str(folder)])


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="For instance fashion-mnist.")], data_dir: DataDir = None
) -> None:
    """Puts a data set into the cache folder, once."""
    from vitcnn.data.sources import fetch, is_fetched

    there = is_fetched(name, data_dir)
    path = fetch(name, data_dir)
    if there:
        typer.echo(f"{name} is already in {path}")


@data_app.command("list")
def data_list(data_dir: DataDir = None) -> None:
    """Lists the data sets, their size and licence, and which are fetched."""
    from rich.console import Console
    from rich.table import Column, Table

    from vitcnn.data.sources import SOURCES, cache_folder, is_fetched

    out = Table(Column("name", no_wrap=True), "train + test", "pixels", "classes", "licence", "fetched", "source")
    for s in SOURCES.values():
        fetched = "yes" if is_fetched(s.name, data_dir) else "no"
        pixels = f"{s.size}×{s.size}×{s.channels}"
        out.add_row(s.name, f"{s.train:,} + {s.test:,}", pixels, str(s.classes), s.licence, fetched, s.source)
    console = Console()
    console.print(out)
    console.print(f"cache: {cache_folder(data_dir)}")


def main() -> None:
    """Mistakes that a person can mend are one message and exit status 2, not a stack trace."""
    from vitcnn.config import ConfigError
    from vitcnn.data.sources import FetchError

    try:
        app()
    except (ConfigError, FetchError) as error:
        typer.secho(f"vitcnn: {error}", fg="red", err=True)
        raise SystemExit(2) from None

"""The command line: parse, call, print. Heavy imports happen inside the command that needs them."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from vitcnn.cli_data import DataDir, data_app

if TYPE_CHECKING:
    from vitcnn.config import Study
    from vitcnn.data.cache import Info
    from vitcnn.matrix import Cell
    from vitcnn.records import Places

app = typer.Typer(
    name="vitcnn",
    help="How much data does a Vision Transformer need before it beats a CNN? Runs studies and reads them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

StudyFile = Annotated[Path, typer.Argument(help="The study's YAML file.", metavar="STUDY.yaml")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes to the study: seeds=1 'sizes=[50,100]' recipe.lr=1e-3 …", metavar="[KEY=VALUE]…"),
]
Results = Annotated[Path, typer.Option("--results", help="Where records and reports are kept.")]
Runs = Annotated[Path, typer.Option("--runs", help="Where checkpoints and W&B files are kept.")]
app.add_typer(data_app, name="data")
RESULTS, RUNS = Path("results"), Path("runs")


class Loaded(NamedTuple):
    """A study read from its file, what is known of its data, its cells, and where its files are."""

    study: "Study"
    about: "Info"
    cells: "list[Cell]"
    places: "Places"


def _load(
    path: Path, overrides: list[str] | None, results: Path, runs: Path, data_dir: Path | None = None, get: bool = False
) -> Loaded:
    """`get`: look at the images of a data set that is known only from these (and fetch it, for that)."""
    from vitcnn.data.fetch import about_data, fetch
    from vitcnn.data.sources import BUILT_IN
    from vitcnn.matrix import cells
    from vitcnn.records import Places, write_atomically
    from vitcnn.study_file import load_study

    study = load_study(path, overrides or ())
    places = Places(study.name, results, runs)
    if get and study.dataset not in BUILT_IN:
        fetch(study.dataset, data_dir, study.resolution)
        about = about_data(study.dataset, data_dir, study.resolution)
        write_atomically(places.dataset, about.model_dump_json() + "\n")  # reports need no images
    else:
        about = about_data(study.dataset, data_dir, study.resolution, beside=places.dataset)
    return Loaded(study, about, cells(study, about), places)


@app.command()
def plan(
    study: StudyFile,
    overrides: Overrides = None,
    workers: Annotated[int, typer.Option(min=1, help="For the estimate of the time.")] = os.cpu_count() or 1,
    data_dir: DataDir = None,
    results: Results = RESULTS,
    runs: Runs = RUNS,
) -> None:
    """Shows the cells, what is done, what each entrant costs and how long it may take. Trains nothing."""
    from rich.console import Console

    from vitcnn.analysis.power import detectable_gaps
    from vitcnn.analysis.results import Results
    from vitcnn.launch.plan import plan as render
    from vitcnn.records import read_records

    loaded, about, all_cells, places = _load(study, overrides, results, runs, data_dir)
    console = Console()
    console.print(render(loaded, about, all_cells, places, workers))
    if {*loaded.pair} <= {entrant.name for entrant in loaded.entrants}:
        finished = Results.of(loaded, all_cells, read_records(places.records)[0])
        console.print(detectable_gaps(finished), soft_wrap=True, highlight=False)


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

    from vitcnn.base import ConfigError
    from vitcnn.data.fetch import fetch
    from vitcnn.launch.local import run_cells
    from vitcnn.launch.table import headline, table
    from vitcnn.launch.worker import Options
    from vitcnn.records import states

    if wandb not in ("auto", "online", "offline", "off"):
        raise ConfigError(f"--wandb {wandb}: one of auto, online, offline, off")
    loaded, about, all_cells, places = _load(study, overrides, results, runs, data_dir, get=True)
    waiting = [state.cell for state in states(all_cells, places) if state.kind != "done"]
    console = Console(soft_wrap=True)
    if not waiting:
        console.print(f"{places.study}: all {len(all_cells)} cells are done")
        return
    from vitcnn.launch.plan import check  # loads torch: only now that the study is known to be one

    on_gpu = check(loaded, about, device)
    fetch(loaded.dataset, data_dir, loaded.resolution)
    workers = min(workers or (1 if on_gpu else os.cpu_count() or 1), len(waiting))
    console.print(f"{places.study}: {len(waiting)} of {len(all_cells)} cells to train in {workers} worker(s)")
    options = Options(device=device, threads=threads, data_folder=data_dir, tracking=wandb, workers=workers)
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

    _, _, all_cells, places = _load(study, overrides, results, runs)
    Console().print(table(states(all_cells, places), places))


@app.command()
def select(study: StudyFile, overrides: Overrides = None, results: Results = RESULTS, runs: Runs = RUNS) -> None:
    """Picks each entrant's recipe from a finished search, on validation, and writes `recipes.yaml`."""
    from vitcnn.analysis.select import choose, write_recipes

    loaded, _, all_cells, places = _load(study, overrides, results, runs)
    path = write_recipes(choose(loaded, all_cells, places), places)
    typer.echo(path.read_text(encoding="utf-8") + f"\nwritten to {path}")


@app.command()
def report(study: StudyFile, overrides: Overrides = None, results: Results = RESULTS, runs: Runs = RUNS) -> None:
    """Writes `results/<study>/report.md` and its figures from the records."""
    from vitcnn.report.report import write_report

    loaded, about, all_cells, places = _load(study, overrides, results, runs)
    path = write_report(loaded, all_cells, places, about)
    typer.echo(f"written to {path}")


@app.command()
def export(
    study: StudyFile,
    csv: Annotated[Path, typer.Option("--csv", help="The file to write; - for the terminal.")],
    overrides: Overrides = None,
    results: Results = RESULTS,
    runs: Runs = RUNS,
) -> None:
    """Writes a study's finished cells as a table, one row a cell."""
    from vitcnn.analysis.tidy import tidy
    from vitcnn.base import ConfigError
    from vitcnn.records import read_records

    _, _, all_cells, places = _load(study, overrides, results, runs)
    records, wrong = read_records(places.records)
    wanted = {cell.id for cell in all_cells}
    mine = [record for record in records if record.id in wanted]
    if not mine:
        raise ConfigError("\n".join([f"{places.study}: no cell is finished, there is nothing to export", *wrong]))
    tidy(mine).to_csv(sys.stdout if str(csv) == "-" else csv, index=False)
    for line in [f"{len(mine)} of {len(all_cells)} cells", *wrong]:
        typer.echo(line, err=True)


@app.command()
def curves(study: StudyFile, overrides: Overrides = None, results: Results = RESULTS, runs: Runs = RUNS) -> None:
    """Opens W&B's own terminal viewer on the study's offline runs."""
    from vitcnn.base import ConfigError

    places = _load(study, overrides, results, runs).places
    folder = places.run / "wandb"
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no W&B runs there; `vitcnn run` writes them unless --wandb off")
    os.execvp(sys.executable, [sys.executable, "-m", "wandb", "leet", str(folder)])


def main() -> None:
    """Mistakes that a person can mend are one message and exit status 2, not a stack trace."""
    from vitcnn.base import ConfigError
    from vitcnn.data.cache import FetchError

    try:
        app()
    except (ConfigError, FetchError) as error:
        typer.secho(f"vitcnn: {error}", fg="red", err=True)
        raise SystemExit(2) from None

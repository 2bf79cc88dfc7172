"""The command line: parse, call, print. Heavy imports happen inside the command that needs them."""

import gc
import os
import sys
from typing import Annotated

import typer

from vitcnn.cli.common import RESULTS, RUNS, AllowImport, Overrides, Results, Runs, StudyFile, load
from vitcnn.cli.cost import cost
from vitcnn.cli.data import DataDir, data_app
from vitcnn.cli.inspect import as_attention, look, predict
from vitcnn.cli.results import export, report, select, verdict
from vitcnn.cli.run import run
from vitcnn.system import output
from vitcnn.system.machine import cores

app = typer.Typer(
    name="vitcnn",
    help="How much data does a Vision Transformer need before it beats a CNN? Runs studies and reads them. A cell is "
    "one training: one model, n (number of training images) and seed. A record is the file with its result.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(data_app, name="data")


@app.command()
def plan(
    study: StudyFile,
    overrides: Overrides = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes for the time estimate; default: one per core.")
    ] = None,
    cluster: Annotated[
        int | None,
        typer.Option(min=1, help="Workers of a cluster: time, idle share and storage there, also of 10³ to 10⁶ cells."),
    ] = None,
    allow_import: AllowImport = None,
    data_dir: DataDir = None,
    results: Results = RESULTS,
    runs: Runs = RUNS,
) -> None:
    """Shows the cells and their state, parameters and multiplications (MACs) of each model, and the time. Trains
    nothing."""
    from rich.console import Console

    from vitcnn.analysis.results import Results
    from vitcnn.data.sources.fetch import train_labels
    from vitcnn.errors import ConfigError
    from vitcnn.launch.plan import check_same_tokens
    from vitcnn.launch.plan import plan as render
    from vitcnn.launch.ready import with_sources
    from vitcnn.report.power import power_text
    from vitcnn.store.records import read_records
    from vitcnn.store.status import states, to_train

    loaded, about, all_cells, paths, before = load(study, overrides, results, runs, data_dir, allow_import)
    check_same_tokens(loaded, about, before)
    console, where = Console(), states(all_cells, paths)
    labels = train_labels(loaded.dataset_spec, data_dir)
    console.print(render(loaded, about, where, paths, workers or cores(), labels, cluster))
    if {*loaded.pair} <= {model.name for model in loaded.models}:
        finished = Results.of(loaded, all_cells, read_records(paths.records)[0]).first_setting
        console.print(power_text(finished), soft_wrap=True, highlight=False, markup=False)
    try:
        with_sources(to_train(where), paths)
    except ConfigError as error:
        console.print(f"`vitcnn run` cannot start yet: {error}", soft_wrap=True, highlight=False, markup=False)


@app.command()
def status(
    study: StudyFile,
    overrides: Overrides = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it until no cell is left, or until Ctrl-C.")] = False,
    results: Results = RESULTS,
    runs: Runs = RUNS,
) -> None:
    """Shows the progress of a study, running or not, from its files."""
    from rich.console import Console

    from vitcnn.launch.table import table
    from vitcnn.launch.watch import show
    from vitcnn.store.status import states

    opened = load(study, overrides, results, runs)
    if watch:
        show(opened, Console())
    else:
        Console().print(table(states(opened.cells, opened.paths), opened.paths))


@app.command()
def curves(study: StudyFile, overrides: Overrides = None, results: Results = RESULTS, runs: Runs = RUNS) -> None:
    """Opens W&B's terminal viewer on the study's offline runs."""
    from vitcnn.errors import ConfigError

    paths = load(study, overrides, results, runs).paths
    folder = paths.run / "wandb"
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no W&B runs found; `vitcnn run` writes them unless --wandb off")
    os.execvp(sys.executable, [sys.executable, "-m", "wandb", "leet", str(folder)])


for command in (run, select, report, verdict, export, cost, predict, look, as_attention):
    app.command()(command)


def main() -> None:
    """Runs a command. User errors become one message and exit status 2, without a stack trace."""
    output.protect()
    os.environ["MPLBACKEND"] = "agg"  # figures need none, and a notebook's is not always installed here
    gc.set_threshold(100_000)  # Python's default of 700 slows down reading thousands of records
    try:
        status = _command()
    except SystemExit as end:
        status = end.code
    unwritten = output.failure()
    if unwritten:
        typer.secho(f"vitcnn: standard output: {unwritten}", fg="red", err=True)
    raise SystemExit(status or int(unwritten is not None))


def _command() -> int:
    """The exit status."""
    from vitcnn.data.sources.cache import FetchError
    from vitcnn.errors import ConfigError, seconds_of

    os.environ.setdefault("PYTHONSAFEPATH", "1")  # no Python process that this starts runs a file of the current folder
    try:
        seconds_of("SOURCE_DATE_EPOCH")  # NumPy stops with a stack trace where it is no number
        app()
    except (ConfigError, FetchError) as error:
        message = str(error)
    except OSError as error:  # a file that cannot be read or written
        if error.filename is None:
            raise
        message = f"{error.filename}: {error.strerror}"
    else:
        return 0
    typer.secho(f"vitcnn: {message}", fg="red", err=True)
    return 2

"""The command line: parse, call, print. Heavy imports happen inside the command that needs them."""

import gc
import os
import signal
import sys
from typing import Annotated

import typer

from vitcnn.cli.common import RESULTS, RUNS, AllowImport, Overrides, Results, Runs, StudyFile, load
from vitcnn.cli.cost import cost
from vitcnn.cli.data import DataDir, data_app
from vitcnn.cli.inspect import as_attention, look, predict
from vitcnn.cli.results import export, report, select, verdict
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
LAUNCHERS = ("local", "ray", "slurm")


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
def run(
    study: StudyFile,
    overrides: Overrides = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; default: one per core on the CPU, one on a GPU.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each worker.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
    lanes: Annotated[
        str, typer.Option(help="Cells trained in parallel in one process: auto (16 on a GPU, else 1) or a number.")
    ] = "auto",
    logger: Annotated[str, typer.Option(help="Where training curves go: wandb or tensorboard.")] = "wandb",
    wandb: Annotated[
        str, typer.Option(help="W&B: auto (online when logged in, else offline), online, offline or off.")
    ] = "auto",
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Stop after this many minutes and save checkpoints; the same command continues. With --launcher "
            "slurm: the time limit of a job, which then requeues itself.",
        ),
    ] = None,
    keep_weights: Annotated[
        bool,
        typer.Option(
            "--keep-weights",
            help="Keep the final weights of the cells trained by this command, in runs/<study>/weights.",
        ),
    ] = False,
    launcher: Annotated[
        str, typer.Option(help="Where workers run: local, ray or slurm (see configs/howto/engines.md).")
    ] = "local",
    address: Annotated[
        str | None, typer.Option(help="Ray: HOST:PORT; default: $RAY_ADDRESS, or the cluster of this machine.")
    ] = None,
    gpus_per_cell: Annotated[
        float | None, typer.Option(min=0, help="Ray: GPUs of each worker, such as 0.25; default: 1, or 0 without GPUs.")
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Slurm: jobs that share the cells; each runs on one node.")] = 1,
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Slurm: a parameter of submitit's SlurmExecutor, such as partition=gpu or gpus_per_node=1; may be "
            "given several times.",
        ),
    ] = None,
    allow_import: AllowImport = None,
    data_dir: DataDir = None,
    results: Results = RESULTS,
    runs: Runs = RUNS,
) -> None:
    """Trains the cells that have no record yet; continues an earlier run."""
    from vitcnn.errors import ConfigError, suggest

    if launcher not in LAUNCHERS:
        raise ConfigError(f"--launcher {launcher!r}: not known{suggest(launcher, LAUNCHERS)}")
    if launcher != "slurm" and (slurm or nodes > 1):
        raise ConfigError(f"--{'slurm' if slurm else 'nodes'} needs --launcher slurm")
    how = {
        "results": results,
        "runs": runs,
        "data_folder": data_dir,
        "device": device,
        "workers": workers,
        "threads": threads,
        "lanes": lanes,
        "logger": logger,
        "wandb": wandb,
        "minutes": minutes,
        "keep_weights": keep_weights,
        "allow_import": allow_import or (),
    }
    if launcher == "slurm" and (address or gpus_per_cell is not None):
        raise ConfigError(f"--{'address' if address else 'gpus-per-cell'} needs --launcher ray")
    if launcher == "slurm":
        from vitcnn.launch.slurm import submit_study

        submit_study(study, overrides or (), **how, nodes=nodes, slurm=slurm or ())
        return
    from vitcnn.launch.run_study import run_study

    outcome = run_study(study, overrides or (), **how, launcher=launcher, address=address, gpus_per_cell=gpus_per_cell)
    if outcome.interrupted:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program is about to end: ignore further Ctrl-C
        raise typer.Exit(130)
    if outcome.failed:
        raise typer.Exit(1)


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


for command in (select, report, verdict, export, cost, predict, look, as_attention):
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

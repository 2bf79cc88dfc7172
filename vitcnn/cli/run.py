"""`vitcnn run`: here, on a Ray cluster, or as jobs of Slurm."""

import signal
from typing import Annotated

import typer

from vitcnn.cli.common import RESULTS, RUNS, AllowImport, Overrides, Results, Runs, StudyFile
from vitcnn.cli.data import DataDir

LAUNCHERS = ("local", "ray", "slurm")
Workers = Annotated[
    int | None, typer.Option(min=1, help="Worker processes; default: one per core on the CPU, one on a GPU.")
]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads of each worker.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")]
Lanes = Annotated[
    str, typer.Option(help="Cells trained in parallel in one process: auto (16 on a GPU, else 1) or a number.")
]
Logger = Annotated[str, typer.Option(help="Where training curves go: wandb or tensorboard.")]
Wandb = Annotated[str, typer.Option(help="W&B: auto (online when logged in, else offline), online, offline or off.")]
Minutes = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Stop after this many minutes and save checkpoints; the same command continues. With --launcher slurm: "
        "the time limit of a job, which then requeues itself.",
    ),
]
KeepWeights = Annotated[
    bool,
    typer.Option(
        "--keep-weights", help="Keep the final weights of the cells trained by this command, in runs/<study>/weights."
    ),
]
Launcher = Annotated[str, typer.Option(help="Where workers run: local, ray or slurm (see configs/howto/engines.md).")]
Address = Annotated[
    str | None, typer.Option(help="Ray: HOST:PORT; default: $RAY_ADDRESS, or the cluster of this machine.")
]
GpusPerCell = Annotated[
    float | None, typer.Option(min=0, help="Ray: GPUs of each worker, such as 0.25; default: 1, or 0 without GPUs.")
]
Nodes = Annotated[int, typer.Option(min=1, help="Slurm: jobs that share the cells; each runs on one node.")]
Slurm = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Slurm: a parameter of submitit's SlurmExecutor, such as partition=gpu or gpus_per_node=1; may be given "
        "several times.",
    ),
]


def run(
    study: StudyFile,
    overrides: Overrides = None,
    workers: Workers = None,
    threads: Threads = 1,
    device: Device = "auto",
    lanes: Lanes = "auto",
    logger: Logger = "wandb",
    wandb: Wandb = "auto",
    minutes: Minutes = None,
    keep_weights: KeepWeights = False,
    launcher: Launcher = "local",
    address: Address = None,
    gpus_per_cell: GpusPerCell = None,
    nodes: Nodes = 1,
    slurm: Slurm = None,
    allow_import: AllowImport = None,
    data_dir: DataDir = None,
    results: Results = RESULTS,
    runs: Runs = RUNS,
) -> None:
    """Trains the cells that have no record yet; continues an earlier run."""
    _check(launcher, nodes, slurm, address, gpus_per_cell)
    how = {"results": results, "runs": runs, "data_folder": data_dir, "allow_import": allow_import or ()}
    how |= {"device": device, "workers": workers, "threads": threads, "lanes": lanes, "keep_weights": keep_weights}
    how |= {"logger": logger, "wandb": wandb, "minutes": minutes}
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


def _check(launcher: str, nodes: int, slurm: list[str] | None, address: str | None, gpus: float | None) -> None:
    """Raises ConfigError for options of another launcher."""
    from vitcnn.errors import ConfigError, suggest

    if launcher not in LAUNCHERS:
        raise ConfigError(f"--launcher {launcher!r}: not known{suggest(launcher, LAUNCHERS)}")
    if launcher != "slurm" and (slurm or nodes > 1):
        raise ConfigError(f"--{'slurm' if slurm else 'nodes'} needs --launcher slurm")
    if launcher == "slurm" and (address or gpus is not None):
        raise ConfigError(f"--{'address' if address else 'gpus-per-cell'} needs --launcher ray")

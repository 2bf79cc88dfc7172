"""Runs a study, from Python or from the command line."""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from vitcnn.data.sources.cache import describe_reading
from vitcnn.data.sources.fetch import fetch, verify
from vitcnn.errors import ConfigError
from vitcnn.launch.check import check
from vitcnn.launch.engines import Engine, check_launcher, engine_of
from vitcnn.launch.jobs import make_jobs
from vitcnn.launch.open_study import OpenStudy, fetch_and_open
from vitcnn.launch.ready import with_sources
from vitcnn.launch.scheduler import Outcome, run_jobs
from vitcnn.launch.watch import Progress
from vitcnn.launch.worker import Options
from vitcnn.store.status import check_writable, quarantine, states, to_train
from vitcnn.study.cell import Cell
from vitcnn.system.wandb import MODES

LOGGERS = ("wandb", "tensorboard")


def run_study(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    results: str | Path = "results",
    runs: str | Path = "runs",
    data_folder: str | Path | None = None,
    device: str = "auto",
    workers: int | None = None,
    threads: int = 1,
    lanes: str | int = "auto",
    logger: str = "wandb",
    wandb: str = "auto",
    minutes: float | None = None,
    keep_weights: bool = False,
    allow_import: Sequence[str] = (),
    launcher: str = "local",
    address: str | None = None,
    gpus_per_cell: float | None = None,
    wait_for_others: bool = True,
    console: Console | None = None,
) -> Outcome:
    """Trains the cells of a study (a YAML file; `overrides` such as "seeds=1") that have no record yet;
    continues an earlier run. Returns the outcome of each; records are in `results`/<study>.

    `device`: auto, cpu, cuda, cuda:1 …; `workers`: processes (None: one a core on a CPU, else one), each with `threads`
    CPU threads and `lanes` cells in parallel (auto: 16 on a GPU, else 1); `logger`: wandb or tensorboard; `wandb`:
    auto (online when logged in, else offline), online, offline or off; `minutes`: stop after this time, with
    checkpoints; `allow_import`: modules that `import:` may run though they lie neither beside the study nor in the
    current folder; `launcher`: local, or ray with the `address` of a cluster (None: $RAY_ADDRESS, or the one of this
    machine) and `gpus_per_cell`, each worker's share (None: 1 where there are GPUs); `workers` are then those of all
    nodes (None: as many as fit); `wait_for_others`: stay while other runs of this study train all that is left, to take
    over cells of those that die. A script that calls this needs `if __name__ == "__main__":`, as any that starts
    processes. Raises ConfigError for user errors and FetchError if a data set cannot be fetched.
    """
    check_launcher(launcher, address, gpus_per_cell, device)
    console = console or Console(soft_wrap=True)
    ready = prepare(
        path,
        overrides,
        console,
        results=results,
        runs=runs,
        data_folder=data_folder,
        device="cpu" if launcher == "ray" else device,  # the machine that starts the run may have no GPU
        lanes=lanes,
        logger=logger,
        wandb=wandb,
        allow_import=allow_import,
    )
    if not ready.waiting:
        return Outcome()
    devices = ready.opened.study.trainer.devices
    options = Options(
        device=device,
        threads=threads,
        data_folder=Path(data_folder) if data_folder else None,
        devices=devices,
        tracking=logger if logger == "tensorboard" else wandb,
        keep_weights=keep_weights,
    )
    if devices > 1 and launcher == "ray":
        raise ConfigError(f"trainer.devices: {devices}: not with --launcher ray")
    with engine_of(launcher, address, gpus_per_cell, device, workers, devices) as engine:
        outcome = _train(ready, engine, "1" if devices > 1 else str(lanes), options, minutes, wait_for_others)
    if outcome.interrupted:
        ready.log("Interrupted. Run the same command to continue.")
    return outcome


def _train(
    ready: "Prepared", engine: Engine, lanes: str, options: Options, minutes: float | None, wait_for_others: bool
) -> Outcome:
    kind = engine.kind(ready.device)
    jobs = make_jobs(ready.waiting, lanes, kind)
    workers = engine.most(kind, len(jobs))
    options, pool = replace(options, workers=workers), engine.pool(ready.opened, ready.log)
    with Progress(ready.opened, workers if engine.known else None, minutes, ready.console) as progress:
        return run_jobs(
            jobs, ready.opened.paths, options, workers, progress.tick, ready.log, pool, wait_for_others=wait_for_others
        )


class Prepared(NamedTuple):
    """A study that can be trained; `waiting`: the cells to train; `device`: its type, empty if no cell is waiting."""

    opened: OpenStudy
    waiting: list[Cell]
    device: str
    log: Callable[[str], None]
    console: Console


def prepare(
    path: str | Path,
    overrides: Sequence[str],
    console: Console,
    *,
    results: str | Path = "results",
    runs: str | Path = "runs",
    data_folder: str | Path | None = None,
    device: str = "auto",
    lanes: str | int = "auto",
    logger: str = "wandb",
    wandb: str = "auto",
    allow_import: Sequence[str] = (),
) -> Prepared:
    """All that `run_study` does before it trains: checks its arguments, models and data, and fetches what is missing.
    Raises as it does."""
    if wandb not in MODES:
        raise ConfigError(f"wandb {wandb!r}: not valid; use one of {', '.join(MODES)}")
    if logger not in LOGGERS:
        raise ConfigError(f"logger {logger!r}: not valid; use one of {', '.join(LOGGERS)}")
    if logger == "tensorboard" and importlib.util.find_spec("tensorboard") is None:
        raise ConfigError("logger tensorboard: not installed; `pip install 'vitcnn[tensorboard]'` installs it")
    if str(lanes) != "auto" and not (str(lanes).isdecimal() and int(lanes)):
        raise ConfigError(f"lanes {lanes!r}: not valid; use auto or a number of cells")
    folder = Path(data_folder) if data_folder else None
    places = {"results": Path(results), "runs": Path(runs), "data_folder": folder}
    opened = fetch_and_open(Path(path), overrides, **places, allow_import=allow_import)
    if opened.study.trainer.devices > 1 and str(lanes) not in ("auto", "1"):
        raise ConfigError(f"lanes {lanes}: a network that several devices train (`trainer.devices`) is trained alone")
    check_writable(opened.paths)
    waiting = _waiting(opened, console)

    def log(line: str) -> None:
        console.print(line, markup=False)  # names may look like markup

    if not waiting:
        return Prepared(opened, [], "", log, console)
    kind = _checked(opened, waiting, device, folder, log)
    log(f"{opened.paths.study}: {len(waiting)} of {len(opened.cells)} cells to train")
    return Prepared(opened, waiting, kind, log, console)


def _checked(
    opened: OpenStudy, waiting: Sequence[Cell], device: str, folder: Path | None, log: Callable[[str], None]
) -> str:
    """Checks models and data, and fetches what is missing, before anything is trained. Returns the device's type."""
    checked = check(opened.study, opened.about, waiting, device)
    fetch(opened.study.dataset_spec, folder)
    verify(opened.study.dataset_spec, folder)
    for line in [*checked.messages, *(f"{opened.about.name}: {line}" for line in describe_reading(opened.about))]:
        log(line)
    return checked.device


def _waiting(opened: OpenStudy, console: Console) -> list[Cell]:
    """The cells to train; prints which cells are left out and why."""
    paths = opened.paths
    for line in quarantine(paths):
        console.print(line, markup=False)
    found = states(opened.cells, paths)
    if opened.before:
        from vitcnn.launch.plan import check_same_tokens

        # before asking the user to train the other study
        check_same_tokens(opened.study, opened.about, opened.before)
    waiting, lost = with_sources(to_train(found), paths)
    if failed := sum(state.detail.get("final", False) for state in found):
        console.print(
            f"{failed} cells failed for good because the loss is not finite; to try them again, delete {paths.failures}"
        )
    if lost:
        console.print(f"left out because their source cell failed: {', '.join(c.title for c in lost)}", markup=False)
    if waiting:
        for line in _under_other_names(opened, waiting):
            console.print(line, markup=False)
    else:
        done = "done, or failed for good" if failed or lost else "done"
        console.print(f"{paths.study}: all {len(opened.cells)} cells are {done}")
    return waiting


def _under_other_names(opened: OpenStudy, waiting: Sequence[Cell]) -> list[str]:
    """Messages about records of these cells in other folders: the study file was renamed, or another study has the
    same cells."""
    ids, own, out = {cell.id for cell in waiting}, opened.paths.records, []
    for folder in sorted(opened.paths.results.glob("**/records")):
        there = ids & {path.stem for path in folder.glob("*.json")} if folder != own else ()
        if there:
            out.append(
                f"{len(there)} of the cells to train have records in {folder}; to use them, stop and copy them to {own}"
            )
    return out

"""Where the workers of a run are: processes of this machine, or a Ray cluster."""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from vitcnn.errors import ConfigError, suggest
from vitcnn.launch.local import LocalPool
from vitcnn.launch.open_study import OpenStudy
from vitcnn.launch.pool import StartPool
from vitcnn.system.machine import cores

if TYPE_CHECKING:
    from vitcnn.launch.ray_cluster import Cluster

LAUNCHERS = ("local", "ray")


class Engine(NamedTuple):
    """`kind`: the type of device that cells are trained on, from what the check of this machine found; `most`: workers,
    from that type and the number of jobs; `known`: whether all those will be there."""

    kind: Callable[[str], str]
    most: Callable[[str, int], int]
    known: bool
    pool: Callable[[OpenStudy, Callable[[str], None]], StartPool]


def check_launcher(launcher: str, address: str | None, gpus: float | None, device: str) -> None:
    """Raises ConfigError for options that are not valid, or not together. `gpus`: per cell."""
    if launcher == "slurm":
        raise ConfigError("launcher slurm: in Python call vitcnn.submit_study, which submits jobs and returns")
    if launcher not in LAUNCHERS:
        raise ConfigError(f"launcher {launcher!r}: not valid{suggest(launcher, LAUNCHERS)}")
    for option, given in (("address", address), ("gpus-per-cell", gpus)):
        if given is not None and launcher != "ray":
            raise ConfigError(f"--{option} needs --launcher ray")
    if launcher != "ray":
        return
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("launcher ray: not installed; `pip install 'vitcnn[ray]'` installs it, on every node")
    if (address or "").startswith("ray://"):
        raise ConfigError(f"address {address}: Ray Client is not supported; run this on a node of the cluster")
    if gpus is not None and not (0 <= gpus <= 1 or gpus % 1 == 0):
        raise ConfigError(f"gpus-per-cell {gpus:g}: not valid; use 0, a fraction such as 0.25, or a whole number")
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device {device!r}: with Ray use auto, cpu or cuda; Ray chooses which GPU")
    if gpus is not None and device == ("cpu" if gpus else "cuda"):
        raise ConfigError(f"--device {device} and --gpus-per-cell {gpus:g} contradict each other")


@contextlib.contextmanager
def engine_of(
    launcher: str, address: str | None, gpus: float | None, device: str, workers: int | None, devices: int
) -> Iterator[Engine]:
    """`devices`: that each network is trained on. Raises ConfigError if there is no such cluster."""
    if launcher == "local":
        yield Engine(
            kind=lambda found: found,
            most=lambda kind, jobs: min(workers or (max(1, cores() // devices) if kind == "cpu" else 1), jobs),
            known=True,
            pool=lambda opened, log: LocalPool,
        )
        return
    from vitcnn.launch.ray_cluster import connected

    with connected(address, gpus, device) as cluster:
        yield _on_ray(cluster, workers)


def _on_ray(cluster: "Cluster", workers: int | None) -> Engine:
    from vitcnn.launch.ray import RayPool

    return Engine(
        kind=lambda _: cluster.device,
        most=lambda _, jobs: min(workers or jobs, jobs),
        known=False,
        pool=lambda opened, log: partial(RayPool, cluster, opened, workers is not None, log),
    )

"""A connection to a Ray cluster: its nodes, and what travels to them. This module imports Ray."""

import contextlib
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping

import ray
from ray.exceptions import RayError

from vitcnn.errors import ConfigError
from vitcnn.launch.open_study import OpenStudy
from vitcnn.models.registry import Imported
from vitcnn.source_hash import root_of

TRAVEL = ("VITCNN_", "WANDB_", "HF_")  # environment variables that reach the nodes
ANSWERS = 10.0  # seconds


@contextlib.contextmanager
def connected(address: str | None, gpus: float | None, device: str) -> Iterator["Cluster"]:
    """A cluster; without an address the one of $RAY_ADDRESS, or the one started on this machine. Raises ConfigError."""
    if own := not ray.is_initialized():
        address = address or os.environ.get("RAY_ADDRESS")
        if address and address != "auto":
            _check_answers(address)
        before = signal.getsignal(signal.SIGTERM)  # Ray sets its own
        try:
            with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):  # Ray lets workers import from here
                ray.init(address or "auto", logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError, RayError) as error:
            where = f"address {address}" if address else "no Ray cluster on this machine"
            hint = "`ray start --head` starts one, --address HOST:PORT names one"
            raise ConfigError(f"{where}: {str(error).splitlines()[0]} ({hint})") from None
        finally:
            signal.signal(signal.SIGTERM, before)
    try:
        yield Cluster(gpus, device)
    finally:
        if own:
            ray.shutdown()


def _check_answers(address: str) -> None:
    """Raises ConfigError if nothing listens there; Ray itself would try for ten minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS).close()
    except ValueError:
        raise ConfigError(f"address {address!r}: not valid; write HOST:PORT, as `ray start --head` shows it") from None
    except OSError as error:
        raise ConfigError(f"address {address}: no Ray cluster answers ({error.strerror or error})") from None


class Cluster:
    """`gpus`: of each worker; None: one where the cluster has GPUs, unless the device is the CPU."""

    def __init__(self, gpus: float | None, device: str):
        if gpus is None:
            gpus = float(device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0)
        self.gpus = gpus
        self.device = "cuda" if gpus else "cpu"
        if device not in ("auto", self.device):
            raise ConfigError(f"--device {device}: this Ray cluster has no GPUs; use auto or cpu")

    def rooms(self, threads: int) -> dict[str, int]:
        """How many workers each node that is alive has room for, by its id."""
        return {node["NodeID"]: self._room(node["Resources"], threads) for node in ray.nodes() if node["Alive"]}

    def _room(self, resources: Mapping[str, float], threads: int) -> int:
        by_cpu, gpus = int(resources.get("CPU", 0) // threads), resources.get("GPU", 0)
        if not self.gpus:
            return by_cpu
        return min(by_cpu, int(gpus) * int(1 / self.gpus) if self.gpus < 1 else int(gpus // self.gpus))

    def sharing(self, threads: int) -> dict[str, int]:
        """How many workers share one's memory, on each node by its id; of a GPU where they have one."""
        if not self.gpus:
            return self.rooms(threads)
        return dict.fromkeys(self.rooms(threads), max(1, int(1 / self.gpus)))


def own_code(opened: OpenStudy) -> dict[str, bytes]:
    """The files of users' networks, by path below the folder of their modules; not of installed packages."""
    found = {}
    for model in opened.study.models:
        if isinstance(model.arch, Imported):
            for module, file in model.arch.sources.items():
                root = root_of(module, file)
                if root.name not in ("site-packages", "dist-packages"):
                    found[str(file.relative_to(root))] = file.read_bytes()
    return found


def environment() -> dict[str, str]:
    found = {name: value for name, value in os.environ.items() if name.startswith(TRAVEL)}
    if data := found.get("VITCNN_DATA"):
        found["VITCNN_DATA"] = os.path.abspath(data)
    return found | {"PYTHONSAFEPATH": "1"}  # as the command line has it: no file of the current folder is run

"""One cell on several devices, one process ("rank") each. Every rank trains its share of each batch; torch's
DistributedDataParallel (Li et al. 2020) averages their gradients, so all have the same weights after every step."""

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vitcnn.system.processes import adopt, context

PATIENCE = timedelta(minutes=5)  # for a rank that is behind, as when it reads a large data set


@dataclass(frozen=True)
class Rank:
    """Rank `index` of `count`. The first writes checkpoints, curve and record."""

    index: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.index == 0

    def share(self, batch: int) -> slice:
        """Its part of a batch."""
        each = batch // self.count
        return slice(self.index * each, (self.index + 1) * each)

    def device(self, first: torch.device) -> torch.device:
        """`first` is that of the first rank; on a GPU the others take those after it."""
        return torch.device("cuda", (first.index or 0) + self.index) if first.type == "cuda" else first

    def parallel(self, network: nn.Module) -> nn.Module:
        """The network, averaging its gradients over all ranks in every backward pass. On a GPU batch normalisation
        is over the whole batch, on a CPU over each rank's share."""
        if self.count == 1:
            return network
        return DistributedDataParallel(network)

    def synchronised(self, network: nn.Module, device: torch.device) -> nn.Module:
        several = self.count > 1 and device.type == "cuda"
        return nn.SyncBatchNorm.convert_sync_batchnorm(network) if several else network

    def mean(self, value: Tensor) -> Tensor:
        """Over all ranks."""
        if self.count == 1:
            return value
        value = value.clone()
        dist.all_reduce(value)
        return value / self.count

    def any(self, flag: bool, device: torch.device) -> bool:
        """True if it is true in any rank."""
        if self.count == 1:
            return flag
        value = torch.tensor(int(flag), device=device)
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return bool(value)


@contextlib.contextmanager
def together(count: int, device: torch.device, follow: Callable[..., None], *args: Any) -> Iterator[Rank]:
    """Starts the other ranks, which call `follow(rank, *args)`, and yields the first, this process. Where one ends with
    an error, the first cannot go on: torch raises RuntimeError."""
    if count == 1:
        yield Rank()
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    with tempfile.TemporaryDirectory() as folder:
        meeting = (backend, f"file://{Path(folder) / 'ranks'}")
        more = (meeting, dict(os.environ), torch.get_num_threads(), follow, args)
        others = [
            context().Process(target=_follower, args=(Rank(index, count), *more), daemon=True)
            for index in range(1, count)
        ]
        for process in others:
            process.start()
        try:
            _join(Rank(0, count), *meeting)
            yield Rank(0, count)
            for process in others:
                process.join(PATIENCE.total_seconds())
        finally:
            for process in others:
                process.kill()
            if dist.is_initialized():
                dist.destroy_process_group()


def _follower(
    rank: Rank,
    meeting: tuple[str, str],
    environment: dict[str, str],
    threads: int,
    follow: Callable[..., None],
    args: tuple[Any, ...],
) -> None:
    adopt(environment, threads)
    for number in (signal.SIGINT, signal.SIGTERM):  # the first rank answers them
        signal.signal(number, signal.SIG_IGN)
    _join(rank, *meeting)
    follow(rank, *args)
    dist.destroy_process_group()


def _join(rank: Rank, backend: str, where: str) -> None:
    dist.init_process_group(backend, init_method=where, rank=rank.index, world_size=rank.count, timeout=PATIENCE)

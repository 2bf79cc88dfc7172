"""The bare steps of `bench_cell` on one batch, in every configuration, and the peak of the machine."""

import itertools
import statistics
import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from bench_cell_loops import WARM, Task
from torch import nn

from vitcnn.errors import Frozen
from vitcnn.inspect.memory import wait_for
from vitcnn.models.build import decay_groups, memory_layout

MODES = {"eager": None, "compile": "default", "max-autotune": "max-autotune-no-cudagraphs", "graphs": "reduce-overhead"}
OPTIMIZERS = {"fused": {"fused": True}, "foreach": {"foreach": True}}
PEAK_SIZES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192)}  # of matrices that are multiplied
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class Bare:
    """Forward, loss, backward, clipping and AdamW on one batch that lies on the device, normalised and enlarged."""

    def __init__(self, task: Task, layout: str, mode: str):
        self.task, self.layout, self.mode = task, layout, mode
        network = task.network()
        if layout == "channels_last" and memory_layout(network) != torch.channels_last:
            raise ValueError("not safe for this network, see vitcnn.models.build.memory_layout")
        self.network = network.to(memory_format=LAYOUTS[layout])
        self.images = task.images.contiguous(memory_format=LAYOUTS[layout])
        self.forward = torch.compile(self.network, mode=MODES[mode]) if MODES[mode] else self.network
        groups, recipe = decay_groups(self.network, task.recipe.weight_decay), task.recipe
        self.optimizers = {name: torch.optim.AdamW(groups, lr=recipe.lr, **how) for name, how in OPTIMIZERS.items()}

    def speed(self, optimizer: str, steps: int) -> float:
        update, recipe = self.optimizers[optimizer], self.task.recipe
        wait_for(self.task.where)
        began = time.perf_counter()
        for _ in range(steps):
            with self.task.precision():
                loss = F.cross_entropy(
                    self.forward(self.images), self.task.labels, label_smoothing=recipe.label_smoothing
                )
            update.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip_norm)
            update.step()
        wait_for(self.task.where)
        return steps * recipe.batch_size / (time.perf_counter() - began)


class Configuration(Frozen):
    """One way to make bare steps: images a second, and the seconds that its first step took, which compiles."""

    layout: str
    mode: str
    optimizer: str
    speed: float
    first: float


def configurations(task: Task, modes: Sequence[str], turn: float) -> tuple[list[Configuration], list[str], Bare]:
    """(every configuration, the fastest first, by the median of three turns; what failed and why; the fastest one)."""
    built: dict[tuple[str, str], tuple[Bare, float]] = {}
    failed = []
    for mode, layout in itertools.product(modes, LAYOUTS):
        torch._dynamo.reset()
        began = time.perf_counter()
        try:
            bare = Bare(task, layout, mode)
            bare.speed("fused", 1)
            built[mode, layout] = bare, time.perf_counter() - began
            bare.speed("foreach", WARM)
        except Exception as error:  # no compiler, or it fails: the other ways are measured
            failed.append(f"{mode}, {layout}: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:150]}")
            built.pop((mode, layout), None)
    seen: dict[tuple[str, str, str], list[float]] = {(*key, o): [] for key in built for o in OPTIMIZERS}
    for _ in range(3):
        for (mode, layout, optimizer), values in seen.items():
            bare = built[mode, layout][0]
            expected = values[0] if values else bare.speed(optimizer, 1)
            values.append(bare.speed(optimizer, max(1, round(turn * expected / task.recipe.batch_size))))
    found = [
        Configuration(layout=key[1], mode=key[0], optimizer=key[2], speed=statistics.median(v), first=built[key[:2]][1])
        for key, v in seen.items()
    ]
    found.sort(key=lambda c: -c.speed)
    return found, failed, built[found[0].mode, found[0].layout][0]


def peak(where: torch.device, precision: str) -> float:
    """The most FLOP/s that a product of two square matrices reaches."""
    best, dtype = 0.0, torch.bfloat16 if precision == "bf16" else torch.float32
    for size in PEAK_SIZES[where.type]:
        a, b = (torch.randn(size, size, device=where, dtype=dtype) for _ in range(2))
        for _ in range(5):
            wait_for(where)
            began = time.perf_counter()
            a @ b
            wait_for(where)
            best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best

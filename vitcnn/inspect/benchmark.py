"""The cost of a model on this machine: images per second of training and inference, and memory.

The steps are those of `train_cell` without Lightning around them: augment, enlarge, forward, loss, backward, clip and
AdamW, on one batch of noise. Nothing is fetched or kept.
"""

import contextlib
import gc
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch

from vitcnn.data.batches import Feed, TrainStream
from vitcnn.data.sources.cache import Info
from vitcnn.inspect.memory import peak_during, wait_for
from vitcnn.models.build import build, preprocess
from vitcnn.models.profile import profile_apart
from vitcnn.models.registry import identity
from vitcnn.store.costs import Costs, ModelCost, Speed
from vitcnn.study.cell import Cell
from vitcnn.study.schema import Study
from vitcnn.system.machine import cores
from vitcnn.system.processes import apart
from vitcnn.training.capture import capture_all
from vitcnn.training.device import pick_device
from vitcnn.training.evaluate import BATCH
from vitcnn.training.lane import Lane
from vitcnn.training.provenance import made_by

TURN = 1.0  # about the seconds of one model's turn
STEPS = 2  # for the memory peak: in the second step the optimiser's moments exist beside the activations
MEMORY_IS = {
    "cuda": "torch's peak of allocated memory",
    "cpu": "peak resident memory (Linux's VmHWM, else ru_maxrss) of a fresh process, warmed up by steps on two images",
}
Kind = Literal["training", "inference"]


class Runner:
    """A cell's network as `train_cell` builds it, to be timed on noise; on a GPU with a captured step after `start`.
    `batch`: images of a step, by default the recipe's."""

    def __init__(self, cell: Cell, data: Info, where: torch.device, batch: int | None = None):
        generator, recipe = torch.Generator().manual_seed(0), cell.recipe
        recipe = recipe.model_copy(update={"batch_size": batch or recipe.batch_size})
        shape = (max(recipe.batch_size, BATCH), data.channels, data.size, data.size)
        images = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        labels = torch.randint(data.classes, shape[:1], generator=generator)
        torch.manual_seed(0)
        network, size = build(cell.arch, data, recipe.init)
        seen = preprocess(cell.arch, data, images, size, cell.permutation)
        self.lane = Lane(network, seen, recipe, cell.steps, seed=0).to(where)
        self.batch, self.where = recipe.batch_size, where
        self.images, self.labels = images.to(where), labels.to(where)

    def start(self, capture: bool = True) -> "Runner":
        """Creates the optimiser, as before the first step."""
        stream = TrainStream(self.images, self.labels, batch_size=self.batch, steps=self.lane.steps, seed=0)
        self.lane.start(Feed(stream, self.where, capacity=1))
        if capture:
            capture_all([self.lane])
        self.lane.load(0, 1)
        return self

    def train(self) -> None:
        """One step, on the same batch each time."""
        with self.lane.on_stream():
            self.lane.cursor.zero_()
            self.lane.run()

    @torch.inference_mode()
    def infer(self) -> None:
        """Logits of one batch of inference, in the precision of training."""
        self.lane(self.images[:BATCH])

    def speed(self, kind: Kind, count: int) -> float:
        """Images a second over `count` steps."""
        step, images = (self.train, self.batch) if kind == "training" else (self.infer, BATCH)
        self.lane.train(kind == "training")
        wait_for(self.where)
        began = time.perf_counter()
        for _ in range(count):
            step()
        wait_for(self.where)
        return count * images / (time.perf_counter() - began)

    def steps_in(self, seconds: float, kind: Kind) -> int:
        """How many steps take about `seconds`, once the first two are done; at least one."""
        self.speed(kind, 2)
        images = self.batch if kind == "training" else BATCH
        return max(1, round(seconds * self.speed(kind, 1) / images))


def peak_memory(cell: Cell, data: Info, where: torch.device, threads: int | None = None) -> int | None:
    """Bytes that training takes at its peak above what lay there before the first step: activations, gradients,
    moments, workspaces of libraries, and the allocator's overhead.

    On the CPU it is the resident memory of this process, which should be a fresh one. A first step also brings in the
    libraries' own pages (some 30 MB of oneDNN, the same for every network): steps on two images bring them in before.
    Against torch's own sum of allocations: 90 to 97 MB for 70 (vit), 290 for 180 (sasa), 116 for 124 (rnn). None
    where the system cannot tell (no VmHWM that can be set back, and an earlier peak that was higher).
    """
    if threads:
        torch.set_num_threads(threads)
    warm = Runner(cell, data, where, batch=2).start(capture=False)
    for _ in range(STEPS):
        warm.train()
    del warm
    runner = Runner(cell, data, where)
    gc.collect()
    return peak_during(lambda: [runner.start(capture=False), *(runner.train() for _ in range(STEPS))], where)


def peak_memory_apart(cell: Cell, data: Info, where: torch.device, threads: int) -> int | None:
    """`peak_memory` in a process of its own that has done nothing else."""
    return apart(peak_memory, cell, data, where, threads, threads=threads)


def measure_costs(
    study: Study,
    data: Info,
    all_cells: Sequence[Cell],
    *,
    device: str = "auto",
    threads: int = 1,
    repeats: int = 5,
    turn: float = TURN,
    log: Callable[[str], None] = lambda _: None,
) -> Costs:
    """Every model with its recipe at the largest n, in turns of about `turn` seconds, so that a machine that drifts
    drifts for all. Sets torch's threads. Raises ConfigError if a model or the device is not available."""
    where, load = pick_device(device), os.getloadavg()[0]
    torch.set_num_threads(threads)
    counted = {model.name: profile_apart(model.arch, data) for model in study.models}
    largest = [c for c in all_cells if c.n == study.sizes[-1] and c.role != "budget-check"]
    chosen = {cell.model: cell for cell in reversed(largest) if not cell.is_linear}
    chosen = {model.name: chosen[model.name] for model in study.models if model.name in chosen}
    memory: dict[str, int | None] = {}
    for name, cell in chosen.items():
        log(f"{name}: memory")
        on_cpu = where.type == "cpu"
        memory[name] = peak_memory_apart(cell, data, where, threads) if on_cpu else peak_memory(cell, data, where)
    speeds = _in_turns({name: Runner(cell, data, where).start() for name, cell in chosen.items()}, repeats, turn, log)
    return Costs(
        machine=machine(where),
        threads=threads,
        repeats=repeats,
        seconds=turn,
        load=load,
        inference_batch=BATCH,
        memory_is=MEMORY_IS["cuda" if where.type == "cuda" else "cpu"],
        models={
            e.name: ModelCost(
                arch=identity(e.arch),
                parameters=counted[e.name].parameters,
                macs=counted[e.name].macs,
                **_measured(chosen[e.name], speeds[e.name], memory[e.name]) if e.name in chosen else {},
            )
            for e in study.models
        },
        made_by=made_by(where),
    )


def _measured(cell: Cell, speeds: dict[Kind, Speed], memory: int | None) -> dict[str, object]:
    return {"batch": cell.recipe.batch_size, "precision": cell.recipe.precision, "memory": memory, **speeds}


def _in_turns(
    runners: dict[str, Runner], repeats: int, turn: float, log: Callable[[str], None]
) -> dict[str, dict[Kind, Speed]]:
    steps: dict[tuple[str, Kind], int] = {}
    for name, runner in runners.items():
        log(f"{name}: warm-up")
        steps |= {(name, kind): runner.steps_in(turn, kind) for kind in ("training", "inference")}
    seen: dict[tuple[str, Kind], list[float]] = {key: [] for key in steps}
    for repeat in range(repeats):
        log(f"turn {repeat + 1} of {repeats}")
        for (name, kind), values in seen.items():
            values.append(runners[name].speed(kind, steps[name, kind]))
    return {name: {kind: _speed(seen[name, kind]) for kind in ("training", "inference")} for name in runners}


def _speed(values: Sequence[float]) -> Speed:
    return Speed(median=statistics.median(values), low=min(values), high=max(values))


def machine(where: torch.device) -> str:
    """The GPU's name, or the CPU's with its cores."""
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, TypeError):
        name = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))[1]
    return f"{name}, {cores()} cores"

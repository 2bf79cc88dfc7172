"""The results of `bench_cell`: cell.json and cell.md."""

import statistics
from collections.abc import Sequence
from typing import Any

from bench_cell_bare import Configuration

from vitcnn.errors import Frozen
from vitcnn.report import markdown
from vitcnn.training.networks import CURVE_IMAGES

WHOLE = 100_000  # images seen by a cell of configs/fashion-mnist/reference.yaml and reference.yaml
BATCH = 128
GOAL, START, PART = 0.95, 1.0, 0.05  # (b) / (a); seconds to the first step; seconds of it that are told
WORKERS = (0, 1, 2)  # of the loops (c) and (d)
HEAD = """\
# One cell: what reaches its training

Written by `scripts/bench_cell` from cell.json; median (slowest–fastest) over the turns, each turn measuring (a), (b),
(c), (d) one after the other; ratios are made within a turn. All train the same network in batches of {batch} by the
same recipe (AdamW, clipping, label smoothing 0.1, mirrored images), on the same threads. Images a second of:

- **(a)** bare steps: forward, loss, backward, clipping and AdamW on one fixed batch, already normalised and enlarged,
  in the fastest configuration found; half of them before (b), half after it.
- **(b)** a cell as `vitcnn run` trains it (`vitcnn.launch.worker.work` in a warm process, W&B offline), validation,
  logging and signs of life included: `images_per_s` of its record. It is a piece of a cell of {whole:,} images: the
  steps up to one of that cell's validations, of {curve:,} images, or up to a later one.
- **(c)** the usual loop: torchvision's data set, PIL transforms (Resize, RandomHorizontalFlip, ToTensor, Normalize),
  DataLoader with the best of {workers} workers, Lightning's Trainer with its own logger and checkpoints; no validation.
- **(d)** timm's parts as its `train.py` puts them together: `create_loader` with the best of {workers} workers,
  `create_optimizer_v2`, cosine schedule, `dispatch_clip_grad`, meters; no validation.

(a)'s share of the peak: its images/s × MACs × 2 × 3 (a step is about three forwards), over the fastest product of two
square matrices on the same threads.
"""


class Call(Frozen):
    """Seconds of one call of `work`: from its begin to the end of the first optimiser step; of training, as the record
    has it; from its end to the written record; and from that to the return."""

    to_first: float
    training: float
    scoring: float
    after: float


class Measured(Frozen):
    """One model. `speeds`: images a second of a, b, c, d, one a turn; `workers`: of c and d by workers, once each."""

    model: str
    dataset: str
    precision: str
    batch: int
    steps: int  # of the cell of (b), with so many validations:
    validations: int
    scored: int  # images, after it
    macs: int
    peak: float  # FLOP/s
    configurations: list[Configuration]  # the fastest first
    failed: list[str]
    workers: dict[str, dict[int, float]]
    speeds: dict[str, list[float]]
    calls: list[Call]
    parts: dict[str, float]  # of the way to the first step: seconds under cProfile
    tracking: str
    setting: dict[str, Any]  # machine, threads, load, note, versions, date

    @property
    def group(self) -> str:
        threads = self.setting["threads"]
        on = f"{self.setting['machine']}, {threads} thread{'s' if threads > 1 else ''}"
        return f"{on}, {self.dataset}, {self.precision}"

    def ratios(self, over: str, under: str) -> list[float]:
        return [a / b for a, b in zip(self.speeds[over], self.speeds[under], strict=True)]

    def ratio(self, over: str, under: str) -> float:
        return statistics.median(self.ratios(over, under))

    @property
    def share(self) -> float:
        return statistics.median(self.speeds["a"]) * self.macs * 2 * 3 / self.peak

    @property
    def first_step(self) -> float:
        """Seconds from a record to the end of the next cell's first step."""
        return statistics.median(call.after + call.to_first for call in self.calls)


def report(everything: Sequence[Measured]) -> str:
    groups: dict[str, list[Measured]] = {}
    for m in everything:
        groups.setdefault(m.group, []).append(m)
    head = HEAD.format(batch=BATCH, whole=WHOLE, curve=CURVE_IMAGES, workers=WORKERS)
    return "\n".join([head, *(section(*item) for item in groups.items())])


def sentences(group: Sequence[Measured]) -> str:
    kept = ", ".join(f"{m.ratio('b', 'a'):.3f} ({m.model})" for m in group)
    low = [m.model for m in group if m.ratio("b", "a") < GOAL]
    slower = [f"{m.model} than ({key})" for m in group for key in "cd" if m.ratio("b", key) < 1]
    first = ", ".join(f"{m.first_step:.2f} s ({m.model})" for m in group)
    late = [m.model for m in group if m.first_step >= START]
    return "\n".join(
        [
            f"- **(b)/(a) is {kept}; the goal of {GOAL} is {'missed by ' + ', '.join(low) if low else 'met'}.**",
            f"- **(b) is {'slower: ' + ', '.join(slower) if slower else 'nowhere slower than (c) or (d)'}.**",
            f"- **A warm worker has made the first step of a cell {first} after the record before; the goal of "
            f"{START:g} s is {'missed by ' + ', '.join(late) if late else 'met'}.**",
        ]
    )


def span(values: Sequence[float], form: str = ",.0f") -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def section(name: str, group: Sequence[Measured]) -> str:
    out = [f"## {name}\n\n{sentences(group)}\n"]
    head = ["model", "(a)", "(b)", "(c)", "(d)", "(b)/(a)", "(b)/(c)", "(b)/(d)", "(a) of the peak", "peak, GFLOP/s"]
    rows = [
        [
            m.model,
            *(span(m.speeds[key]) for key in "abcd"),
            *(span(m.ratios("b", key), ".3f") for key in "acd"),
            f"{m.share:.2f}",
            f"{m.peak / 1e9:,.0f}",
        ]
        for m in group
    ]
    out += [markdown.table(head, rows), "Seconds of a call of `work` on one cell:\n"]
    head = ["model", "images", "validations", "to the end of the first step", "training"]
    head += ["after training", "images scored then", "after the record"]
    rows = [
        [
            m.model,
            f"{m.steps * m.batch:,}",
            str(m.validations),
            span([c.to_first for c in m.calls], ".2f"),
            span([c.training for c in m.calls], ".2f"),
            span([c.scoring for c in m.calls], ".2f"),
            f"{m.scored:,}",
            span([c.after for c in m.calls], ".3f"),
        ]
        for m in group
    ]
    out += [markdown.table(head, rows), "Configurations of (a), images/s (seconds to the end of the first step):\n"]
    ways = list(dict.fromkeys((c.mode, c.layout, c.optimizer) for m in group for c in m.configurations))
    by_way = {(m.model, c.mode, c.layout, c.optimizer): c for m in group for c in m.configurations}
    rows = []
    for way in sorted(ways):
        found = [by_way.get((m.model, *way)) for m in group]
        rows.append([", ".join(way), *(f"{c.speed:,.0f} ({c.first:.1f})" if c else "–" for c in found)])
    out += [markdown.table(["configuration", *(m.model for m in group)], rows)]
    out += [f"{m.model} could not be had: {line}\n" for m in group for line in m.failed]
    rows = [[f"({k}), {w}", *(f"{m.workers[k][w]:,.0f}" for m in group)] for k in "cd" for w in WORKERS]
    out += ["Workers of the loops, images/s, measured once:\n", markdown.table(["", *(m.model for m in group)], rows)]
    out += [f"On the way to the first step, {PART:g} s or more (cProfile's, which slows Python down):\n"]
    out += [f"- {m.model}: {', '.join(f'{k} {v:.2f}' for k, v in m.parts.items()) or 'nothing'}" for m in group]
    out += ["", "Measured:\n", *(f"- {m.model}: {measured_on(m)}" for m in group)]
    return "\n".join(out) + "\n"


def measured_on(m: Measured) -> str:
    versions = ", ".join(f"{key} {m.setting[key]}" for key in ("python", "torch", "timm", "lightning"))
    note = f" ({m.setting['note']})" if m.setting["note"] else ""
    at = f"{m.setting['date'][:10]}, git {m.setting['git']}, load {m.setting['load']:.1f} when it began{note}"
    return f"{at}, {versions}, {len(m.calls)} turns, W&B {m.tracking}"

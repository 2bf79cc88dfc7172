"""The plan of a study: its cells, the cost of each model, and an estimate of the time."""

import itertools
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from vitcnn.data.sources.cache import Info, describe_reading
from vitcnn.data.subsets import absent, split, without_class
from vitcnn.errors import ConfigError
from vitcnn.launch import forecast
from vitcnn.launch.table import duration, seconds_left, speeds, table
from vitcnn.models.build import check_input, image_size
from vitcnn.models.config import TokenArch
from vitcnn.models.profile import ModelProfile, profile, profile_apart
from vitcnn.models.registry import Arch, Imported
from vitcnn.store.costs import read_costs
from vitcnn.store.paths import StudyPaths
from vitcnn.store.status import State, to_train
from vitcnn.study.cell import Cell
from vitcnn.study.matrix import describe_budgets
from vitcnn.study.schema import Study

# Forward and backward are about three forwards (Kaplan et al. 2020), two FLOPs a MAC. One core of a server CPU of 2020
# sustained 40-50 GFLOP/s on the three models at batch 128; used only where no cell has been timed yet.
GUESSED_FLOPS = 4e10
RECORD = 10_000  # bytes, where there is none yet: of a test set of 10,000 images


def check_models(study: Study, about: Info) -> list[str]:
    """Builds every model but users' own. Returns what to know about their weights. Raises ConfigError if a model does
    not fit the data."""
    _check_inputs(study, about)
    ours = [model for model in study.models if not isinstance(model.arch, Imported)]
    return [line for model in ours for line in _weights(model.name, model.arch, profile(model.arch, about))]


def plan(
    study: Study,
    about: Info,
    where: Sequence[State],
    paths: StudyPaths,
    workers: int,
    labels: np.ndarray | None = None,
    cluster: int | None = None,
) -> RenderableType:
    """A rich renderable; `where`: of all cells; `labels`: of the training images, where these are in the cache;
    `cluster`: workers of a cluster, for a forecast. Raises ConfigError if a model does not fit the data."""
    _check_inputs(study, about)
    cost = {model.name: profile_apart(model.arch, about) for model in study.models}
    cells = [state.cell for state in where]
    weights = [line for model in study.models for line in _weights(model.name, model.arch, cost[model.name])]
    return Group(
        *(Text(f"{about.name}: {line}") for line in (*describe_reading(about), *_absent(about, cells, labels))),
        _models(cost),
        *map(Text, weights),
        f"{describe_budgets(cells)}; {sum(cell.images_seen for cell in cells):,} in all",
        table(where, paths),
        _time(where, paths, cost, workers),
        *([_forecast(where, paths, cost, cluster)] if cluster else []),
    )


def _absent(about: Info, cells: Sequence[Cell], labels: np.ndarray | None) -> list[str]:
    """Warnings of subsets without an image of some class."""
    if labels is None:
        return []
    sizes: dict[str, set[int]] = {}
    for n, seed, validation in {(cell.n, cell.seed, cell.validation) for cell in cells}:
        for label in absent(labels, split(labels, validation, n, seed)[0]):
            sizes.setdefault(about.names[label], set()).add(n)
    return [f"WARNING: {without_class(name, at)}" for name, at in sorted(sizes.items())]


def check_same_tokens(study: Study, about: Info, before: Mapping[str, Info]) -> None:
    """Checks that pretrained position embeddings fit the number of tokens. `before`: the data sets of the studies that
    `pretrain` names, by file. Raises ConfigError."""
    for model in study.models:
        if not model.pretrain or not isinstance(model.arch, TokenArch):
            continue
        now, then = (image_size(model.arch, data) for data in (about, before[model.pretrain.study]))
        if now != then:
            raise ConfigError(
                f"models.{model.name}: {model.arch.name} takes images of {now} pixels here and of {then} in "
                f"{model.pretrain.study}; give both the same image_size"
            )


def _check_inputs(study: Study, about: Info) -> None:
    for model, permutation in itertools.product((m for m in study.models if m.permuted), study.permutation):
        check_input(model.arch, about, permutation)


def _weights(name: str, arch: Arch, cost: ModelProfile) -> list[str]:
    return [f"{name}: weights from {arch.weights}: {cost.weights_from}"] if cost.weights_from else []


def _models(cost: dict[str, ModelProfile]) -> Table:
    out = Table(
        Column("model", no_wrap=True), "parameters", "MACs/image", "image size", "tokens", "native pixels per token"
    )
    for name, c in cost.items():
        native = "" if c.input.native_pixels_per_token is None else f"{c.input.native_pixels_per_token:g}"
        sees = f"{c.input.image_size} px"
        out.add_row(escape(name), f"{c.parameters:,}", f"{c.macs:,}", sees, str(c.input.tokens or ""), native)
    return out


def _forecast(where: Sequence[State], paths: StudyPaths, cost: dict[str, ModelProfile], workers: int) -> RenderableType:
    """Of all cells, also those that are done."""
    cells, speed = [state.cell for state in where], _speeds(where, paths, cost)[0]
    mean = statistics.fmean(speed.values()) if speed else 1.0
    seconds = [cell.images_seen / speed.get(cell.model, mean) for cell in cells]
    sizes = [file.stat().st_size for file in itertools.islice(paths.records.glob("*.json"), 100)]
    record = statistics.fmean(sizes) if sizes else RECORD
    return forecast.table(forecast.forecast(seconds, workers, record, [c.parameters for c in cost.values()]), workers)


def _speeds(where: Sequence[State], paths: StudyPaths, cost: dict[str, ModelProfile]) -> tuple[dict[str, float], str]:
    """(images a second of each network, what they are based on)."""
    measured, machine = speeds(where, paths), ""
    if costs := read_costs(paths):
        known = {state.cell.model: costs.of(state.cell.model, state.cell.arch) for state in where}
        timed = {name: one.training.median for name, one in known.items() if one and one.training}
        if timed.keys() - measured.keys():
            machine = f", by `vitcnn cost` on {costs.machine}"
        measured = timed | measured
    guess = {name: GUESSED_FLOPS / (6 * c.macs) for name, c in cost.items() if c.macs}
    if measured:  # scale the estimate to this machine
        scale = statistics.median([measured[name] / guess[name] for name in measured if name in guess] or [1.0])
        guess = {name: speed * scale for name, speed in guess.items()}
    basis = (
        f"measured{machine}"
        if measured.keys() >= {s.cell.model for s in where if not s.cell.is_linear}
        else "estimated from MACs"
    )
    return guess | measured, basis


def _time(where: Sequence[State], paths: StudyPaths, cost: dict[str, ModelProfile], workers: int) -> str:
    speed, basis = _speeds(where, paths, cost)
    left = seconds_left(where, speed, workers)
    if not to_train(where):
        return "nothing left to train"
    alone = f", {duration((left or 0) * workers)} of one worker" if workers > 1 else ""
    return f"about {duration(left or 0)} with {workers} workers{alone} ({basis}; without logistic regression)"

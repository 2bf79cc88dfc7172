"""What a study is going to do: its cells, what each entrant costs, and how long that may take."""

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Column, Table

from vitcnn.data.sources.cache import Info
from vitcnn.errors import ConfigError
from vitcnn.launch.jobs import LANES, Job, jobs
from vitcnn.launch.table import duration, seconds_left, speeds, table
from vitcnn.models.build import check_sight, image_size
from vitcnn.models.config import Words
from vitcnn.models.profile import ModelProfile, profile
from vitcnn.store.paths import StudyPaths
from vitcnn.store.status import State, to_train
from vitcnn.study.cell import Cell
from vitcnn.study.matrix import describe_budget
from vitcnn.study.schema import Study
from vitcnn.training.device import caveat, pick_device

# Forward and backward are about three forwards (Kaplan et al. 2020), two FLOPs a MAC. One core of a server CPU of 2020
# sustained 40-50 GFLOP/s on the three entrants at batch 128; used only where no cell has been timed yet.
GUESSED_FLOPS = 4e10


def check(study: Study, about: Info, waiting: Sequence[Cell], device: str, log: Callable[[str], None]) -> str:
    """The device's type. Raises ConfigError where it is not there, or where an entrant does not fit the data."""
    where = pick_device(device)
    if said := caveat(where, (cell.recipe.precision for cell in waiting if cell.recipe)):
        log(said)
    _check_sight(study, about)
    for entrant in study.entrants:
        profile(entrant.model, about)
    return where.type


def make_jobs(waiting: Sequence[Cell], lanes: str, device: str) -> list[Job]:
    """`lanes`: auto, or how many cells at most are trained side by side. On a CPU auto is 1: cells share its cores."""
    most = (LANES if device == "cuda" else 1) if lanes == "auto" else int(lanes)
    return jobs(waiting, most)


def plan(study: Study, about: Info, where: Sequence[State], paths: StudyPaths, workers: int) -> RenderableType:
    """A rich renderable; `where`: of all cells. Raises ConfigError where an entrant does not fit the data."""
    _check_sight(study, about)
    cost = {entrant.name: profile(entrant.model, about) for entrant in study.entrants}
    cells = [state.cell for state in where]
    return Group(
        _entrants(cost),
        f"{describe_budget(cells)}; {sum(cell.images_seen for cell in cells):,} in all",
        table(where, paths),
        _time(where, paths, cost, workers),
    )


def check_same_words(study: Study, about: Info, before: Mapping[str, Info]) -> None:
    """Weights of positions fit as many words as they were trained on. `before`: the data of the studies that `pretrain`
    names, by file. Raises ConfigError."""
    for entrant in study.entrants:
        if not entrant.pretrain or not isinstance(entrant.model, Words):
            continue
        now, then = (image_size(entrant.model, data) for data in (about, before[entrant.pretrain.study]))
        if now != then:
            raise ConfigError(
                f"entrants.{entrant.name}: {entrant.model.model} sees {now} pixels here and {then} in "
                f"{entrant.pretrain.study}: give both the same image_size"
            )


def _check_sight(study: Study, about: Info) -> None:
    for entrant, shuffle in itertools.product(study.entrants, study.shuffle):
        check_sight(entrant.model, about, shuffle)


def _entrants(cost: dict[str, ModelProfile]) -> Table:
    out = Table(Column("entrant", no_wrap=True), "parameters", "MACs/image", "sees", "words", "native pixels per word")
    for name, c in cost.items():
        native = "" if c.sight.native_pixels_per_word is None else f"{c.sight.native_pixels_per_word:g}"
        sees = f"{c.sight.image_size} px"
        out.add_row(escape(name), f"{c.parameters:,}", f"{c.macs:,}", sees, str(c.sight.words or ""), native)
    return out


def _time(where: Sequence[State], paths: StudyPaths, cost: dict[str, ModelProfile], workers: int) -> str:
    measured = speeds(where, paths)
    guess = {name: GUESSED_FLOPS / (6 * c.macs) for name, c in cost.items() if c.macs}
    if measured:  # scale the guess to this machine
        scale = statistics.median([measured[name] / guess[name] for name in measured if name in guess] or [1.0])
        guess = {name: speed * scale for name, speed in guess.items()}
    left = seconds_left(where, guess | measured, workers)
    basis = "measured" if measured.keys() >= {s.cell.entrant for s in where if s.cell.recipe} else "guessed from MACs"
    if not to_train(where):
        return "nothing is left to do"
    return f"about {duration(left or 0)} with {workers} workers ({basis}; the linear entrant not counted)"

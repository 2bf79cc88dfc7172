"""The trained network of a cell, and which cells have one."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from vitcnn.data.cell_data import CellData
from vitcnn.data.preprocess import Preprocess
from vitcnn.errors import ConfigError, suggest
from vitcnn.models.build import build, preprocess
from vitcnn.store.paths import StudyPaths
from vitcnn.study.cell import Cell
from vitcnn.training.train import data_of
from vitcnn.training.weights import load_weights


def trained(cell: Cell, paths: StudyPaths, folder: str | Path | None = None) -> tuple[nn.Module, Preprocess, CellData]:
    """(the network with its final weights, in evaluation mode, its preprocessing, its data). Raises ConfigError."""
    if cell.is_linear:
        raise ConfigError(f"{cell.title}: logistic regression is not a network")
    weights = load_weights(cell.id, paths)
    (data,) = data_of([cell], torch.device("cpu"), folder)
    network, size = build(cell.arch, data.info, weights=weights)
    return network.eval(), preprocess(cell.arch, data.info, data.train[0], size, cell.permutation), data


def kept_cells(cells: Sequence[Cell], paths: StudyPaths, models: Sequence[str]) -> list[list[Cell]]:
    """Cells whose weights were kept, of these models or of every one, a list for each model and setting that differs in
    more than n and seed; each begins with the first seed at its smallest n and ends with that at its largest. Raises
    ConfigError for an unknown model, or if nothing was kept."""
    known = {cell.model for cell in cells if not cell.is_linear}
    for name in models:
        if name not in known:
            linear = any(cell.model == name for cell in cells)
            wrong = ": logistic regression is not a network" if linear else f": no such model{suggest(name, known)}"
            raise ConfigError(f"--model {name}{wrong}")
    groups: dict[tuple, list[Cell]] = {}
    for cell in cells:
        if not cell.is_linear and cell.model in (models or known) and paths.weights(cell.id).exists():
            groups.setdefault(setting(cell), []).append(cell)
    for name in models or [None]:
        if not any(name in (None, group[0].model) for group in groups.values()):
            of = f" of {name}" if name else ""
            raise ConfigError(f"{paths.run}: no weights{of} found; `vitcnn run --keep-weights` keeps them")
    return [_with_ends(group) for group in groups.values()]


def setting(cell: Cell) -> tuple:
    """Cells that differ in n and seed alone have the same."""
    return cell.model, cell.role, cell.variant, str(cell.budget), str(cell.permutation)


def _with_ends(group: list[Cell]) -> list[Cell]:
    first = sorted((cell for cell in group if cell.seed == min(c.seed for c in group)), key=lambda cell: cell.n)
    rest = [cell for cell in group if cell not in (first[0], first[-1])]
    return [first[0], *rest, first[-1]]

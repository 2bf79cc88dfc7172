"""The trained network of a cell."""

from pathlib import Path

import torch
from torch import nn

from vitcnn.data.cell_data import CellData
from vitcnn.data.preprocess import Preprocess
from vitcnn.errors import ConfigError
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

"""Generators of images, and the numbers of images to ask them for."""

import numpy as np
import torch
from torch import Tensor

from vitcnn.data.sources.registry import parse_dataset
from vitcnn.data.synthetic.lazy import Generator, generator
from vitcnn.seeds import role_seed

CPU = torch.device("cpu")
STREAM = role_seed(0, "subset")


def of(name: str) -> Generator:
    return generator(parse_dataset(name), CPU)


def some(count: int, seed: int = 0, below: int = 10**12) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, below, count))

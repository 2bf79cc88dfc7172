"""The images of one cell: in memory on the training device where they fit, else read from the cache when needed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitcnn.base import ConfigError
from vitcnn.data.cache import Info
from vitcnn.data.fetch import load
from vitcnn.data.subsets import split, subset_hash

SHARE = 0.4  # of the memory that is free, for the images of all workers


class OnDisk:
    """Stands for a tensor (N, C, H, W) uint8 whose images are read from the memory-mapped cache when indexed."""

    def __init__(self, images: np.ndarray, rows: np.ndarray):
        self.images, self.rows = images, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        rows = self.rows[index] if isinstance(index, slice) else self.rows[index.numpy()]
        return torch.from_numpy(self.images[rows]).permute(0, 3, 1, 2).contiguous()


Part = tuple[Tensor | OnDisk, Tensor]  # images (N, C, H, W) uint8, labels (N,) int64


@dataclass(frozen=True)
class CellData:
    """What one cell is trained, watched and tested on; `facts`: origin, sums and duplicates of the whole data set."""

    info: Info
    facts: dict[str, Any]
    train: Part
    validation: Part
    test: Part
    subset: str  # hash of the training images' indices


def cell_data(
    name: str,
    *,
    resolution: int | None,
    content: str | None,
    validation: int,
    n: int,
    seed: int,
    folder: str | Path | None,
    device: torch.device,
    workers: int = 1,
) -> CellData:
    """Fetches first if need be. Raises ConfigError where a folder is no longer what the study was begun with."""
    info, arrays, facts = load(name, folder, resolution)
    if info.content != content:
        raise ConfigError(f"{name} has changed since the study was begun; start `vitcnn run` again")
    train, held_out = split(arrays.train_labels, validation, n, seed)
    tested = np.arange(len(arrays.test_labels))
    need = (n + validation + len(tested)) * arrays.train_images[0].nbytes
    keep = _in_memory if fits(need, device, workers) else _on_disk
    return CellData(
        info=info,
        facts=facts,
        train=keep(arrays.train_images, arrays.train_labels, train, device),
        validation=keep(arrays.train_images, arrays.train_labels, held_out, device),
        test=keep(arrays.test_images, arrays.test_labels, tested, device),
        subset=subset_hash(train),
    )


def fits(size: int, device: torch.device, workers: int) -> bool:
    """May each of `workers` keep `size` bytes of images on the device?"""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        import psutil

        free = psutil.virtual_memory().available
    return size * workers < SHARE * free


def _in_memory(images: np.ndarray, labels: np.ndarray, rows: np.ndarray, device: torch.device) -> Part:
    pixels = torch.from_numpy(images[rows]).permute(0, 3, 1, 2).contiguous()
    return pixels.to(device), torch.from_numpy(labels[rows]).to(device)


def _on_disk(images: np.ndarray, labels: np.ndarray, rows: np.ndarray, device: torch.device) -> Part:
    return OnDisk(images, rows), torch.from_numpy(labels[rows])

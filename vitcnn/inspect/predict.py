"""What a trained network says about image files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from vitcnn.data.sources.decode import opened, square
from vitcnn.data.sources.layout import images
from vitcnn.errors import ConfigError
from vitcnn.inspect.trained import trained
from vitcnn.store.paths import StudyPaths
from vitcnn.study.cell import Cell

BATCH = 64


class Prediction(NamedTuple):
    """Of one file: (class name, probability), the most probable first; empty if it cannot be read, with the `error`."""

    file: Path
    classes: list[tuple[str, float]]
    error: str | None = None


@torch.inference_mode()
def predict(
    cell: Cell, paths: StudyPaths, files: Sequence[str | Path], data_folder: str | Path | None = None
) -> Iterator[Prediction]:
    """Yields a prediction for each image file, and for each image below a folder, in order.

    Images of any size and mode are prepared as in training: upright, on white, cropped in the middle to a square, and
    resized to the data set's size. Raises ConfigError if the cell's weights were not kept or a file is not there.
    """
    network, look, data = trained(cell, paths, data_folder)
    names = data.info.names
    every = image_files(files)
    for start in range(0, len(every), BATCH):
        part = every[start : start + BATCH]
        read = [read_image(file, data.info.size, data.info.channels) for file in part]
        whole = [pixels for pixels in read if not isinstance(pixels, str)]
        rows = iter(())
        if whole:
            stack = torch.from_numpy(np.stack(whole)).permute(0, 3, 1, 2)
            rows = iter(network(look(stack)).double().softmax(1))
        for file, pixels in zip(part, read, strict=True):
            if isinstance(pixels, str):
                yield Prediction(file, [], pixels)
                continue
            chances, order = next(rows).sort(descending=True, stable=True)
            yield Prediction(file, [(names[k], p) for k, p in zip(order.tolist(), chances.tolist(), strict=True)])


def image_files(files: Sequence[str | Path]) -> list[Path]:
    """The files, and those below the folders among them, in order. Raises ConfigError if one is not there."""
    return [file for given in map(Path, files) for file in _below(given)]


def _below(given: Path) -> list[Path]:
    if not given.exists():
        raise ConfigError(f"{given}: no such file")
    if not given.is_dir():
        return [given]
    found = sorted(images(given))
    if not found:
        raise ConfigError(f"{given}: no images in this folder")
    return found


def read_image(file: Path, size: int, channels: int) -> np.ndarray | str:
    """The pixels (size, size, channels) uint8, prepared as in training, or why they cannot be read."""
    try:
        with opened(file) as image:
            return square(image, size, channels)
    except Exception as error:  # decoders raise many types on broken files; all are reported
        return f"{type(error).__name__}: {error}"

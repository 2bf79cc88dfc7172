"""The images of cells: in memory on the training device if they fit, else read from the cache when needed. Synthetic
images are generated when needed, and kept if they fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitcnn.data.sources.cache import Info
from vitcnn.data.sources.fetch import load
from vitcnn.data.sources.spec import DatasetSpec
from vitcnn.data.subsets import absent, split, subset_hash
from vitcnn.data.synthetic.lazy import SAMPLE, LazyImages, facts_of, generator, subset_name, test_images
from vitcnn.data.synthetic.spec import VALIDATION, Synthetic
from vitcnn.errors import ConfigError
from vitcnn.system.machine import free_bytes

INDEX_BYTES = 24  # bytes per synthetic image that is not kept: its label and its place in the epoch's order
SHARE = 0.4  # share of free memory for the images of all workers


class OnDisk:
    """Like a tensor (N, C, H, W) uint8; images are read from the memory-mapped cache when indexed.

    Pickling stores the path, and the receiving process maps the file again, instead of copying all pixels.
    """

    def __init__(self, images: np.memmap, rows: np.ndarray):
        self.images, self.rows = images, rows

    def __getstate__(self) -> tuple[str, np.ndarray]:
        return self.images.filename, self.rows

    def __setstate__(self, state: tuple[str, np.ndarray]) -> None:
        path, self.rows = state
        self.images = np.load(path, mmap_mode="r", allow_pickle=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        rows = self.rows[index] if isinstance(index, slice) else self.rows[index.numpy()]
        return torch.from_numpy(self.images[rows]).permute(0, 3, 1, 2).contiguous()


class Picked:
    """A selection of rows of a tensor (N, C, H, W) that several cells share."""

    def __init__(self, pool: "Tensor | LazyImages", rows: Tensor):
        self.pool, self.rows = pool, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        return self.pool[self.rows[index]]


Images = Tensor | Picked | OnDisk | LazyImages
Part = tuple[Images, Tensor]  # images (N, C, H, W) uint8, labels (N,) int64


def resident(images: Images, index: Tensor) -> tuple[Tensor, Tensor] | None:
    """(a tensor in memory that contains images `index`, their rows in it); None if images are not kept in memory."""
    if isinstance(images, Picked):
        return resident(images.pool, images.rows[index.to(images.rows.device)])
    if isinstance(images, LazyImages):
        return (images.kept(index), index) if images.remember else None
    return (images, index) if isinstance(images, Tensor) else None


@dataclass(frozen=True)
class CellData:
    """Training, validation and test images of one cell. `facts`: origin, checksums and duplicates of the data set (of
    the first images if they are synthetic), and the classes without a training image, if any ("absent")."""

    info: Info
    facts: dict[str, Any]
    train: Part
    validation: Part
    test: Part
    subset: str  # hash of the training images' indices


def cells_data(
    spec: DatasetSpec,
    subsets: Sequence[tuple[int, int]],
    *,
    content: str | None,
    validation: int,
    folder: str | Path | None,
    device: torch.device,
    workers: int = 1,
) -> list[CellData]:
    """One for each (n, seed) of `subsets`; shared images are in memory once. Fetches the data set if necessary. Raises
    ConfigError if a folder has changed since the study was started."""
    if isinstance(spec, Synthetic):
        return _synthetic_cells(spec, subsets, validation, device, workers)
    info, arrays, facts = load(spec, folder)
    if info.content != content:
        raise ConfigError(f"{spec.name} has changed since the study was started; run `vitcnn run` again")
    splits = [split(arrays.train_labels, validation, n, seed) for n, seed in subsets]
    held_out, tested = splits[0][1], np.arange(len(arrays.test_labels))
    trained = [rows for rows, _ in splits]
    union = trained[0] if len(trained) == 1 else np.unique(np.concatenate(trained))
    need = (len(union) + validation + len(tested)) * arrays.train_images[0].nbytes
    memory = fits(need, device, workers)
    keep = partial(_in_memory, device=device) if memory else _on_disk
    held_out = keep(arrays.train_images, arrays.train_labels, held_out)
    test = keep(arrays.test_images, arrays.test_labels, tested)
    if memory and len(trained) > 1:
        pool, labels = keep(arrays.train_images, arrays.train_labels, union)
        places = [torch.from_numpy(np.searchsorted(union, rows)).to(device) for rows in trained]
        train = [(Picked(pool, place), labels[place]) for place in places]
    else:
        train = [keep(arrays.train_images, arrays.train_labels, rows) for rows in trained]
    out = []
    for part, rows in zip(train, trained, strict=True):
        missing = [info.names[label] for label in absent(arrays.train_labels, rows)]
        more = {"absent": missing} if missing else {}
        out.append(CellData(info, facts | more, part, held_out, test, subset_hash(rows)))
    return out


def _synthetic_cells(
    spec: Synthetic,
    subsets: Sequence[tuple[int, int]],
    validation: int,
    device: torch.device,
    workers: int,
) -> list[CellData]:
    """Cells of one seed share the first images of one stream. Raises ConfigError if the labels alone do not fit into
    memory."""
    longest = {seed: max(n for n, other in subsets if other == seed) for _, seed in subsets}
    source = generator(spec, device)
    info, (free, available) = source.info, free_for_each(device, workers)
    for key, count in (("sizes", sum(longest.values())), ("validation", validation)):
        if count * INDEX_BYTES > free:
            raise ConfigError(
                f"{key}: {count:,} images need {count * INDEX_BYTES / 1e9:,.1f} GB of memory for labels "
                f"and order alone; {available}"
            )
    need = (sum(longest.values()) + validation + info.test) * info.size**2 * info.channels
    keep = fits(need, device, workers)
    pools = {seed: LazyImages(source, seed, count, device, keep) for seed, count in longest.items()}
    held_out, test = LazyImages(source, VALIDATION, validation, device, keep), test_images(source, device, keep)
    all_labels = {seed: pool.labels() for seed, pool in pools.items()}
    out = []
    for n, seed in subsets:
        pool, labels = pools[seed], all_labels[seed][:n]
        images = pool if n == len(pool) else Picked(pool, torch.arange(n, device=device))
        out.append(
            CellData(
                info=info,
                facts=facts_of(images, labels, test),
                train=(images, labels),
                validation=(held_out, held_out.labels()),
                test=(test, test.labels()),
                subset=subset_name(seed, n),
            )
        )
    return out


def statistics_sample(images: Images) -> Images:
    """The images for pixel statistics: the first 10,000 if they are synthetic, else all."""
    lazy = isinstance(images.pool if isinstance(images, Picked) else images, LazyImages)
    return images[:SAMPLE] if lazy else images


def fits(size: int, device: torch.device, workers: int) -> bool:
    """True if each of `workers` may keep `size` bytes of images on the device."""
    return size * workers < SHARE * free_memory(device)


def free_memory(device: torch.device) -> int:
    """Free bytes on the device; on the CPU, of all memory that this process may use."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_bytes()


def free_for_each(device: torch.device, workers: int) -> tuple[int, str]:
    """(free bytes for each of `workers`, the same as text)."""
    free = free_memory(device) // workers
    return free, f"{free / 1e9:.1f} GB are free{f' for each of {workers} workers' * (workers > 1)}"


def _in_memory(
    images: np.ndarray, labels: np.ndarray, rows: np.ndarray, *, device: torch.device
) -> tuple[Tensor, Tensor]:
    pixels = torch.from_numpy(images[rows]).permute(0, 3, 1, 2).contiguous()
    return pixels.to(device), torch.from_numpy(labels[rows]).to(device)


def _on_disk(images: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> Part:
    return OnDisk(images, rows), torch.from_numpy(labels[rows])

"""What a trained network looks at: attention over images, distances, receptive fields, positions, filters."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vitcnn.data.cell_data import CellData
from vitcnn.data.preprocess import Preprocess
from vitcnn.errors import ConfigError
from vitcnn.inspect.attention_layers import Layer, attention_layers, places
from vitcnn.inspect.attention_numbers import by_offset, looked_at, mean_distance, rollout
from vitcnn.inspect.effective_field import effective_field, field_side
from vitcnn.inspect.first_layer import components, first_filters, positions_of, similarity
from vitcnn.inspect.predict import image_files, read_image
from vitcnn.inspect.trained import trained
from vitcnn.store.paths import StudyPaths
from vitcnn.study.cell import Cell
from vitcnn.training.evaluate import batches
from vitcnn.training.networks import lane_of

IMAGES = 200  # of the test set, for means
BATCH = 4  # a wide layer's attention takes 100 MB an image
SHOWN = 3  # test images that are shown where no image is given
MOST_IMAGES = 12  # that can be given
COMPONENTS = 28  # of patch embeddings, as many as the ViT paper shows


class Distance(NamedTuple):
    """Mean attention distance of a layer's heads, (h,) each, in pixels of the data set's images: after training, and
    if the head attended to all tokens equally."""

    layer: str
    heads: np.ndarray
    uniform: float


class View(NamedTuple):
    """An image and where a network looks in it. `seen` (H, W, C) uint8: as the network sees it; `given`: the same
    before a permutation, None without one. `maps`: of each layer, (h, rows, columns) shares of attention. `rollout`
    (rows, columns), None where it is not defined."""

    name: str
    predicted: str
    given: np.ndarray | None
    seen: np.ndarray
    maps: list[np.ndarray]
    rollout: np.ndarray | None


class Field(NamedTuple):
    """An effective receptive field (H, W) and its side in pixels."""

    values: np.ndarray
    side: float


class Look(NamedTuple):
    """What `look_at` found of a cell; `lacks`: a sentence for each thing that its network does not have.

    `layers`: of attention, without weights of images; `offsets`: of each, (h, 2 · rows − 1, 2 · columns − 1).
    `fields`: at initialisation and after training. `filters` (count, C, k, k), with what they are in words.
    """

    cell: Cell
    side: int  # of the data set's images, in pixels
    images: int  # of the test set, that means are over
    distances: list[Distance]
    initial: list[Distance]
    lacks: list[str]
    layers: Sequence[Layer] = ()
    offsets: Sequence[np.ndarray] = ()
    from_class: bool = False
    permuted: bool = False
    views: Sequence[View] = ()
    fields: Sequence[Field] = ()
    positions: np.ndarray | None = None
    filters: tuple[np.ndarray, str] | None = None


def distances(cell: Cell, paths: StudyPaths, data_folder: str | Path | None = None) -> Look:
    """Mean attention distances alone, over the first `IMAGES` test images. Raises ConfigError if the cell's weights
    were not kept or it is not a network."""
    network, look, data = trained(cell, paths, data_folder)
    found = _distances(mean_attention(network, look, data), data.info.size)
    return Look(cell, data.info.size, _count(data), found, [], [], permuted=_is_permuted(look))


def look_at(
    cell: Cell, paths: StudyPaths, files: Sequence[str | Path] = (), data_folder: str | Path | None = None
) -> Look:
    """Everything: attention over the images `files` (also of folders), prepared as in training, or over the first test
    image of each of the first `SHOWN` classes; means over the first `IMAGES` test images.

    "At initialisation" is the cell's network before its first step: with the weights of its source cell or of timm if
    it starts from those. Raises ConfigError if weights were not kept, or an image cannot be read.
    """
    network, look, data = trained(cell, paths, data_folder)
    first, side, lacks = lane_of(cell, data, paths).network.eval(), data.info.size, []
    layers = mean_attention(network, look, data)
    if not layers:
        lacks.append(f"no attention maps: {cell.arch.name} has no attention over a grid of tokens that can be read")
    views, rolls = _views(network, look, data, files)
    if layers and not rolls:
        lacks.append("no rollout: it is defined for layers of attention that each have a residual connection")
    try:
        fields = [_field(one.requires_grad_(False), look, data) for one in (first, network)]
    except ValueError as error:
        fields = []
        lacks.append(f"no effective receptive field: {error}")
    vectors = positions_of(network)
    if vectors is None and layers:
        lacks.append(f"no similarity of position embeddings: {cell.arch.name} adds none to its tokens here")
    filters = _filters(network, data.info.channels)
    if filters is None:
        lacks.append("no filters: its first layer is not a convolution over the image")
    return Look(
        cell=cell,
        side=side,
        images=_count(data),
        distances=_distances(layers, side),
        initial=_distances(mean_attention(first, look, data), side),
        lacks=lacks,
        layers=layers,
        offsets=[by_offset(_of_grid(one)[0], one.queries, one.grid) for one in layers],
        from_class=_class_token(network),
        permuted=_is_permuted(look),
        views=views,
        fields=fields,
        positions=None if vectors is None else similarity(vectors),
        filters=filters,
    )


def _is_permuted(look: Preprocess) -> bool:
    """Whether any pixel is moved; a study may have a permutation of nothing beside others."""
    return look.order is not None and not torch.equal(look.order, torch.arange(len(look.order)))


def _count(data: CellData) -> int:
    return min(IMAGES, len(data.test[1]))


def mean_attention(network: nn.Module, look: Preprocess, data: CellData) -> list[Layer]:
    """Layers whose weights (1, h, …) are the mean over the first `IMAGES` test images."""
    sums: dict[str, Layer] = {}
    for images, _ in batches(data.test, IMAGES, BATCH):
        for one in attention_layers(network, look(images))[1]:
            before = sums[one.name].weights if one.name in sums else 0
            sums[one.name] = one._replace(weights=before + one.weights.sum(0, keepdims=True))
    return [one._replace(weights=one.weights / _count(data)) for one in sums.values()]


def _of_grid(layer: Layer) -> np.ndarray:
    """(B, h, Q, T): without class and register tokens."""
    return layer.weights[:, :, layer.prefix :, layer.prefix :]


def _distances(layers: Sequence[Layer], side: int) -> list[Distance]:
    out = []
    for one in layers:
        scale = side / np.array(one.grid)  # pixels a token
        queries, tokens = one.queries * scale, places(one.grid) * scale
        uniform = mean_distance(np.ones((1, len(queries), len(tokens))), queries, tokens)
        out.append(Distance(one.name, mean_distance(_of_grid(one)[0], queries, tokens), float(uniform[0])))
    return out


def _class_token(network: nn.Module) -> bool:
    """Whether it classifies by its class token."""
    return getattr(network, "num_prefix_tokens", 0) > 0 and getattr(network, "global_pool", "") == "token"


def _views(
    network: nn.Module, look: Preprocess, data: CellData, files: Sequence[str | Path]
) -> tuple[list[View], bool]:
    """(a view of each image, whether they have rollouts)."""
    names, pixels = _given(data, files) if files else _some(data)
    logits, layers = attention_layers(network, look(pixels))
    chances = torch.from_numpy(logits).double().softmax(1)
    class_token, rolled = _class_token(network), bool(layers) and all(one.in_residual for one in layers)
    seen, permuted = pixels, _is_permuted(look)
    if permuted:
        seen = pixels.flatten(2)[..., look.order].view(pixels.shape)
    views = []
    for k, name in enumerate(names):
        maps = [looked_at(one.weights[k], one.prefix, class_token).reshape(-1, *one.grid) for one in layers]
        roll = None
        if rolled:
            every = rollout([one.weights[k].mean(0) for one in layers], [one.grid for one in layers])
            roll = looked_at(every[None], layers[0].prefix, class_token).reshape(layers[0].grid)
        best = int(chances[k].argmax())
        views.append(
            View(
                name=name,
                predicted=f"{data.info.names[best]} ({chances[k, best]:.0%})",
                given=pixels[k].permute(1, 2, 0).numpy() if permuted else None,
                seen=seen[k].permute(1, 2, 0).numpy(),
                maps=maps,
                rollout=roll,
            )
        )
    return views, rolled


def _given(data: CellData, files: Sequence[str | Path]) -> tuple[list[str], Tensor]:
    every = image_files(files)
    if len(every) > MOST_IMAGES:
        raise ConfigError(f"{len(every)} images given; name at most {MOST_IMAGES}")
    read = [read_image(file, data.info.size, data.info.channels) for file in every]
    for file, pixels in zip(every, read, strict=True):
        if isinstance(pixels, str):
            raise ConfigError(f"{file}: {pixels}")
    return [file.name for file in every], torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2)


def _some(data: CellData) -> tuple[list[str], Tensor]:
    """The first test image of each of the first classes that have one."""
    images, labels = data.test
    classes = torch.unique(labels)[:SHOWN]
    rows = torch.stack([(labels == one).nonzero()[0, 0] for one in classes])
    names = [f"test image {int(row)} ({data.info.names[int(one)]})" for row, one in zip(rows, classes, strict=True)]
    return names, images[rows]


def _field(network: nn.Module, look: Preprocess, data: CellData) -> Field:
    """The mean over the first `IMAGES` test images."""
    parts = [effective_field(network, look, images) for images, _ in batches(data.test, IMAGES, 10 * BATCH)]
    values = sum(parts) / _count(data)
    return Field(values, field_side(values))


def _filters(network: nn.Module, channels: int) -> tuple[np.ndarray, str] | None:
    found = first_filters(network, channels)
    if found is None:
        return None
    filters, patches = found
    tall, wide = filters.shape[2:]
    if not patches:
        return filters, f"all {len(filters)} filters of {tall}×{wide} pixels of the first convolution"
    shown, share = components(filters, COMPONENTS)
    of = f"{len(filters)} patch embedding filters of {tall}×{wide} pixels ({share:.0%} of their variance)"
    return shown, f"the first {len(shown)} principal components of {of}"

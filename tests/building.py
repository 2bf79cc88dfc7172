"""Networks made for tests."""

import torch
from torch import Tensor, nn

from vitcnn.data.batches import Feed, TrainStream
from vitcnn.data.preprocess import Preprocess
from vitcnn.data.sources.cache import Info
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.models.build import build
from vitcnn.models.registry import Arch
from vitcnn.study.recipe import Recipe
from vitcnn.training.lane import Lane

DIGITS, FASHION = parse_dataset("digits").info, parse_dataset("fashion-mnist").info
RGB = FASHION.model_copy(update={"name": "rgb", "size": 32, "channels": 3})


IMPORTED_STUDY = """
dataset: digits
sizes: [50]
seeds: 1
validation: 50
models: {mine: {arch: "import:nets:build", options: {width: 4}}}
budget: {images_seen: 48}
recipe: {batch_size: 16}
"""


def made(arch: Arch, data: Info = RGB, seed: int = 0, init: str = "xavier") -> nn.Module:
    torch.manual_seed(seed)
    return build(arch, data, init)[0]


def shaken(network: nn.Module) -> nn.Module:
    """A little noise on every parameter: nothing is 0, or the same as its neighbour, because it starts like that."""
    with torch.no_grad():
        for p in network.parameters():
            p += 0.05 * torch.randn_like(p)
    return network


class Spy(nn.Module):
    """A network that remembers what it was shown."""

    def __init__(self):
        super().__init__()
        self.head, self.shown = nn.Linear(1, 10), []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(images)
        return self.head(images.mean((1, 2, 3))[:, None])


def lane_on(network: nn.Module, images: Tensor, seen: Preprocess, recipe: Recipe, steps: int = 5, **feed) -> Lane:
    """Ready for the first of its steps on images (N, C, H, W) uint8, of which number i is of class i mod 10."""
    lane = Lane(network, seen, recipe, steps, seed=7)
    stream = TrainStream(images, torch.arange(len(images)) % 10, batch_size=recipe.batch_size, steps=steps, seed=7)
    lane.start(Feed(stream, torch.device("cpu"), **{"capacity": steps} | feed))
    return lane


def convolution(seed: int = 0, **changed) -> nn.Conv2d:
    torch.manual_seed(seed)
    fields = {"in_channels": 2, "out_channels": 3, "kernel_size": 3, "padding": 1} | changed
    return nn.Conv2d(**fields, dtype=torch.float64)

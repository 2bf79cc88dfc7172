"""Images to augment, and ways to draw and apply augmentations."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vitcnn.data.augment.augmentation import Augmentation, AugmentParams
from vitcnn.data.augment.spec import parse_augment
from vitcnn.data.rng import states


def pictures(count: int, channels: int = 3, size: int = 6, seed: int = 0) -> Tensor:
    """Random uint8 images without a 0, so that what was filled in is known."""
    return torch.randint(1, 256, (count, channels, size, size), generator=generator(seed), dtype=torch.uint8)


def smooth(count: int, channels: int = 3, size: int = 32) -> Tensor:
    """Images with neighbours alike and their own range of grey, as photographs have."""
    small = torch.rand(count, channels, 4, 4, generator=generator(5))
    low, high = torch.rand(2, count, channels, 1, 1, generator=generator(6)).sort(0).values * 255
    return (low + (high - low) * F.interpolate(small, (size, size), mode="bilinear")).round().to(torch.uint8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(text: str, images: Tensor, seed: int = 0) -> AugmentParams:
    return Augmentation(parse_augment(text), images.shape[1:]).sample_params(states(seed, torch.arange(len(images))))


def apply(text: str, images: Tensor, params: AugmentParams) -> Tensor:
    """Both forms, which must agree on every pixel."""
    augmentation = Augmentation(parse_augment(text), images.shape[1:])
    out = augmentation(images, params)
    assert torch.equal(augmentation.dense(images, params), out)
    return out

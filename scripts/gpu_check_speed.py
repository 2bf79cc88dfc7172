"""Lanes on noise, and how fast they are: for `scripts/gpu_check`."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vitcnn.data.augment.spec import write_out
from vitcnn.data.batches import Feed, TrainStream
from vitcnn.data.preprocess import Preprocess
from vitcnn.data.sources.cache import Info
from vitcnn.inspect.memory import wait_for
from vitcnn.models.build import build
from vitcnn.models.config import CNN, Swin, ViT
from vitcnn.models.profile import profile
from vitcnn.study.recipe import Recipe
from vitcnn.training.capture import capture_all
from vitcnn.training.lane import Lane
from vitcnn.training.module import CellsModule, Spans
from vitcnn.training.networks import STEPS

NOISE = Info(name="noise", classes=10, train=50_000, test=10_000, size=32, channels=3, validation=5_000, flip=True,
             licence="", source="noise")  # fmt: skip
ARCHS = {
    "ViT": (ViT(), ViT(image_size=128)),
    "windows": (Swin(), Swin(image_size=128)),
    "CNN": (CNN(), CNN(stem_stride=1)),
}  # with 16 and with 64 tokens
AUGMENT = {"flip": "flip", "strong": write_out("strong", 32, True)}
BATCH = 128


def noise(count: int, where: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8).to(where)


def lanes(
    arch: object, where: torch.device, augment: str, precision: str, count: int = 1, steps: int = 100_000
) -> list[Lane]:
    """`count` lanes at their first step, on one pool of noise."""
    images, labels, out = noise(2000, where), torch.arange(2000, device=where) % 10, []
    for seed in range(count):
        torch.manual_seed(seed)
        recipe = Recipe(augment=augment, precision=precision, batch_size=BATCH)
        network, size = build(arch, NOISE)
        lane = Lane(network, Preprocess.of(images.cpu(), size), recipe, steps, seed)
        stream = TrainStream(images, labels, batch_size=BATCH, steps=lane.steps, seed=seed)
        lane.start(Feed(stream, where, STEPS if where.type == "cuda" else 1))
        out.append(lane)
    return out


def bandwidth(where: torch.device) -> float:
    """Bytes/s of copying, read and written."""
    source = torch.empty(2**30 if where.type == "cuda" else 2**27, dtype=torch.uint8, device=where)
    return 2 * source.numel() / seconds_of(lambda: source.clone(), where)


def matrix_peak(where: torch.device) -> float:
    """FLOP/s of bf16 matrix products (float32 on a CPU)."""
    n, dtype = (8192, torch.bfloat16) if where.type == "cuda" else (1024, torch.float32)
    a = torch.randn(n, n, dtype=dtype, device=where)
    return 2 * n**3 / seconds_of(lambda: a @ a, where)


def seconds_of(work: Callable[[], object], where: torch.device, repeats: int = 10) -> float:
    work()
    wait_for(where)
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    wait_for(where)
    return (time.perf_counter() - began) / repeats


class Traffic(TorchDispatchMode):
    """Bytes that the operations of an eager step read and write, each by itself."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **kwargs or {})
        if not func.is_view:
            self.bytes += sum(t.nbytes for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor))
        return out


def speed(
    arch: object, where: torch.device, augment: str, precision: str, count: int, capture: bool, seconds: float
) -> float:
    """Images/s of `count` lanes in the loop of `train_cells`, without Lightning around it."""
    built = lanes(arch, where, AUGMENT[augment], precision, count)
    if capture:
        capture_all(built)
    module = CellsModule(built, [None] * count, val_every=10**9)
    spans, began, done = iter(Spans(module)), 0.0, 0
    while not began or time.perf_counter() - began < seconds:
        first, last = next(spans)
        module.training_step((first, last), 0)
        if not began and first >= (20 if where.type == "cuda" else 1):  # warm
            module.wait()
            began = time.perf_counter()
        elif began:
            done += last - first
    module.wait()
    wait_for(where)
    return count * done * BATCH / (time.perf_counter() - began)


def speed_row(
    arch: object, where: torch.device, augment: str, precision: str, count: int, capture: bool, peaks: dict
) -> tuple[None, str]:
    found = speed(arch, where, augment, precision, count, capture, 1.5)
    flops = 6 * profile(arch, NOISE).macs * found
    text = f"{found:,.0f} images/s, {100 * flops / peaks['flops']:.1f} % of the matrix peak"
    if count == 1 and not capture:
        (lane,) = lanes(arch, where, AUGMENT[augment], precision)
        lane.load(0, 1)
        with Traffic() as traffic:
            lane.program()
        text += f"; a step's operations move {traffic.bytes / BATCH / 1e6:.2f} MB an image one by one: "
        text += f"{100 * traffic.bytes / BATCH * found / peaks['bytes']:.0f} % of the bandwidth"
    return None, text


def peaks_of(where: torch.device) -> tuple[None, dict[str, float]]:
    return None, {"bytes": bandwidth(where), "flops": matrix_peak(where)}

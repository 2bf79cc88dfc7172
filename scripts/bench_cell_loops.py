"""The other loops of `bench_cell`: the usual Lightning loop, and timm's own.

All train the same network in the same precision by the same recipe: AdamW, cosine, label smoothing, clipping, mirrored
images. Speeds are images a second, over steps that begin when `WARM` steps are done.
"""

import time
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from lightning import Callback, LightningModule, Trainer
from timm.data import create_loader
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter, dispatch_clip_grad
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import CIFAR10, FashionMNIST, VisionDataset

from vitcnn.data.sources.fetch import load
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.inspect.memory import wait_for
from vitcnn.models.build import build, preprocess
from vitcnn.study.cell import Cell

WARM = 3


class Task:
    """A cell's network, recipe and data, for other training loops; `folder` is for their files on disk."""

    def __init__(self, cell: Cell, where: torch.device, folder: Path):
        self.cell, self.recipe, self.where, self.folder = cell, cell.recipe, where, folder
        self.info, self.arrays, _ = load(parse_dataset(cell.dataset))
        images = torch.tensor(self.arrays.train_images[: self.recipe.batch_size]).permute(0, 3, 1, 2)
        self.size = build(cell.arch, self.info)[1]
        view = preprocess(cell.arch, self.info, images, self.size)
        self.mean, self.std = view.mean.flatten().tolist(), view.std.flatten().tolist()
        self.images = view(images).to(where)  # as the network sees them, (B, C, S, S) float
        self.labels = torch.tensor(self.arrays.train_labels[: self.recipe.batch_size]).to(where)

    def network(self) -> nn.Module:
        """A fresh one, always the same, on the device. Sets torch's seed."""
        torch.manual_seed(0)
        return build(self.cell.arch, self.info, self.recipe.init)[0].to(self.where)

    def precision(self) -> torch.autocast:
        return torch.autocast(self.where.type, torch.bfloat16, enabled=self.recipe.precision == "bf16")

    def pictures(self, transform: transforms.Compose | None = None) -> VisionDataset:
        """torchvision's data set class on the pixels of the cache: image by image, as PIL images."""
        if self.cell.dataset == "fashion-mnist":
            raw = self.folder / "FashionMNIST/raw"
            if not raw.exists():
                raw.mkdir(parents=True)
                for part, name in (("train", "train"), ("test", "t10k")):
                    _write_idx(raw / f"{name}-images-idx3-ubyte", getattr(self.arrays, f"{part}_images")[..., 0])
                    _write_idx(raw / f"{name}-labels-idx1-ubyte", getattr(self.arrays, f"{part}_labels"))
            return FashionMNIST(self.folder, transform=transform)
        pictures = CIFAR10.__new__(CIFAR10)  # its files are known by checksums that no copy of ours can have
        pictures.data, pictures.targets = np.array(self.arrays.train_images), self.arrays.train_labels.tolist()
        pictures.transform, pictures.target_transform = transform, None
        return pictures


def _write_idx(path: Path, array: np.ndarray) -> None:
    """LeCun's format of MNIST: two zeros, 8 for uint8, the number of axes, their lengths, the bytes."""
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(head + array.astype(np.uint8).tobytes())


class _Usual(LightningModule):
    def __init__(self, task: Task, steps: int):
        super().__init__()
        self.network, self.recipe, self.steps = task.network(), task.recipe, steps

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        loss = F.cross_entropy(self.network(batch[0]), batch[1], label_smoothing=self.recipe.label_smoothing)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> tuple[list, list]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.recipe.lr, weight_decay=self.recipe.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class _Clock(Callback):
    def __init__(self, where: torch.device):
        self.where, self.at = where, {}

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step in (WARM, trainer.max_steps):
            wait_for(self.where)
            self.at[trainer.global_step] = time.perf_counter()


def lightning_loop(task: Task, workers: int, steps: int) -> float:
    """The usual loop: PIL transforms in a DataLoader, Lightning's Trainer with its own logger and checkpoints. Its
    epochs are longer than this, so no end of one is in the time, and nothing is validated."""
    see = [
        transforms.Resize((task.size, task.size)),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(task.mean, task.std),
    ]
    loader = DataLoader(
        task.pictures(transforms.Compose(see)),
        batch_size=task.recipe.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=task.where.type == "cuda",
    )
    clock, last = _Clock(task.where), WARM + steps
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it could have more workers
        trainer = Trainer(
            accelerator="gpu" if task.where.type == "cuda" else "cpu",
            devices=1,
            precision={"float32": "32-true", "bf16": "bf16-mixed"}[task.recipe.precision],
            max_steps=last,
            gradient_clip_val=task.recipe.clip_norm,
            default_root_dir=task.folder,
            callbacks=[clock],
            enable_progress_bar=False,  # there is no terminal
            enable_model_summary=False,
        )
        trainer.fit(_Usual(task, last), loader)
    return steps * task.recipe.batch_size / (clock.at[last] - clock.at[WARM])


def timm_loop(task: Task, workers: int, steps: int) -> float:
    """timm's loader, optimiser, schedule, clipping and meters, put together as its `train.py` does on one device."""
    recipe, network = task.recipe, task.network()
    loader = create_loader(
        task.pictures(),
        input_size=(task.info.channels, task.size, task.size),
        batch_size=recipe.batch_size,
        is_training=True,
        scale=(1.0, 1.0),  # the whole image
        ratio=(1.0, 1.0),
        hflip=0.5,
        color_jitter=0.0,
        mean=task.mean,
        std=task.std,
        num_workers=workers,
        pin_memory=False,  # train.py's own default
        device=task.where,
    )
    optimizer = create_optimizer_v2(network, opt="adamw", lr=recipe.lr, weight_decay=recipe.weight_decay)
    schedule, _ = create_scheduler_v2(optimizer, num_epochs=1, step_on_epochs=False, updates_per_epoch=len(loader))
    loss_of, losses, data_time = LabelSmoothingCrossEntropy(recipe.label_smoothing), AverageMeter(), AverageMeter()
    network.train()
    began = now = time.perf_counter()
    for step, (images, labels) in enumerate(loader, start=1):
        data_time.update(time.perf_counter() - now)
        with task.precision():
            loss = loss_of(network(images), labels)
        loss.backward()
        dispatch_clip_grad(network.parameters(), value=recipe.clip_norm, mode="norm")
        optimizer.step()
        optimizer.zero_grad()
        losses.update(loss.item(), len(images))
        wait_for(task.where)  # as train.py: its meters tell the time of every step
        schedule.step_update(num_updates=step, metric=losses.avg)
        now = time.perf_counter()
        if step == WARM:
            began = now
        if step == WARM + steps:
            break
    return steps * recipe.batch_size / (now - began)

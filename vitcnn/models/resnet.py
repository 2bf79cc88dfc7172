"""The convolutional baseline: a ResNet (He et al. 2016) of timm's basic blocks behind a 3×3 stem."""

from timm.models.resnet import BasicBlock, downsample_conv
from torch import Tensor, nn


class ResNet(nn.Module):
    """(B, C, S, S) -> logits (B, classes). Each stage after the first halves the grid.

    The stem has as many channels as the first stage. Kernels start as He et al. 2015 (fan-out), and each block starts
    as the identity: its last batch norm's weight is 0 (Goyal et al. 2017).
    """

    def __init__(
        self, *, channels: int, classes: int, stages: tuple[int, ...], blocks: tuple[int, ...], stem_stride: int
    ):
        super().__init__()
        if len(stages) != len(blocks):
            raise ValueError(f"{len(stages)} channels and {len(blocks)} blocks: one of each per stage")
        self.stem = nn.Sequential(
            nn.Conv2d(channels, stages[0], 3, stride=stem_stride, padding=1, bias=False),
            nn.BatchNorm2d(stages[0]),
            nn.ReLU(),
        )
        layers, width = [], stages[0]
        for stage, (out, count) in enumerate(zip(stages, blocks, strict=True)):
            for index in range(count):
                stride = 2 if stage and not index else 1
                shortcut = downsample_conv(width, out, 1, stride) if stride > 1 or width != out else None
                layers.append(BasicBlock(width, out, stride, shortcut))
                width = out
        self.stages = nn.Sequential(*layers)
        self.head = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for block in layers:
            block.zero_init_last()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(images)).mean((2, 3)))

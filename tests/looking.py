"""A study of small networks whose weights are kept, for `vitcnn look`."""

import json
from pathlib import Path

from synthetic import make_study

from vitcnn.launch.worker import Options, work

NETS = """
dataset: digits
sizes: [50, 100]
seeds: 2
models:
  vit: {width: 16, depth: 2, heads: 2}
  swin: {width: 16, depths: [2, 1], heads: [1, 2]}
  cnn: &cnn {arch: cnn, channels: [4, 8], blocks: [1, 1], image_size: 16}
  sharp: {<<: *cnn, arch: cnn-attention, init_from: cnn, gate: 30, sharpness: 60, recipe: {lr: 1.0e-60}}
  timm-vit: {arch: timm/test_vit, image_size: 64}
  linear: {C: [1.0]}
budget: {images_seen: 64}
recipe: {batch_size: 16, lr: 0.01}
"""
PERMUTED = [
    "permutation=[{patches: 0}, {patches: 1, pixels: 1}]",
    "sizes=[50]",
    "seeds=1",
    "models={vit: {width: 16, depth: 1, heads: 2}}",
]


class Kept:
    """A study with trained cells: of `vit` and `swin` all, whose weights are kept but at (100, seed 1); of the other
    models those at (50, seed 0)."""

    def __init__(self, folder: Path, *overrides: str):
        _, self.all, self.paths = make_study(folder, *overrides, text=NETS, name="nets")
        for one in self.all:
            if one.model in ("vit", "swin") or (one.n, one.seed) == (50, 0):
                keep = (one.n, one.seed) != (100, 1)
                work((one,), self.paths, Options(device="cpu", tracking="off", keep_weights=keep))
        self.cells = {one.title: one for one in self.all}
        self.where = [folder / "nets.yaml", *overrides, "--results", self.paths.results, "--runs", self.paths.runs]
        self.folder = self.paths.report / "look"

    def index(self) -> list[dict[str, str]]:
        return json.loads((self.folder / "index.json").read_text(encoding="utf-8"))

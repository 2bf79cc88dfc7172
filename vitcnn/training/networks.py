"""Trains networks with Lightning: one cell, or several in parallel, each in its lane."""

import math
import warnings
from collections.abc import Callable, Sequence

import torch
from lightning import Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.utils.data import DataLoader

from vitcnn.data.batches import Feed, TrainStream
from vitcnn.data.cell_data import CellData, Part
from vitcnn.models.build import build, preprocess
from vitcnn.seeds import role_seed
from vitcnn.store.paths import StudyPaths
from vitcnn.study.cell import Cell
from vitcnn.training.callback import CheckpointCallback
from vitcnn.training.checkpoints import load_checkpoint
from vitcnn.training.evaluate import TRAIN_IMAGES, Trained, batch_for, batches, logits_of
from vitcnn.training.lane import Lane
from vitcnn.training.module import CellsModule, Spans
from vitcnn.training.ranks import Rank
from vitcnn.training.tracker import Tracker
from vitcnn.training.weights import load_weights

CURVE_IMAGES = 1000  # of the validation images, the same ones for every point
CURVE_SHARE = 0.025  # share of training time that the points of a cell's curve may cost …
CURVE_POINTS = (5, 60)  # … within these limits on their number
STEPS = 256  # the most steps loaded on a GPU at once
KNOWN = ("cpu", "cuda", "mps")  # device types that Lightning knows


def train_networks(
    cells: Sequence[Cell],
    data: Sequence[CellData],
    where: torch.device,
    paths: StudyPaths,
    trackers: Sequence[Tracker | None],
    stop: Callable[[], bool],
    log: Callable[[str], None],
    rank: Rank,
) -> list[Trained]:
    """Trains cells that resume from the same step to their last one; only the first rank has results. Raises
    `InterruptedCell` as `train_cells` does."""
    lanes = [start_lane(cell, cell_data, where, paths, rank) for cell, cell_data in zip(cells, data, strict=True)]
    module = CellsModule(lanes, trackers, val_every(cells[0]))
    fit(module, data[0].validation, where, CheckpointCallback([paths.cell(cell.id) for cell in cells], stop, rank))
    if not rank.is_first:
        return []
    if eager := lanes[0].eager_reason:
        log(f"{cells[0].model}: steps run eagerly, several times slower: {eager}")
    if varying := ", ".join(module.not_deterministic):
        log(f"{cells[0].model}: results are not reproducible bit for bit: {varying} is not deterministic")
    trained = []
    for lane, cell_data in zip(lanes, data, strict=True):
        parts = (
            ((cell_data.validation, None), (cell_data.train, TRAIN_IMAGES), (cell_data.test, None))
            if lane.failed is None
            else ()
        )
        unusual = {"not_deterministic": varying, "eager": lane.eager_reason, "devices": _devices(lane)}
        trained.append(
            Trained(
                logits=[logits_of(lane, part, limit) for part, limit in parts],  # queued for all lanes without waiting
                seconds=lane.seconds,
                network=lane.network,
                curve=lane.curve,
                resumed=lane.resumed,
                lanes=len(lanes),
                unusual={key: value for key, value in unusual.items() if value},
                failed=lane.failed,
            )
        )
    return trained


def _devices(lane: Lane) -> str | None:
    """How a batch is shared among several devices."""
    ranks, batch = lane.rank.count, lane.recipe.batch_size
    return f"{ranks}, each with {batch // ranks} of the {batch} images of a batch" if ranks > 1 else None


def start_lane(cell: Cell, data: CellData, where: torch.device, paths: StudyPaths, rank: Rank) -> Lane:
    """A lane on the device with optimiser and images, resumed from its checkpoint if there is one."""
    lane, file = lane_of(cell, data, paths, rank, where), paths.cell(cell.id) / "last.ckpt"
    saved = load_checkpoint(file) if file.exists() else None
    stream = TrainStream(
        *data.train,
        batch_size=cell.recipe.batch_size,
        steps=cell.steps,
        seed=lane.seed,
        start=saved["step"] if saved else 0,
        share=rank.share(cell.recipe.batch_size),
    )
    lane.start(Feed(stream, where, capacity=min(cell.steps, STEPS) if where.type == "cuda" else 1))
    if saved:
        lane.restore(saved)
    return lane


def lane_of(
    cell: Cell,
    data: CellData,
    paths: StudyPaths,
    rank: Rank = Rank(),  # noqa: B008 (frozen)
    where: torch.device | None = None,
) -> Lane:
    """The lane of a cell before its first step, for one rank of those on devices such as `where`. Sets torch's seed."""
    torch.manual_seed(role_seed(cell.seed, "init"))
    weights = load_weights(cell.init_from, paths.of(cell.init_from_study)) if cell.init_from else None
    network, size = build(cell.arch, data.info, cell.recipe.init, weights, own_head=bool(cell.init_from_study))
    seen = preprocess(cell.arch, data.info, data.train[0], size, cell.permutation)
    if where:
        network = rank.synchronised(network, where)
    return Lane(network, seen, cell.recipe, cell.steps, role_seed(cell.seed, "order"), rank)


def val_every(cell: Cell) -> int:
    """Steps between two points of the curve. A forward pass counts as a third of a training step."""
    afforded = CURVE_SHARE * 3 * cell.images_seen / min(CURVE_IMAGES, cell.validation)
    points = min(max(afforded, CURVE_POINTS[0]), CURVE_POINTS[1])
    return max(2, math.ceil(cell.steps / points))  # 2: an interrupted cell is saved between validations


def fit(module: CellsModule, validation: Part, where: torch.device, callback: CheckpointCallback) -> None:
    """Runs Lightning's loop from the lanes' position to their last step. A cell is one process, whatever a cluster's
    scheduler sets in the environment, and saves its own checkpoints."""
    curve = list(batches(validation, CURVE_IMAGES, batch_for(module.lanes[0])))  # already in batches
    known = where.type in KNOWN
    trainer = Trainer(
        accelerator=where.type if known else _OtherAccelerator(),
        strategy="auto" if known else SingleDeviceStrategy(where),
        devices=[where.index or 0] if where.type == "cuda" else 1,
        max_epochs=math.ceil(module.steps / module.val_every) - module.position // module.val_every,
        num_sanity_val_steps=0,
        callbacks=[callback],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=callback.folders[0].parent,
        plugins=[LightningEnvironment()],
        logger=False,
    )
    with warnings.catch_warnings():
        # Lightning's notes on a loop without an optimiser of its own, and on workers: chosen on purpose here
        warnings.filterwarnings("ignore", module="lightning.*")
        trainer.fit(module, Spans(module), DataLoader(curve, batch_size=None))
    for lane in module.lanes:
        lane.release().to(where)
    if where.type == "cuda":
        torch.cuda.empty_cache()


class _OtherAccelerator(CPUAccelerator):
    """For devices that torch knows and Lightning does not (xpu): no set-up needed."""

    def setup_device(self, device: torch.device) -> None: ...

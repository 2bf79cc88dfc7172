"""Trains cells as a cohort and returns their records; cut smaller where memory or the networks do not allow it."""

import contextlib
import gc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from vitcnn.base import NotFiniteLoss, evenly
from vitcnn.cell import Cell
from vitcnn.data.cache import Info
from vitcnn.data.cell_data import free_memory
from vitcnn.entrants import Model
from vitcnn.models.build import build, image_size
from vitcnn.models.facts import facts
from vitcnn.records import Places, Record
from vitcnn.training.cell import data_of, fit, module_of, record_of, start_of, stream_of, train_cell, val_every
from vitcnn.training.cohort import CohortIO, CohortModule, CohortStream
from vitcnn.training.device import pick_device
from vitcnn.training.keeper import Keeper
from vitcnn.training.memory import peak_during
from vitcnn.training.stacked import Stacked
from vitcnn.training.tracking import Tracking, tracker
from vitcnn.training.weights import save_weights

SHARE = 0.8  # of the free memory, for the cohorts of all workers
CLOSE = 1e-3  # of the largest logit: how near stacked networks must come to themselves alone


def why_alone(model: Model, data: Info) -> str | None:
    """What keeps networks of this kind from being stacked, in a few words; None where nothing does.

    Tried on two small batches, forward and backward: `vmap` refuses what draws (dropout) and what it has no rule for.
    """
    state = torch.get_rng_state()
    try:
        networks = [build(model, data)[0].train() for _ in range(2)]
        images = torch.randn(2, 4, data.channels, *[image_size(model, data)] * 2)
    finally:
        torch.set_rng_state(state)
    if not all(p.requires_grad for p in networks[0].parameters()):
        return "some of its parameters are frozen, and would be trained"
    try:
        stacked = Stacked(networks)
        logits = stacked(images)
        logits.square().sum().backward()
    except Exception as error:  # whatever vmap, or a network under it, raises
        if "random operation" in str(error):
            return "it draws in its forward pass (dropout, drop path), which vmap would do in another way"
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
    with torch.no_grad():
        alone = torch.stack([network(batch) for network, batch in zip(networks, images, strict=True)])
    off = (logits.detach() - alone).abs().max() / alone.abs().max().clamp_min(1e-6)
    return None if off < CLOSE else f"stacked, its logits are off by {off:.1g} of the largest"


def train_together(
    cells: Sequence[Cell],
    *,
    places: Places,
    data_folder: str | Path | None = None,
    device: str = "auto",
    tracking: Tracking = "off",
    workers: int = 1,
    stop: Callable[[], bool] = lambda: False,
    keep: Callable[[Cell], bool] = lambda _: False,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[tuple[Cell, Record | NotFiniteLoss]]:
    """As `train_cell`, each cell with its record or, where its loss is no number, the error. Cells that were
    interrupted at different steps go on in cohorts of their own; one that does not fit into memory is cut.

    Raises `InterruptedCell` once `stop()` is true and every running cell has saved a checkpoint.
    """
    how = {"places": places, "tracking": tracking, "stop": stop, "workers": workers, "data_folder": data_folder}
    groups: dict[int, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(start_of(cell, places), []).append(cell)
    waiting, where = deque(groups.values()), pick_device(device)
    while waiting:
        gc.collect()  # a trainer and its module hold each other, and the memory that the next ones need
        if where.type == "cuda":
            torch.cuda.empty_cache()
        group = waiting.popleft()
        left = list(group)
        if len(group) == 1:
            yield group[0], _alone(group[0], device=device, keep=keep(group[0]), **how)
            continue
        try:
            fitting = replicas_that_fit(group, where, places, data_folder, workers)
            if fitting < len(group):
                say(f"{len(group)} {group[0].entrant} cells need more memory than there is: {fitting} at a time")
                waiting.extendleft(reversed(evenly(group, fitting)))
                continue
            for cell, record in _cohort(group, where=where, keep=keep, **how):
                left.remove(cell)
                yield cell, record
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            say(f"{len(left)} {group[0].entrant} cells ran out of memory; half of them at a time")
            waiting.extendleft(reversed(evenly(left, (len(left) + 1) // 2)))


def _is_out_of_memory(error: RuntimeError) -> bool:
    """On a GPU torch has a name for it, on the CPU only words."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _alone(cell: Cell, **how: object) -> Record | NotFiniteLoss:
    try:
        return train_cell(cell, **how)
    except NotFiniteLoss as error:
        return error


def _cohort(
    cells: Sequence[Cell],
    *,
    where: torch.device,
    places: Places,
    data_folder: str | Path | None,
    tracking: Tracking,
    workers: int,
    stop: Callable[[], bool],
    keep: Callable[[Cell], bool],
) -> Iterator[tuple[Cell, Record | NotFiniteLoss]]:
    data = data_of(cells, where, data_folder, workers)
    counted = facts(cells[0].model, data[0].info)
    members = [module_of(cell, its, places) for cell, its in zip(cells, data, strict=True)]
    keeper = Keeper([places.cell(cell.id) for cell in cells], val_every(cells[0]), stop)
    start = start_of(cells[0], places)
    stream = CohortStream([stream_of(member, its, start) for member, its in zip(members, data, strict=True)])
    with contextlib.ExitStack() as open_runs:
        trackers = [tracker(cell, places, tracking) for cell in cells]
        for one in filter(None, trackers):
            open_runs.callback(one.abandon)  # which does nothing once it is finished
        module = CohortModule(members, trackers)
        files = CohortIO(module, keeper.checkpoints)
        fit(module, cells[0], data[0], stream, where, keeper, files)
        module.mean_losses() if module.loss_count else None
        for k, (cell, its, member) in enumerate(zip(cells, data, module.members(), strict=True)):
            try:
                if k in module.failed:
                    raise NotFiniteLoss(module.failed[k])
                record = record_of(cell, its, member.to(where), keeper, where, counted)
            except NotFiniteLoss as error:
                yield cell, error
                continue
            finally:
                member.cpu()
            if keep(cell):
                save_weights(member.network, places.weights(cell.id))
            if trackers[k]:
                trackers[k].finish(record)
            yield cell, record


def replicas_that_fit(
    cells: Sequence[Cell], where: torch.device, places: Places, folder: str | Path | None, workers: int
) -> int:
    """How many of these cells can be trained as one; measured on the first step of two of them."""
    two = cells[:2]
    data = data_of(two, where, folder, workers)
    members = [module_of(cell, its, places) for cell, its in zip(two, data, strict=True)]
    module = CohortModule(members, [None, None]).to(where)
    optimizer = module.configure_optimizers()["optimizer"]
    images, labels, first = next(
        iter(CohortStream([stream_of(m, its, 0) for m, its in zip(members, data, strict=True)]))
    )
    batch = images.to(where), labels.to(where), first

    def step() -> None:
        with torch.autocast(where.type, torch.bfloat16, enabled=two[0].recipe.precision == "bf16"):
            module.training_step(batch, 0).backward()
        optimizer.step()

    used = peak_during(step, where)
    room = free_memory(where) * SHARE / workers
    return len(cells) if not used else max(1, min(len(cells), int(2 * room / used)))

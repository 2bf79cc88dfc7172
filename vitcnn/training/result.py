"""What trained lanes leave: scores and records."""

from collections.abc import Sequence

import torch

from vitcnn.data.cell_data import CellData
from vitcnn.models.profile import ModelProfile
from vitcnn.store.records import Cost, Record, TestScore, pack_bits
from vitcnn.study.cell import Cell
from vitcnn.training.callback import CheckpointCallback
from vitcnn.training.evaluate import TRAIN_IMAGES, logits_of, measure
from vitcnn.training.lane import Lane
from vitcnn.training.weights import weights_hash


def all_logits(lane: Lane, data: CellData) -> list[torch.Tensor] | None:
    """On validation, training (its first 10,000 images) and test images, still on the device."""
    if lane.failed is not None:
        return None
    parts = ((data.validation, None), (data.train, TRAIN_IMAGES), (data.test, None))
    return [logits_of(lane, part, limit) for part, limit in parts]


def record_of(
    cell: Cell,
    data: CellData,
    lane: Lane,
    logits: Sequence[torch.Tensor],
    callback: CheckpointCallback,
    k: int,
    made: dict[str, object],
    counted: ModelProfile,
) -> Record:
    """Scores what training ended with; `counted`: the network's size, `k`: the lane's place."""
    parts = zip(logits, (data.validation, data.train, data.test), strict=True)
    (_, validation), (_, train), (correct, test) = (
        measure(found.cpu(), labels[: len(found)].cpu()) for found, (_, labels) in parts
    )
    return Record(
        id=cell.id,
        cell=cell,
        test=TestScore(**test.model_dump(), bits=pack_bits(correct)),
        validation=validation,
        train=train,
        curve=tuple(lane.curve),
        cost=Cost(
            parameters=counted.parameters,
            macs=counted.macs,
            steps=cell.steps,
            images_seen=cell.images_seen,
            epochs=cell.images_seen / cell.n,
            seconds=callback.seconds[k],
            images_per_s=cell.images_seen / callback.seconds[k],
            resumed=callback.resumed[k],
            lanes=len(callback.folders),
        ),
        input=counted.input,
        subset=data.subset,
        data=data.facts,
        weights=weights_hash(lane.network.state_dict()),
        made_by=made,
    )

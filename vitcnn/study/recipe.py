"""The recipe: how a network is trained, including augmentation."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from vitcnn.data.augment.spec import check_augment
from vitcnn.errors import Frozen, Share


class Recipe(Frozen):
    """Everything about training that is not the model, the data or the budget."""

    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05  # on matrices and kernels only
    warmup: Share = 0.1  # share of the steps
    batch_size: Annotated[int, Field(gt=0, le=2**20)] = 128
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    clip_norm: Annotated[float, Field(ge=0)] = 1.0  # of the whole gradient; 0: no clipping
    augment: str = "none"  # a set (none, basic, strong) or parts joined by +: see `parse_augment`
    init: Literal["xavier", "normal"] = "xavier"  # of linear layers and patch embeddings
    # float32 on a GPU too, without TF32: records are comparable between machines. bf16 is opt-in
    precision: Literal["float32", "bf16"] = "float32"

    @field_validator("augment")
    @classmethod
    def _known_augment(cls, value: str) -> str:
        check_augment(value)
        return value

"""The file that `vitcnn cost` writes: results/<study>/cost.json. Files only; loads neither torch nor timm."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vitcnn.errors import ConfigError, Frozen
from vitcnn.models.registry import Arch, identity
from vitcnn.store.paths import StudyPaths, write_atomically
from vitcnn.system.files import open_file


class Speed(Frozen):
    """Images a second: the median over the repeats, the slowest and the fastest of them."""

    median: float
    low: float
    high: float


class ModelCost(Frozen):
    """What one model costs. Parameters and multiply-accumulates (of one forward image) are counted, the rest is
    measured; None if there is nothing to measure (linear) or where it could not be.

    `memory`: bytes that training takes at its peak above what lay there before the first step, when the network's
    weights and the batch were in place: activations, gradients and the optimiser's moments.
    """

    arch: dict[str, Any]
    parameters: int
    macs: int
    batch: int | None = None  # images of a training step
    precision: str | None = None
    training: Speed | None = None
    inference: Speed | None = None
    memory: int | None = None


class Costs(Frozen):
    """All models of a study on one machine, measured in turns: first, second, … last, and again, `repeats` times."""

    machine: str  # the GPU's name, or the CPU's and its cores
    threads: int
    repeats: int
    seconds: float  # of each turn, about
    load: float  # processes that wanted a core when it began (the minute's mean): above the threads, others disturbed
    inference_batch: int
    memory_is: str  # how `memory` was measured
    models: dict[str, ModelCost]
    made_by: dict[str, Any]  # versions, git revision, device, date

    def of(self, name: str, arch: Arch) -> ModelCost | None:
        """None if no model of this name was measured, or another model was."""
        cost = self.models.get(name)
        return cost if cost and cost.arch == identity(arch) else None


def cost_file(paths: StudyPaths) -> Path:
    return paths.report / "cost.json"


def write_costs(costs: Costs, paths: StudyPaths) -> Path:
    path = cost_file(paths)
    write_atomically(path, costs.model_dump_json(indent=1) + "\n")
    return path


def read_costs(paths: StudyPaths) -> Costs | None:
    """None if nothing was measured. Raises ConfigError, naming the file, if it is not valid."""
    path = cost_file(paths)
    try:
        with open_file(path) as file:
            return Costs.model_validate_json(file.read())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        what = f"{'.'.join(map(str, error.errors()[0]['loc']))}: {error.errors()[0]['msg']}"
        raise ConfigError(f"{path}: not a valid cost file ({what}); run `vitcnn cost` again") from None

"""What a run checks before it trains, in a process of its own: the launcher loads neither torch nor timm."""

from collections.abc import Sequence
from typing import NamedTuple

from vitcnn.data.sources.cache import Info
from vitcnn.errors import ConfigError
from vitcnn.models.registry import Imported
from vitcnn.study.cell import Cell
from vitcnn.study.schema import Study
from vitcnn.system.machine import cores
from vitcnn.system.processes import apart

OPEN_FILES = 64  # enough for two workers, tried


class Checked(NamedTuple):
    """The device's type, and messages about it and about the models' weights."""

    device: str
    messages: list[str]


def check(study: Study, about: Info, waiting: Sequence[Cell], device: str) -> Checked:
    """Raises ConfigError if the device is not available, a model does not fit the data, or an environment variable
    is not valid."""
    check_open_files()
    precisions = sorted({cell.recipe.precision for cell in waiting if not cell.is_linear})
    _check_batches(study.trainer.devices, waiting)
    checked = apart(_check, study, about, precisions, device, threads=cores())
    for own in [model.arch for model in study.models if isinstance(model.arch, Imported)]:
        from vitcnn.models.profile import profile_apart  # loads torch

        profile_apart(own, about)
    return checked


def _check_batches(devices: int, waiting: Sequence[Cell]) -> None:
    for cell in waiting:
        if not cell.is_linear and cell.recipe.batch_size % devices:
            raise ConfigError(
                f"trainer.devices: {cell.model}'s batch of {cell.recipe.batch_size} images cannot be shared equally by "
                f"{devices} devices"
            )


def check_open_files() -> None:
    """Raises ConfigError if this process may open too few files to launch workers."""
    try:
        import resource
    except ImportError:  # Windows
        return
    if (allowed := resource.getrlimit(resource.RLIMIT_NOFILE)[0]) < OPEN_FILES:
        raise ConfigError(f"only {allowed} open files are allowed (`ulimit -n`); a run needs {OPEN_FILES}")


def _check(study: Study, about: Info, precisions: Sequence[str], device: str) -> Checked:
    from vitcnn.launch.plan import check_models
    from vitcnn.training.callback import checkpoint_every
    from vitcnn.training.device import caveat, check_devices, pick_device

    checkpoint_every()
    where = pick_device(device)
    warning = caveat(where, precisions)
    check_devices(where, study.trainer.devices)
    return Checked(where.type, [*([warning] if warning else []), *check_models(study, about)])

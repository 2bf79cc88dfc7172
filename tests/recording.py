"""What stands for a GPU in tests without one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from vitcnn.training.lane import Lane

aten = torch.ops.aten
WAITING = {  # operations for which the host waits for the device, since a shape or a value depends on what is there
    *(aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.bincount, aten._unique2),
    *(aten.unique_dim, aten.unique_consecutive, aten.repeat_interleave),
}


class Waits(Exception):
    pass


class Recorder(TorchDispatchMode):
    """Keeps of a program what a CUDA graph keeps: operations and the tensors that they read and write. What Python
    computed in between is frozen. `replay` runs them again, on the same tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[Any, tuple, dict, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        indices = args[1] if func.overloadpacket in (aten.index, aten.index_put, aten.index_put_) else ()
        masked = any(index is not None and index.dtype == torch.bool for index in indices)
        if func.overloadpacket in WAITING or masked:
            raise Waits(str(func))
        out = func(*args, **kwargs or {})
        self.kept.append((func, args, kwargs or {}, out))
        return out

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, before in self.kept:
            for old, new in zip(tree_leaves(before), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(new, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def recorded(lane: Lane) -> Recorder:
    """The lane's step, as `training.capture` captures it: recorded without being done."""
    before = [value.clone() for value in (*lane.changing(), lane.step, lane.cursor)]
    lane.optimizer.zero_grad()
    with Recorder() as recorder:
        lane.program()
    with torch.no_grad():
        for value, old in zip((*lane.changing(), lane.step, lane.cursor), before, strict=True):
            value.copy_(old)
    return recorder


@contextmanager
def on_fake_cuda(lane: Lane) -> Iterator[None]:
    """All of the lane's tensors become fake ones on a GPU: they have a shape and a device, and no values. An operation
    on tensors of two devices, or whose result's shape depends on values, raises."""
    with FakeTensorMode() as mode:

        def fake(value: Tensor) -> Tensor:
            return mode.from_tensor(value).detach().to("cuda")

        for module in lane.modules():
            for kept in (module._parameters, module._buffers):
                for name, value in kept.items():
                    if value is not None:
                        trained = isinstance(value, nn.Parameter)
                        kept[name] = nn.Parameter(fake(value), value.requires_grad) if trained else fake(value)
        for holder in (lane, lane.feed):
            for name, value in list(vars(holder).items()):
                if isinstance(value, Tensor):
                    setattr(holder, name, tree_map_only(Tensor, fake, value))
        yield

"""K networks of one architecture as one program: their parameters are the rows of one matrix."""

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from vitcnn.models.build import decayed


class Stacked(nn.Module):
    """(K, B, C, S, S) -> logits (K, B, classes): network k on batch k, all at once (torch.func's ensembling by `vmap`).

    `rows` (K, P) holds the parameters: of each network first those that weight decay is for (`decayed`, as many
    numbers), then the others. What training changes besides (batch norm's statistics) is stacked too; other buffers
    are the first network's. Networks that draw (dropout) cannot be stacked: vmap raises.
    """

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        named = [decayed(network) for network in networks]
        self.one = copy.deepcopy(networks[0]).requires_grad_(False)  # the program; its own parameters are not used
        self.shapes = {name: p.shape for names in named[0] for name, p in names.items()}
        self.sizes = [shape.numel() for shape in self.shapes.values()]
        self.decayed = sum(p.numel() for p in named[0][0].values())
        rows = [torch.cat([p.detach().flatten() for names in both for p in names.values()]) for both in named]
        self.rows = nn.Parameter(torch.stack(rows))
        kept = networks[0].state_dict().keys()
        self._changing = [name for name, _ in networks[0].named_buffers() if name in kept]
        for place, name in enumerate(self._changing):
            stacked = torch.stack([network.get_buffer(name) for network in networks])
            self.register_buffer(f"buffer{place}", stacked)

    def __len__(self) -> int:
        return len(self.rows)

    def forward(self, images: Tensor) -> Tensor:
        fused = sdpa_kernel(SDPBackend.MATH) if images.device.type == "cpu" else nullcontext()  # no rule for the CPU's
        with fused:
            return vmap(self._one, randomness="error")(self._parameters_of(self.rows), self._buffers_of(), images)

    def _one(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor) -> Tensor:
        return functional_call(self.one, (parameters, buffers), (images,))

    def _parameters_of(self, rows: Tensor) -> dict[str, Tensor]:
        """Each parameter (K, …). Split at once: its gradient is then one concatenation."""
        parts = zip(self.shapes.items(), rows.split(self.sizes, -1), strict=True)
        return {name: part.unflatten(-1, shape) if shape else part.squeeze(-1) for (name, shape), part in parts}

    def _buffers_of(self) -> dict[str, Tensor]:
        return {name: self.get_buffer(f"buffer{place}") for place, name in enumerate(self._changing)}

    @torch.no_grad()
    def give(self, k: int, network: nn.Module) -> None:
        """Copies what network k has become into a network of the same architecture, on any device."""
        for name, value in (self.split(self.rows[k]) | {n: b[k] for n, b in self._buffers_of().items()}).items():
            _tensor(network, name).copy_(value)

    @torch.no_grad()
    def take(self, k: int, network: nn.Module) -> None:
        """The other way round: network k becomes as `network`."""
        for name, value in (self.split(self.rows[k]) | {n: b[k] for n, b in self._buffers_of().items()}).items():
            value.copy_(_tensor(network, name))

    def split(self, row: Tensor) -> dict[str, Tensor]:
        """(P,) -> views, each parameter's part in its shape, in the order of `decayed`."""
        return self._parameters_of(row)


def _tensor(network: nn.Module, name: str) -> Tensor:
    owner, _, last = name.rpartition(".")
    return getattr(network.get_submodule(owner), last)


class RowAdamW(torch.optim.AdamW):
    """AdamW (Loshchilov & Hutter 2019) on a matrix (K, P) of which each row has its own learning rate and weight decay.

    torch's AdamW makes the step at the group's `lr`, which a schedule moves from 0 to 1; each row then goes `lr[k]`
    times as far. `decay[k]` is for the first `decayed` columns.
    """

    def __init__(self, rows: nn.Parameter, lr: Sequence[float], decay: Sequence[float], decayed: int):
        super().__init__([rows], lr=1.0, weight_decay=0.0, fused=True)
        self.own = torch.tensor([lr, decay], dtype=rows.dtype, device=rows.device)[..., None]  # (2, K, 1)
        self.decayed = decayed

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        (group,) = self.param_groups
        (rows,) = group["params"]
        before = rows.detach().clone()
        loss = super().step(closure)
        lr, decay = self.own
        rows.copy_(torch.lerp(before, rows, lr))
        rows[:, : self.decayed] -= group["lr"] * lr * decay * before[:, : self.decayed]
        return loss


@torch.no_grad()
def clip_rows(gradient: Tensor, norm: float) -> None:
    """(K, P): each row that is longer than `norm` is cut down to it, as `clip_grad_norm_` does for one network."""
    length = gradient.norm(dim=1, keepdim=True)
    gradient *= (norm / (length + 1e-6)).clamp(max=1)

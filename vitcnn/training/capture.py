"""A lane's step as one captured CUDA graph, launched at once instead of as hundreds of small kernels.

A network runs eagerly, with the reason recorded, if it makes the host wait for the device, or if it changes Python
state at every step, which a graph would not repeat.
"""

import contextlib
import copy
import random
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from vitcnn.training.device import is_out_of_memory
from vitcnn.training.lane import Lane, default_generator

WARM_UP = 3  # eager steps before a capture, in which libraries select kernels and allocate memory


def capture_all(lanes: Sequence[Lane]) -> list[str]:
    """Gives every lane of a GPU a stream and its captured step, or a reason in `eager_reason`; returns the operations
    that have no deterministic form. Does nothing on other devices. Restores the lanes' state."""
    device = lanes[0].feed.device
    if device.type != "cuda":
        return []
    if lanes[0].rank.count > 1:
        for lane in lanes:
            lane.eager_reason = "its gradients are averaged over several devices"
        return []
    torch.use_deterministic_algorithms(True)  # an earlier network may have switched this off
    found: list[str] = []
    for lane in lanes:
        before = [value.clone() for value in lane.changing()]
        lane.stream = torch.cuda.Stream(device)
        lane.stream.wait_stream(torch.cuda.current_stream(device))
        python = _python_state(lane)
        generator = default_generator(device)
        try:
            with lane.on_stream():
                found += _warm_up(lane)
                drawn = generator.get_offset() > 0
                lane.eager_reason = _decides_in_python(python, _python_state(lane)) or _waits(lane) or _capture(lane)
        finally:
            torch.cuda.synchronize(device)
            with torch.no_grad():
                for value, old in zip(lane.changing(), before, strict=True):
                    value.copy_(old)
        if drawn:  # graphs share one address for the random seed, so lanes that use it run in turn
            lane.stream = lanes[0].stream
    return list(dict.fromkeys(found))


def _warm_up(lane: Lane) -> list[str]:
    """A few steps; returns the operations that have no deterministic form, which are then allowed."""
    generator, found = default_generator(lane.feed.device), []
    for _ in range(WARM_UP):
        lane.cursor.zero_()
        generator.manual_seed(0)
        try:
            lane.program()
        except RuntimeError as error:
            if "deterministic" not in str(error) or torch.is_deterministic_algorithms_warn_only_enabled():
                raise
            torch.use_deterministic_algorithms(True, warn_only=True)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                lane.program()
            found += re.findall(
                r"(\S+) does not have a deterministic implementation", "\n".join(str(w.message) for w in caught)
            )
    return found


def _waits(lane: Lane) -> str | None:
    """A reason if a step makes the host wait for the device, else None."""
    lane.cursor.zero_()
    torch.cuda.synchronize(lane.feed.device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        lane.program()
    except RuntimeError as error:
        if "synchronizing" not in str(error):
            raise
        return "the network makes the host wait for the GPU (.item(), nonzero, a copy from the host)"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return None


def _capture(lane: Lane) -> str | None:
    graph = torch.cuda.CUDAGraph()
    lane.optimizer.zero_grad()  # so that gradients are in the graph's memory pool …
    torch._C._cuda_clearCublasWorkspaces()  # … and cuBLAS's workspace too, which Lightning clears
    torch.cuda.synchronize(lane.feed.device)
    try:
        with torch.cuda.graph(graph, stream=lane.stream, capture_error_mode="thread_local"):
            lane.program()
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        with contextlib.suppress(RuntimeError), torch.cuda.graph(torch.cuda.CUDAGraph()):
            torch.zeros(
                1, device=lane.feed.device
            )  # resets torch 2.11, which else assumes that a capture is in progress
        return f"it cannot be captured as a CUDA graph ({str(error).splitlines()[0][:160]})"
    lane.run, lane.captured_at = graph.replay, lane.addresses()
    return None


def _python_state(lane: Lane) -> dict[str, Any]:
    """Python state that a network could depend on: random generators, non-tensor attributes of its modules, and the
    identity of their buffers (a graph writes to those that existed at capture)."""
    simple = (bool, int, float, str, bytes, list, tuple, dict, set)
    held = {
        f"{name}.{key}".lstrip("."): copy.copy(value)
        for name, module in lane.network.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, simple) and not key.startswith("_")
    }
    buffers = {f"{name} (a tensor)": id(value) for name, value in lane.network.named_buffers()}
    return held | buffers | {" random": random.getstate(), " numpy": str(np.random.get_state())}


def _decides_in_python(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    for key, value in after.items():
        if not _same(before.get(key), value):
            if key in (" random", " numpy"):
                return f"the network uses random numbers of{key} in Python"
            return f"the network has Python state that changes from step to step ({key})"
    return None


def _same(one: Any, other: Any) -> bool:
    """Values that cannot be compared (tensors in a list) count as the same."""
    try:
        return bool(one == other)
    except (RuntimeError, ValueError):
        return True

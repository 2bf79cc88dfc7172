"""Checkpoints that are whole or not there: a checksum in front, the one before kept, what is broken quarantined.

<cell>/last.ckpt      one line (`vitcnn checkpoint 2`, SHA-256 of what follows, the step), then what torch.save wrote
<cell>/before.ckpt    the one before
<cell>/*.broken       what was not a whole checkpoint
"""

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

MARK = b"vitcnn checkpoint 2"
EARLIER = b"vitcnn checkpoint"


def save_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Atomically; raises OSError, and then leaves what was there before. `checkpoint` has a `step`."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    content, scratch = buffer.getbuffer(), path.with_suffix(".new")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with scratch.open("wb") as file:
            file.write(b"%s %s %d\n" % (MARK, _sum(content), checkpoint["step"]))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            path.replace(path.with_name("before.ckpt"))
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """On the CPU: tensors and plain values only, no file can run code. Raises ValueError where the file is not what was
    written."""
    content = path.read_bytes()
    _check(content)
    return torch.load(io.BytesIO(content[content.index(b"\n") + 1 :]), map_location="cpu", weights_only=True)


def last_good(path: Path) -> tuple[int, list[str]]:
    """(the step of the last whole checkpoint, which `path` then is, or 0 where there is none; what is to be said of
    those that are not whole, which are quarantined)."""
    said = []
    for file in (path, path.with_name("before.ckpt")):
        if not file.exists():
            continue
        try:
            step = _check(file.read_bytes())
        except ValueError as error:
            aside = _free(file.with_name(f"{file.name}.broken"))
            file.rename(aside)
            said.append(f"{file}: {error}; quarantined as {aside.name}")
            continue
        if file != path:
            file.rename(path)
        return step, said
    return 0, said


def _check(content: bytes) -> int:
    head = content[:200].partition(b"\n")[0]
    words = head.rsplit(b" ", 2)
    if words[0] == EARLIER:
        raise ValueError("of an earlier version, which augmented images by other random numbers")
    if len(words) != 3 or words[0] != MARK or not words[2].isdigit():
        raise ValueError("no checkpoint of this version")
    if _sum(memoryview(content)[len(head) + 1 :]) != words[1]:
        raise ValueError("not what was written (its checksum differs)")
    return int(words[2])


def _sum(content: memoryview) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _free(path: Path) -> Path:
    """`path`, or that with a number behind it where something is there."""
    return next(p for n in range(1, 10_000) if not (p := path if n == 1 else Path(f"{path}{n}")).exists())

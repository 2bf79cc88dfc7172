"""Checkpoints: written atomically by torch.save. The previous one is kept; broken ones are quarantined.

<cell>/last.ckpt      a dictionary of tensors and plain values; `format` has the version
<cell>/before.ckpt    the previous one
<cell>/*.broken       damaged checkpoints
"""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from vitcnn.store.paths import write_atomically

FORMAT = "vitcnn checkpoint 3"
EARLIER = b"vitcnn checkpoint"  # header of versions 1 and 2


def save_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Saves atomically; on OSError the earlier files remain. `checkpoint` has a `step`."""
    buffer, new = io.BytesIO(), path.with_name("new.ckpt")
    torch.save({"format": FORMAT, **checkpoint}, buffer)
    write_atomically(new, buffer.getbuffer())
    if path.exists():
        path.replace(path.with_name("before.ckpt"))
    new.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Loads to the CPU: tensors and plain values only, so no code is run. Raises ValueError if the file is damaged:
    every part has a checksum (CRC-32), as in any zip."""
    content = path.read_bytes()
    if content.startswith(EARLIER):
        raise ValueError("a checkpoint of an earlier version of vitcnn")
    try:
        _check(content)
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError("not a checkpoint: it contains more than tensors and plain values") from None
    except Exception as error:  # zipfile and torch raise many types on damage
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"damaged ({reason})") from None
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        raise ValueError("not a checkpoint of this version")
    return checkpoint


def _check(content: bytes) -> None:
    """Raises BadZipFile, or another error of zipfile's, where the checksums differ."""
    with zipfile.ZipFile(io.BytesIO(content)) as parts:
        if broken := parts.testzip():
            raise zipfile.BadZipFile(f"the checksum of {broken} differs")
        if marked := [part.filename for part in parts.infolist() if part.external_attr]:
            raise zipfile.BadZipFile(f"{marked[0]} is marked as a folder")  # torch would silently skip it


def last_good(path: Path) -> tuple[int, list[str]]:
    """(the step of the last valid checkpoint, moved to `path` if necessary, or 0; messages about damaged ones, which
    are quarantined)."""
    messages = []
    for file in (path, path.with_name("before.ckpt")):
        if not file.exists():
            continue
        try:
            step = load_checkpoint(file)["step"]
        except ValueError as error:
            aside = _free(file.with_name(f"{file.name}.broken"))
            file.rename(aside)
            messages.append(f"{file}: {error}; quarantined as {aside.name}")
            continue
        if file != path:
            file.rename(path)
        return step, messages
    return 0, messages


def _free(path: Path) -> Path:
    """`path`, or with a number appended if it exists."""
    return next(p for n in range(1, 10_000) if not (p := path if n == 1 else Path(f"{path}{n}")).exists())

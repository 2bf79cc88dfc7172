"""Standard output and error of a process that must not end because of what reads them.

A run that was started with `| head`, into a full disk or on a terminal of another encoding trains its cells all the
same.
"""

import codecs
import errno
import io
import os
import sys
import unicodedata

PLAIN = {"−": "-", "–": "-", "×": "x", "≈": "~", "…": "...", "≤": "<=", "≥": ">=", "±": "+/-", "√": "sqrt", "·": "*"}


class _Lasting(io.FileIO):
    """A raw stream that goes on after a failed write, whose error it keeps, and drops the rest."""

    error: OSError | None = None

    def write(self, data: bytes) -> int:
        if self.error is None:
            try:
                return super().write(data)
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes


def protect() -> None:
    """From now on a write to standard output or error does not fail. What the encoding lacks is written in plain
    letters. Streams that somebody has replaced (tests, notebooks) are left alone."""
    codecs.register_error("vitcnn.plain", _plain)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream is not getattr(sys, f"__{name}__"):
            continue
        stream.flush()
        raw = _Lasting(stream.fileno(), "w", closefd=False)
        line = stream.line_buffering or stream.write_through
        how = {"encoding": stream.encoding, "errors": "vitcnn.plain", "line_buffering": line}
        setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(raw), **how))


def failure() -> str | None:
    """Why standard output could not be written, "" where its reader had enough (`| head`), None if it could."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Lasting):
        return None
    sys.stdout.flush()
    if raw.error is None:
        return None
    return "" if raw.error.errno == errno.EPIPE else os.strerror(raw.error.errno)


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Of characters that an encoding lacks: their letters without marks, the signs of `PLAIN`, "?"."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    out = "".join(_one(character) for character in error.object[error.start : error.end])
    return out, error.end


def _one(character: str) -> str:
    text = PLAIN.get(character) or unicodedata.normalize("NFKD", character)
    power = "^" if unicodedata.decomposition(character).startswith("<super>") else ""
    return power + text.encode("ascii", "ignore").decode() or "?"

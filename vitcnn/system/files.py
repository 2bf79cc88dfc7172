"""Opening files that somebody names."""

import errno
import stat
from pathlib import Path
from typing import BinaryIO


def open_file(path: Path) -> BinaryIO:
    """For reading bytes. Raises OSError, also for a pipe or a device, whose reading may never end."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a folder has the system's own message
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path.open("rb")

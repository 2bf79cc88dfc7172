"""Seeds by role, so that subset, initialisation and order are independent and resumable."""

import hashlib
from typing import Literal

Purpose = Literal["subset", "init", "order", "augment", "shuffle", "categories"]


def role_seed(seed: int, purpose: Purpose, *more: int) -> int:
    """A 63-bit seed for one purpose, a function of the cell's seed (and, for instance, the step) alone."""
    text = ":".join(map(str, (purpose, seed, *more)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

"""Provenance of a record: versions, machine, commit and time."""

import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import lightning
import timm
import torch


def made_by(where: torch.device) -> dict[str, object]:
    """Versions, machine and time, for the record."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "lightning": lightning.__version__,
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else f"cpu ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "git": git_revision(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@cache
def git_revision() -> str | None:
    """The package's commit, with `+` if files were changed; None outside a git checkout."""
    here = Path(__file__).parents[1]
    try:
        out = [
            subprocess.run(["git", "-C", here, *command], capture_output=True, text=True, check=True, timeout=20).stdout
            for command in (
                [
                    "ls-files",
                    "--error-unmatch",
                    "--",
                    here / "__init__.py",
                ],  # not a repository around an installed copy
                ["rev-parse", "--short=12", "HEAD"],
                ["status", "--porcelain", "--", here],
            )
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return out[1].strip() + ("+" if out[2].strip() else "")

"""Starting runs of W&B, online or offline."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import wandb

MODES = ("auto", "online", "offline", "off")
PROJECT = "vitcnn"
INIT_TIMEOUT = 30  # seconds
os.environ.setdefault("WANDB_SILENT", "true")  # no banner for each run


def is_disabled(mode: str) -> bool:
    """By `mode`, an environment variable, or `wandb disabled`."""
    if mode == "off" or os.environ.get("WANDB_MODE") == "disabled" or _is_true(os.environ.get("WANDB_DISABLED", "")):
        return True
    import wandb

    return wandb.setup().settings.mode == "disabled"


def is_online(mode: str) -> bool:
    """`auto`: WANDB_MODE, else online when logged in. Never prompts."""
    import wandb

    if mode == "auto" and (variable := os.environ.get("WANDB_MODE")):
        return variable == "online"
    return mode == "online" or (mode == "auto" and wandb.login(prompt=False, verify=False))


def start_run(folder: Path, run_id: str, offline: bool, **about: Any) -> "wandb.Run":
    """A new run below `folder`, or online the earlier one of this id. W&B cannot resume a run offline, and of two
    folders with one id `wandb sync` keeps the last: a new one replaces those of earlier starts."""
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        id=run_id,
        dir=folder.absolute(),  # W&B's service keeps the current folder of its own start
        mode="offline" if offline else "online",
        resume=None if offline else "allow",
        reinit="create_new",  # beside other runs of this process
        settings=wandb.Settings(
            silent=True, console="off", init_timeout=INIT_TIMEOUT, x_save_requirements=False
        ),  # the list of all packages: 0.1 s a run
        **about,
    )
    here = Path(run.dir).parent
    for earlier in here.parent.glob(f"offline-run-*-{run_id}*"):
        if earlier != here:
            shutil.rmtree(earlier, ignore_errors=True)
    return run


def _is_true(value: str) -> bool:
    return value.lower() in ("1", "true", "yes", "on")

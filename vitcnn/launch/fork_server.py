"""What the fork server of `vitcnn.system.processes` imports before it forks."""

import os
import signal

os.environ["MPLBACKEND"] = "agg"  # torchmetrics imports matplotlib; a notebook's backend may not be installed

import vitcnn.training.train  # noqa: F401

# a cluster's scheduler sends SIGTERM to every process: the server must outlive workers that save a checkpoint
signal.signal(signal.SIGTERM, signal.SIG_IGN)

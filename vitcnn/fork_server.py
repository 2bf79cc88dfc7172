"""What the fork server of `vitcnn.processes` imports before it forks."""

import os
import signal

os.environ["MPLBACKEND"] = "agg"  # torchmetrics imports matplotlib, which fails if a notebook's backend is not installed

import vitcnn.training.train  # noqa: E402, F401

# a cluster's scheduler sends SIGTERM to every process: the server must outlive workers that save a checkpoint
signal.signal(signal.SIGTERM, signal.SIG_IGN)

"""What the fork server of `vitcnn.system.processes` imports before it forks."""

import gc
import os
import signal

gc.disable()  # collections take a fifth of the time of all these imports
os.environ["MPLBACKEND"] = "agg"  # torchmetrics imports matplotlib; a notebook's backend may not be installed

import vitcnn.training.train  # noqa: E402, F401

gc.enable()
gc.freeze()  # what is imported stays; forked processes need not look at it, nor copy its pages

# a cluster's scheduler sends SIGTERM to every process: the server must outlive workers that save a checkpoint
signal.signal(signal.SIGTERM, signal.SIG_IGN)

"""The command line: parse, call, print."""

from vitcnn.cli.app import main

__all__ = ["main"]

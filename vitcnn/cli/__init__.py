"""The command line: parse, call, print."""

from vitcnn.cli.commands import app, main

__all__ = ["app", "main"]

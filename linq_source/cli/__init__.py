"""The command `linq-source`."""

from linq_source.cli.main import main

__all__ = ["main"]

"""The command line: `ctxhost`. One file per group of commands."""

from ctxhost.cli.main import main

__all__ = ["main"]

"""`ctxhost sandbox`: the worked example from end to end, checked, with a report."""

from ctxhost.cli.sandbox.command import sandbox

__all__ = ["sandbox"]

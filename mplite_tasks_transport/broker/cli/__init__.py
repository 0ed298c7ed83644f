"""The commands of the broker: ``mplite-broker``, and ``mplite broker …`` for the local one."""

from __future__ import annotations

from .commands import broker_commands

__all__ = ["broker_commands", "main"]


def main() -> None:
    """Run ``mplite-broker``."""
    from .serve import mplite_broker  # noqa: PLC0415 - the commands of the local broker have no use for a server

    mplite_broker(prog_name="mplite-broker")

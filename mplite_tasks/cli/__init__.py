"""The command ``mplite``. One module for each of its commands."""

from __future__ import annotations

import click

from mplite_tasks_transport import __version__, broker_commands

from .handle import handle

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mplite")
def main() -> None:
    """Look after MPLite: run a handler, and the local broker."""


main.add_command(broker_commands)
main.add_command(handle)

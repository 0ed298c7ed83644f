"""The command ``mplite``. One module for each of its commands."""

from __future__ import annotations

import click

from mplite_tasks_transport import __version__, broker_commands

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mplite")
def main() -> None:
    """Look after MPLite: its local broker, and more to come."""


main.add_command(broker_commands)

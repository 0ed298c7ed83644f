"""``mplite broker start|stop|status|restart``: the local broker, by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from ...home import BrokerInfo, is_running, local_home, read_info
from ...local import STOP_SECONDS, running, start, stop
from ...url import DEFAULT_VHOST, BrokerURL
from .access import access_commands
from .errors import one_line_errors

__all__ = ["broker_commands"]

#: Exit statuses of ``status``, as those of init scripts (LSB 5.0): 0 is running.
NOT_RUNNING: Final = 3
UNKNOWN: Final = 4

_UNITS: Final = (("d", 86_400), ("h", 3600), ("min", 60))

_timeout = click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=STOP_SECONDS,
    show_default=True,
    help="Seconds to wait for its end.",
)


@click.group(name="broker")
def broker_commands() -> None:
    """Start, stop and look at the local broker; say who may use a broker from other machines.

    The local broker is the one of this user on this machine, in $MPLITE_HOME or the user's state directory, and starts
    by itself when it is needed. The commands with --data are about one that is run as mplite-broker --data.
    """


for _command in access_commands:
    broker_commands.add_command(_command)


@broker_commands.command("start")
def start_command() -> None:
    """Start the local broker, unless it runs."""
    with one_line_errors():
        home = local_home()
        info = running(home)
        if info is not None:
            click.echo(f"The local broker runs already: {_describe(info)}")
            return
        click.echo(f"The local broker has started: {_describe(start(home))}")


@broker_commands.command("stop")
@_timeout
def stop_command(timeout: float) -> None:
    """Stop the local broker. What waits in it is kept."""
    with one_line_errors():
        home = local_home()
        ended = stop(home, timeout=timeout)
        click.echo("The local broker has ended." if ended else f"No local broker runs in {home}.")


@broker_commands.command("restart")
@_timeout
def restart_command(timeout: float) -> None:
    """Stop the local broker, if it runs, and start it."""
    with one_line_errors():
        home = local_home()
        stop(home, timeout=timeout)
        click.echo(f"The local broker has started: {_describe(start(home))}")


@broker_commands.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.option("--vhost", default=DEFAULT_VHOST, show_default=True, help="The vhost whose queues are shown.")
@click.pass_context
def status_command(ctx: click.Context, as_json: bool, vhost: str) -> None:
    """Show the local broker and its queues. Exit status 0: it runs; 3: it does not; 4: it does not answer."""
    with one_line_errors():
        home = local_home()
    if not is_running(home):
        click.echo(json.dumps({"running": False, "home": str(home)}) if as_json else f"No local broker runs in {home}.")
        ctx.exit(NOT_RUNNING)
    with one_line_errors(UNKNOWN):
        facts = _ask(home, vhost)
    info = read_info(home)
    facts = {"running": True, "home": str(home), "address": info.socket if info else "", **facts}
    click.echo(json.dumps(facts, default=str) if as_json else _table(facts))


def _ask(home: Path, vhost: str) -> dict[str, Any]:
    from ...client import BrokerClient  # noqa: PLC0415 - the broker's own process has no use for it
    from ...frames import Status  # noqa: PLC0415

    with BrokerClient.connect(BrokerURL(vhost=vhost), timeout=5.0, autostart=False, home=home) as client:
        answer = client.call(Status(0), timeout=5.0)
    return {str(name): value for name, value in answer.items()}


def _describe(info: BrokerInfo) -> str:
    return f"version {info.version}, pid {info.pid}, on {info.socket}"


def _table(facts: Mapping[str, Any]) -> str:
    lines = [
        f"version      {facts['version']}",
        f"pid          {facts['pid']}",
        f"address      {facts['address']}",
        f"home         {facts['home']}",
        f"uptime       {_duration(facts['uptime'])}",
        f"durability   {facts['durability']}",
        f"connections  {facts['connections']}",
    ]
    return "\n".join([*lines, *_queue_lines(facts["queues"])])


def _queue_lines(queues: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a table of the queues: a column for each count that the broker gives."""
    if not queues:
        return ["", "No queues."]
    columns = list(next(iter(queues.values())))
    rows = [["queue", *columns], *([name, *(str(counts[each]) for each in columns)] for name, counts in queues.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["", *(_row(row, widths) for row in rows)]


def _row(cells: list[str], widths: list[int]) -> str:
    numbers = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "  ".join([cells[0].ljust(widths[0]), *numbers])


def _duration(seconds: float) -> str:
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"

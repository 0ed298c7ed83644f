"""The command ``mplite handle``: runs a handler in processes of its own. This process imports none of its code."""

from __future__ import annotations

import sys

import click

from mplite_tasks_transport import BrokerURL, InvalidURL

from ..worker.control import Ready, Start
from .lines import OneLineCommand
from .supervising import level_option, queue_list, supervise

__all__ = ["handle"]


def _broker(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse a URL that cannot be used, or that shows a secret to everybody who can list processes."""
    if value is None:
        return None
    if "://" not in value:
        raise click.BadParameter("not a URL like mplite://host:7878/.")
    if any(map(_has_key, value.split(";"))):
        raise click.BadParameter(
            "no key or password here, where other users can read it: set MPLITE_KEY_FILE, or the whole URL as "
            "MPLITE_BROKER."
        )
    return value


def _has_key(url: str) -> bool:
    if not url.startswith("mplite"):
        return ":" in url.partition("://")[2].partition("/")[0].rpartition("@")[0]
    try:
        return BrokerURL.parse(url).key is not None
    except InvalidURL as exc:
        raise click.BadParameter(str(exc)) from exc


@click.command(cls=OneLineCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("handler", metavar="MODULE:FUNCTION")
@click.option("-Q", "--queues", callback=queue_list, metavar="Q1,Q2", help="Queues. Default: what @handler says.")
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(min=1),
    help="Messages that are handled at a time, each in a process. Default: what @handler says, else 1.",
)
@level_option
@click.option(
    "--broker",
    callback=_broker,
    metavar="URL",
    help="The broker. Default: what @handler says, else $MPLITE_BROKER, else the local one.",
)
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    metavar="N",
    help="How often a message is handled again that failed. Default: what @handler says, else 0.",
)
def handle(
    handler: str,
    queues: tuple[str, ...],
    concurrency: int | None,
    loglevel: str,
    broker: str | None,
    retries: int | None,
) -> None:
    """Call a function with each message of some queues, the highest priority first, until told to stop.

    The first SIGTERM or Ctrl-C lets running handlers finish, the second one stops them now and their messages go back
    to their places. Exit status: 0 when all were finished, 1 when some were broken off, 2 when it cannot work.
    """
    start = Start(handler, concurrency or 0, queues, loglevel, is_handler=True, broker=broker, retries=retries)
    sys.exit(supervise("mplite handle", start, _banner))


def _banner(ready: Ready) -> list[tuple[str, str]]:
    return [
        ("handler", ready.app),
        ("broker", ready.broker),
        ("queues", ", ".join(ready.queues)),
        ("concurrency", str(ready.concurrency)),
    ]

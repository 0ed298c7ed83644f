"""The command ``mplite-worker``: runs the tasks of an app. This process imports none of the app's code."""

from __future__ import annotations

import os
import sys

import click

from mplite_tasks_transport import __version__

from ..worker.control import Ready, Start
from .lines import OneLineCommand
from .supervising import level_option, queue_list, supervise

__all__ = ["main"]


@click.command(cls=OneLineCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-A", "--app", required=True, metavar="NAME", help="The app: proj, proj.app or proj:app.")
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(min=1),
    default=lambda: len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    show_default="number of CPUs",
    help="Consumer processes.",
)
@click.option("-Q", "--queues", callback=queue_list, metavar="Q1,Q2", help="Queues. Default: all that the app uses.")
@level_option
@click.version_option(__version__, prog_name="mplite-worker")
def main(app: str, concurrency: int, queues: tuple[str, ...], loglevel: str) -> None:
    """Run the tasks of an app, the highest priority first, until told to stop.

    The first SIGTERM or Ctrl-C lets running jobs finish, the second one stops them now and they go back to their
    places.
    """
    start = Start(app, concurrency, queues, loglevel)
    sys.exit(supervise("mplite-worker", start, _banner))


def _banner(ready: Ready) -> list[tuple[str, str]]:
    return [
        ("app", ready.app),
        ("broker", ready.broker),
        ("queues", ", ".join(ready.queues)),
        ("concurrency", str(ready.concurrency)),
        ("tasks", f"\n{' ' * 15}".join(ready.tasks) or "none"),
    ]


if __name__ == "__main__":
    main(prog_name="mplite-worker")

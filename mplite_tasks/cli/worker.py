"""The command ``mplite-worker``: runs the tasks of an app. This process imports none of the app's code."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

import click

from mplite_tasks_transport import __version__

from ..errors import BadOption
from ..options import check_queue
from ..worker.control import Failed, Ready, Start
from ..worker.logs import LEVELS, name_process, set_up_logging
from ..worker.supervisor import Supervisor

__all__ = ["main"]


def _queues(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    if value is None:
        return ()
    try:
        return tuple(dict.fromkeys(check_queue(name.strip()) for name in value.split(",")))
    except BadOption as exc:
        raise click.BadParameter(f"{value!r} is not a list like q1,q2: {exc}") from exc


class _OneLine(click.Command):
    """Says what is wrong with the command line in one line."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.UsageError as exc:
            click.echo(f"mplite-worker: {exc.format_message()}", err=True)
            sys.exit(2)
        except click.Abort:
            sys.exit(1)


@click.command(cls=_OneLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-A", "--app", required=True, metavar="NAME", help="The app: proj, proj.app or proj:app.")
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(min=1),
    default=lambda: len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    show_default="number of CPUs",
    help="Consumer processes.",
)
@click.option("-Q", "--queues", callback=_queues, metavar="Q1,Q2", help="Queues. Default: all that the app uses.")
@click.option(
    "-l",
    "--loglevel",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="info",
    show_default=True,
    help="What is logged.",
)
@click.version_option(__version__, prog_name="mplite-worker")
def main(app: str, concurrency: int, queues: tuple[str, ...], loglevel: str) -> None:
    """Run the tasks of an app, the highest priority first, until told to stop.

    The first SIGTERM or Ctrl-C lets running jobs finish, the second one stops them now and they go back to their
    places.
    """
    set_up_logging(loglevel)
    name_process("supervisor")
    start = Start(app, concurrency, queues, loglevel)
    supervisor = Supervisor(start, on_ready=lambda ready: _banner(ready, concurrency), on_failure=_failure)
    sys.exit(supervisor.run())


def _banner(ready: Ready, concurrency: int) -> None:
    tasks = f"\n{' ' * 15}".join(ready.tasks) or "none"
    text = (
        f"mplite-worker {__version__}\n"
        f"  app          {ready.app}\n"
        f"  broker       {ready.broker}\n"
        f"  queues       {', '.join(ready.queues)}\n"
        f"  concurrency  {concurrency}\n"
        f"  tasks        {tasks}"
    )
    with contextlib.suppress(BrokenPipeError):  # whoever read our output has had enough
        click.echo(text)
        sys.stdout.flush()


def _failure(failed: Failed) -> None:
    if failed.detail:
        click.echo(failed.detail.rstrip(), err=True)
    click.echo(f"mplite-worker: {failed.text}", err=True)


if __name__ == "__main__":
    main(prog_name="mplite-worker")

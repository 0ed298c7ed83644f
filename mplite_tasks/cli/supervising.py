"""What the commands that run consumer processes share: their options, their banner, and how they say that they fail."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence

import click

from mplite_tasks_transport import __version__

from ..errors import BadOption
from ..options import check_queue
from ..worker.control import Failed, Ready, Start
from ..worker.logs import LEVELS, name_process, set_up_logging
from ..worker.supervisor import Supervisor

__all__ = ["level_option", "queue_list", "supervise"]

level_option = click.option(
    "-l",
    "--loglevel",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="info",
    show_default=True,
    help="What is logged.",
)


def queue_list(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Return the queues of an option like ``q1,q2``, each once; none if it was not given."""
    if value is None:
        return ()
    try:
        return tuple(dict.fromkeys(check_queue(name.strip()) for name in value.split(",")))
    except BadOption as exc:
        raise click.BadParameter(f"{value!r} is not a list like q1,q2: {exc}") from exc


def supervise(program: str, start: Start, banner: Callable[[Ready], Sequence[tuple[str, str]]]) -> int:
    """Run consumer processes until told to stop, and return the exit status.

    Parameters:
        program: what the command is called, in the banner and before errors.
        banner: the lines that are shown when the processes run, as names and texts.
    """
    set_up_logging(start.level)
    name_process("supervisor")

    def ready(note: Ready) -> None:
        lines = [f"{program} {__version__}", *(f"  {name:<11}  {text}" for name, text in banner(note))]
        with contextlib.suppress(BrokenPipeError):  # whoever read our output has had enough
            click.echo("\n".join(lines))
            sys.stdout.flush()

    def failed(note: Failed) -> None:
        if note.detail:
            click.echo(note.detail.rstrip(), err=True)
        click.echo(f"{program}: {note.text}", err=True)

    return Supervisor(start, on_ready=ready, on_failure=failed).run()

"""How a command fails: with one line on standard error and an exit status, never with a traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import click

from ...errors import TransportError

__all__ = ["CommandFailedError", "UnusableOptionError", "one_line_errors"]


class CommandFailedError(click.ClickException):
    """What was asked could not be done."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self._status = status

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # click has a class attribute that it reads on the instance
        """The exit status of the command."""
        return self._status


class UnusableOptionError(click.ClickException):
    """The command line cannot be done as it is; exit status 2, as for any wrong usage."""

    exit_code = 2


@contextlib.contextmanager
def one_line_errors(status: int = 1) -> Iterator[None]:
    """Turn the errors that a person can do something about into a line on standard error and this exit status."""
    try:
        yield
    except (TransportError, OSError) as exc:
        raise CommandFailedError(" ".join(str(exc).split()), status) from exc

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
    except TransportError as exc:
        raise CommandFailedError(" ".join(str(exc).split()), status) from exc
    except OSError as exc:
        raise CommandFailedError(" ".join(_said(exc).split()), status) from exc


def _said(error: OSError) -> str:
    """Return what the system says, without its number: Python's text begins with ``[Errno 2]``."""
    reason = error.strerror or str(error)
    name = error.filename2 or error.filename
    return f"{name}: {reason}." if name else f"{reason[:1].upper()}{reason[1:]}."

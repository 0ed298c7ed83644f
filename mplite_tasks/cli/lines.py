"""How a command of ``mplite`` says what is wrong: in one line on standard error, with exit status 2."""

from __future__ import annotations

from typing import IO, Any

import click

__all__ = ["OneLineCommand", "OneLineError"]


class OneLineError(click.ClickException):
    """What is wrong, with the command's name before it."""

    exit_code = 2

    def __init__(self, command: str, text: str) -> None:
        super().__init__(" ".join(text.split()))
        self._command = command

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the line."""
        click.echo(f"{self._command}: {self.format_message()}", file=file, err=file is None)


class OneLineCommand(click.Command):
    """A command whose wrong usage is said in one line."""

    def make_context(self, info_name: str | None, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(info_name, *args, **kwargs)
        except click.UsageError as exc:
            name = exc.ctx.command_path if exc.ctx is not None else f"mplite {info_name}"
            raise OneLineError(name, exc.format_message()) from exc

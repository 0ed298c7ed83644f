"""The errors of the task framework: one root; each class says what happened, and its docstring what to do about it.

Where a builtin class fits, ours is a subclass of it too, so that code that catches ``TimeoutError`` keeps working.
"""

from __future__ import annotations

__all__ = [
    "AppNotFound",
    "BadArguments",
    "BadOption",
    "BrokerUnavailable",
    "ForkRefused",
    "HandlerNotFound",
    "InvalidHandler",
    "InvalidTask",
    "MPLiteError",
    "NotSerializable",
    "RemoteTraceback",
    "ResultIgnored",
    "ResultTimeout",
    "RetriesExhausted",
    "TaskError",
    "TaskExpired",
    "UndecodableMessage",
    "UnknownTask",
]


class MPLiteError(Exception):
    """Something in the task framework failed."""

    def __init__(self, text: str | None = None) -> None:
        super().__init__(text if text is not None else (self.__doc__ or type(self).__name__))


class InvalidTask(MPLiteError, TypeError):
    """The function cannot be declared as a task like this; the text says what to change."""


class InvalidHandler(MPLiteError, TypeError):
    """The function cannot be a handler like this; the text says what to change."""


class BadOption(MPLiteError, ValueError):
    """An option of the app, a task or a call has a value that it cannot have."""


class BadArguments(MPLiteError, TypeError):
    """The arguments do not fit the task's signature; call it as its function is declared."""


class NotSerializable(MPLiteError, TypeError):
    """A value cannot be sent: pass plain data (numbers, strings, lists, mappings), or an id to load it by."""


class BrokerUnavailable(MPLiteError, ConnectionError):
    """The broker could not be reached in time; start it, or correct the app's broker URL."""


class UnknownTask(MPLiteError, LookupError):
    """The worker knows no task of this name: import its module in the app, or name it in ``include=``."""


class UndecodableMessage(MPLiteError, ValueError):
    """The message is not one that a task's caller sends; it lies in the dead letters of its queue."""


class TaskExpired(MPLiteError):
    """The task was not started before it expired; give it a higher priority, or a later ``expires=``."""


class RetriesExhausted(MPLiteError):
    """The task asked to be retried more often than its policy allows; see ``retry=``."""


class ResultIgnored(MPLiteError):
    """This task keeps no result (``ignore_result=True``), so there is nothing to wait for."""


class ResultTimeout(MPLiteError, TimeoutError):
    """The result did not arrive in time; the task may still wait, run, or be retried."""


class TaskError(MPLiteError):
    """A task failed with an exception that cannot be brought back as its own type.

    Parameters:
        text: type and message of the exception, as the worker saw it.
        type_name: ``module:qualname`` of the exception's class.
        traceback: the worker's traceback as text.
    """

    def __init__(self, text: str | None = None, *, type_name: str = "", traceback: str = "") -> None:
        super().__init__(text)
        self.type_name = type_name
        self.traceback = traceback


class RemoteTraceback(Exception):
    """The traceback of an exception that was raised in a worker, as text; it is the ``__cause__`` of the exception."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


class AppNotFound(MPLiteError, LookupError):
    """There is no app where ``-A`` says; give ``module:attribute``, such as ``-A proj:app``."""


class HandlerNotFound(MPLiteError, LookupError):
    """There is no function where ``mplite handle`` was told to look; give ``module:function``."""


class ForkRefused(MPLiteError, RuntimeError):
    """The app starts threads while it is imported, and a process with threads cannot be forked safely."""

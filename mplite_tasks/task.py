"""A task: a function, its options, and the ways to call it here or to send it to a worker."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from .arguments import ArgumentCheck
from .options import CallOptions, TaskOptions
from .result import Result
from .signature import Signature

__all__ = ["Sender", "Task"]

P = ParamSpec("P")
R = TypeVar("R")


class SendsMany(Protocol):
    """What a task needs of its app."""

    def send(self, signature: Signature[Any]) -> Result[Any]:
        """Send one call."""

    def send_many(self, signatures: Iterable[Signature[R]]) -> list[Result[R]]:
        """Send many calls, pipelined."""


class Sender(Generic[P, R]):
    """A task with the options of a call: what ``task.options(...)`` returns.

    Its :meth:`delay` takes exactly the parameters of the function, so type checkers check each argument.
    """

    def __init__(self, task: Task[P, R], options: CallOptions) -> None:
        self._task = task
        self._options = options

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Send the task with these arguments. Raises as :meth:`Task.delay` does."""
        return self._task.app.send(self._signature(args, kwargs))

    def delay_many(self, arguments: Iterable[Sequence[Any]]) -> list[Result[R]]:
        """Send one task for each tuple of positional arguments, pipelined; returns when all are confirmed."""
        return self._task.app.send_many([self._signature(tuple(args), {}) for args in arguments])

    def s(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """Return the call as a :class:`Signature`, which may be completed when it is sent."""
        return self._signature(args, kwargs)

    def si(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R]:
        """Return the call as a :class:`Signature` that is complete."""
        return self._signature(args, kwargs, immutable=True)

    def _signature(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], immutable: bool = False) -> Signature[R]:
        return Signature(self._task.name, args, kwargs, self._options, immutable, self._task.app)

    def __repr__(self) -> str:
        return f"<Sender of {self._task.name} with {self._options}>"


class Task(Generic[P, R]):
    """A function that can be sent to a worker; made by ``@app.task``.

    Calling it runs the function here and now.
    """

    def __init__(self, app: SendsMany, function: Callable[P, R], name: str, options: TaskOptions) -> None:
        functools.update_wrapper(self, function)
        self.app = app
        self.function = function
        self.name = name
        self.declared = options
        self.arguments = ArgumentCheck(function, name)
        self._plain = Sender(self, CallOptions())

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here."""
        return self.function(*args, **kwargs)

    @overload
    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]: ...
    @overload
    def delay(self, *args: Any, priority: int, **kwargs: Any) -> Result[R]: ...
    def delay(self, *args: Any, **kwargs: Any) -> Result[R]:
        """Send the task to a worker with these arguments, and return its result to be.

        It is in the broker's queue for good when this returns.

        Parameters:
            priority: a signed 32-bit integer; higher runs first. Default: the task's. With it, type checkers do not
                check the other arguments: ``task.options(priority=n).delay(...)`` is the checked form.

        Raises :class:`BadArguments` if the arguments do not fit the function, :class:`NotSerializable` if one of them
        cannot be sent, :class:`BrokerUnavailable` if the broker cannot be reached.
        """
        if "priority" in kwargs:
            return self.options(priority=kwargs.pop("priority")).delay(*args, **kwargs)
        return self._plain.delay(*args, **kwargs)

    def options(
        self,
        *,
        priority: int | None = None,
        queue: str | None = None,
        countdown: float | timedelta | None = None,
        eta: datetime | float | None = None,
        expires: datetime | timedelta | float | None = None,
        headers: Mapping[str, Any] | None = None,
        id: str | None = None,
    ) -> Sender[P, R]:
        """Return a sender of this task with the options of a call; see :class:`CallOptions` for each."""
        return Sender(self, CallOptions(priority, queue, countdown, eta, expires, headers or {}, id))

    def apply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        priority: int | None = None,
        queue: str | None = None,
        countdown: float | timedelta | None = None,
        eta: datetime | float | None = None,
        expires: datetime | timedelta | float | None = None,
        headers: Mapping[str, Any] | None = None,
        id: str | None = None,
    ) -> Result[R]:
        """Send the task with arguments and options, as :meth:`options` and :meth:`delay` do in two steps."""
        call = CallOptions(priority, queue, countdown, eta, expires, headers or {}, id)
        return self.app.send(Signature(self.name, tuple(args), dict(kwargs or {}), call, app=self.app))

    def delay_many(self, arguments: Iterable[Sequence[Any]]) -> list[Result[R]]:
        """Send one task for each tuple of positional arguments, pipelined; returns when all are confirmed."""
        return self._plain.delay_many(arguments)

    def s(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """Return the call as a :class:`Signature`, which may be completed when it is sent."""
        return self._plain.s(*args, **kwargs)

    def si(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R]:
        """Return the call as a :class:`Signature` that is complete."""
        return self._plain.si(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

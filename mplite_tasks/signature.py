"""A call that was not made yet: task, arguments and options as one immutable value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from .errors import BadArguments
from .options import CallOptions
from .result import Result

__all__ = ["Signature"]

R_co = TypeVar("R_co", covariant=True)


class Sends(Protocol):
    """What a signature needs of its app."""

    def send(self, signature: Signature[Any]) -> Result[Any]:
        """Send the call that a signature describes."""


@dataclass(frozen=True, slots=True)
class Signature(Generic[R_co]):
    """What ``task.s(...)`` and ``task.si(...)`` return; to be sent later, or to be handed to somebody else.

    A signature of ``.s()`` may be completed when it is sent: further positional arguments come *before* its own, as in
    Celery. One of ``.si()`` is complete. Nothing is checked against the function until it is sent.

    Parameters:
        task: the task's name.
        args, kwargs: its arguments, as far as they are known.
        options: how it is sent.
        immutable: whether further arguments are refused.
    """

    task: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: CallOptions = field(default_factory=CallOptions)
    immutable: bool = False
    app: Sends | None = field(default=None, compare=False, repr=False)

    def set(
        self,
        *,
        priority: int | None = None,
        queue: str | None = None,
        countdown: float | timedelta | None = None,
        eta: datetime | float | None = None,
        expires: datetime | timedelta | float | None = None,
        headers: Mapping[str, Any] | None = None,
        id: str | None = None,
    ) -> Signature[R_co]:
        """Return the same call with other options; see :class:`CallOptions`."""
        changes: dict[str, Any] = {"priority": priority, "queue": queue, "countdown": countdown, "eta": eta}
        changes |= {"expires": expires, "headers": headers, "id": id}
        return replace(self, options=self.options.merged(changes))

    def completed(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Signature[R_co]:
        """Return the same call with further arguments: positional ones in front, keywords replacing."""
        if not args and not kwargs:
            return self
        if self.immutable:
            raise BadArguments(f"The signature of {self.task} was made with .si() and takes no further arguments.")
        return replace(self, args=(*args, *self.args), kwargs={**self.kwargs, **(kwargs or {})})

    def delay(self, *args: Any, **kwargs: Any) -> Result[R_co]:
        """Send it now, completed by these arguments."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Result[R_co]:
        """Send it now, completed by these arguments and with these options, which :meth:`set` names."""
        signature = self.completed(args, kwargs)
        if options:
            signature = signature.set(**options)
        if signature.app is None:
            raise BadArguments(f"The signature of {self.task} belongs to no app; make it with app.signature(...).")
        return signature.app.send(signature)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, as far as its arguments are; :meth:`MPLite.signature` reads it."""
        return {
            "task": self.task,
            "args": list(self.args),
            "kwargs": dict(self.kwargs),
            "options": self.options.as_dict(),
            "immutable": self.immutable,
        }

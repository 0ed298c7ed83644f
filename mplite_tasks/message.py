"""A task's message: a frozen value, how it goes on the wire and how it is read back.

The body is ``[args, kwargs]`` in the app's serializer. Everything that a worker needs to know about a task without
reading its arguments stands in the headers, under the names below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from kombu import Message

from mplite_tasks_transport import Publication

from .encoding import Encoded
from .errors import UndecodableMessage

__all__ = ["RESERVED_HEADERS", "Header", "TaskMessage", "read_arguments"]


class Header:
    """The names of the headers that are ours."""

    TASK: Final = "task"
    ID: Final = "id"
    RETRIES: Final = "retries"
    EXPIRES: Final = "expires"
    BEGAN: Final = "began"
    HISTORY: Final = "history"


#: A caller's own ``headers=`` may not use these.
RESERVED_HEADERS: Final = frozenset(value for name, value in vars(Header).items() if name.isupper())


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """What a caller asks for, once.

    Parameters:
        id: the task's id, and the message's id in its queue.
        task: the task's name.
        queue: where it waits.
        body: the encoded arguments.
        priority: a signed 32-bit integer; higher runs first.
        delay: seconds until it becomes ready, by the broker's clock.
        eta: the wall-clock time in seconds since the epoch at which it becomes ready.
        expires: the wall-clock time in seconds since the epoch after which it is not started any more.
        retries: how often it was retried.
        headers: the caller's own, and what a retry adds.
    """

    id: str
    task: str
    queue: str
    body: Encoded
    priority: int = 0
    delay: float = 0.0
    eta: float | None = None
    expires: float | None = None
    retries: int = 0
    headers: Mapping[str, Any] = field(default_factory=dict)

    def copy(self, **changes: Any) -> TaskMessage:
        """Return this message with other values."""
        return replace(self, **changes)

    def publication(self) -> Publication:
        """Return the message as the transport publishes it."""
        headers: dict[str, Any] = {**self.headers, Header.TASK: self.task, Header.ID: self.id}
        if self.retries:
            headers[Header.RETRIES] = self.retries
        if self.expires is not None:
            headers[Header.EXPIRES] = self.expires
        return Publication(
            queue=self.queue,
            id=self.id,
            body=self.body.body,
            content_type=self.body.content_type,
            content_encoding=self.body.content_encoding,
            priority=self.priority,
            headers=headers,
            properties={"correlation_id": self.id},
            delay=self.delay,
            eta=self.eta,
        )

    @classmethod
    def read(cls, message: Message, *, queue: str, priority: int) -> TaskMessage:
        """Return the message of a delivery, without decoding its body.

        Raises :class:`UndecodableMessage` if the headers are not what :meth:`publication` writes.
        """
        headers: dict[str, Any] = dict(message.headers)
        name = headers.pop(Header.TASK, None)
        id = headers.pop(Header.ID, None)
        retries = headers.pop(Header.RETRIES, 0)
        expires = headers.pop(Header.EXPIRES, None)
        headers.pop("compression", None)  # Kombu has decompressed the body
        if not isinstance(name, str) or not isinstance(id, str):
            raise UndecodableMessage(f"Its headers {Header.TASK!r} and {Header.ID!r} are not both strings.")
        if not isinstance(retries, int) or not isinstance(expires, int | float | None):
            raise UndecodableMessage(f"Its headers {Header.RETRIES!r} or {Header.EXPIRES!r} are not numbers.")
        content = message.body if isinstance(message.body, bytes) else str(message.body).encode()
        body = Encoded(content, message.content_type or "", message.content_encoding or "")
        return cls(id, name, queue, body, priority, expires=expires, retries=retries, headers=headers)


def read_arguments(message: Message) -> tuple[list[Any], dict[str, Any]]:
    """Return ``(args, kwargs)`` of a delivery. Raises :class:`UndecodableMessage` for anything else."""
    try:
        if message.errors:  # what Kombu met while it decompressed the body
            message._reraise_error()
        value = message.decode()
    except Exception as exc:
        raise UndecodableMessage(
            f"Its body ({message.content_type!r}, {len(message.body)} bytes) cannot be decoded: {exc}"
        ) from exc
    match value:
        case [list(args), dict(kwargs)] if all(isinstance(name, str) for name in kwargs):
            return args, kwargs
        case _:
            raise UndecodableMessage("Its body is not [arguments, keyword arguments].")

"""What a channel declares: exchanges, queues and bindings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from kombu.transport.base import to_rabbitmq_queue_arguments

from .. import frames
from ..errors import FeatureNotSupported

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["Declarations", "QueueDeclared"]


class QueueDeclared(NamedTuple):
    """The answer to a declaration: the queue's name, messages that wait in it, and its consumers."""

    queue: str
    message_count: int
    consumer_count: int


class Declarations:
    """The part of a channel that declares things.

    Every declaration waits for its answer, also with ``nowait``: a refusal is raised where it was caused.
    A declaration that is refused leaves the channel open.
    """

    connection: Connection | None

    def _call(self, frame: frames.Request, timeout: float | None = None) -> Any:
        raise NotImplementedError

    def exchange_declare(
        self,
        exchange: str,
        type: str = "direct",
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = False,
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Make sure that an exchange exists; ``passive`` only asks. Raises a channel error if that fails."""
        self._call(
            frames.DeclareExchange(
                0,
                exchange,
                kind=type,
                passive=bool(passive),
                durable=bool(durable),
                auto_delete=bool(auto_delete),
                arguments=dict(arguments or {}),
            )
        )

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False) -> None:
        """Delete an exchange and its bindings."""
        self._call(frames.DeleteExchange(0, exchange, if_unused=bool(if_unused)))

    def exchange_bind(self, destination: str, source: str = "", **kwargs: Any) -> None:
        """Raise :class:`FeatureNotSupported`: exchanges are bound to queues."""
        raise FeatureNotSupported(
            f"The exchange {source!r} cannot be bound to the exchange {destination!r}: this broker binds exchanges to "
            "queues. Bind the queues to both exchanges."
        )

    def exchange_unbind(self, destination: str, source: str = "", **kwargs: Any) -> None:
        """Raise :class:`FeatureNotSupported`, as :meth:`exchange_bind` does."""
        self.exchange_bind(destination, source)

    def queue_declare(
        self,
        queue: str = "",
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> QueueDeclared:
        """Make sure that a queue exists; ``passive`` only asks. An empty name is picked by the broker."""
        name, messages, consumers = self._call(
            frames.DeclareQueue(
                0,
                queue,
                passive=bool(passive),
                durable=bool(durable),
                exclusive=bool(exclusive),
                auto_delete=bool(auto_delete),
                arguments=dict(arguments or {}),
            )
        )
        return QueueDeclared(name, messages, consumers)

    def queue_bind(
        self,
        queue: str,
        exchange: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Route messages of an exchange to a queue."""
        self._call(frames.BindQueue(0, queue, exchange, routing_key or "", dict(arguments or {})))

    def queue_unbind(
        self,
        queue: str,
        exchange: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Take a binding back."""
        self._call(frames.UnbindQueue(0, queue, exchange, routing_key or "", dict(arguments or {})))

    def queue_purge(self, queue: str, nowait: bool = False) -> int:
        """Drop every waiting message. Returns how many."""
        return int(self._call(frames.PurgeQueue(0, queue)))

    def queue_delete(self, queue: str, if_unused: bool = False, if_empty: bool = False, nowait: bool = False) -> int:
        """Delete a queue. Returns how many messages were waiting."""
        return int(self._call(frames.DeleteQueue(0, queue, bool(if_unused), bool(if_empty))))

    def prepare_queue_arguments(self, arguments: Mapping[str, Any], **kwargs: Any) -> Mapping[str, Any]:
        """Return a queue's arguments by RabbitMQ's names, such as ``x-message-ttl`` for ``message_ttl``."""
        prepared: Mapping[str, Any] = to_rabbitmq_queue_arguments(arguments, **kwargs)
        return prepared

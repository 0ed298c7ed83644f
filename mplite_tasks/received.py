"""A received message, as a handler sees it: what the broker and the producer say about the body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kombu import Message

from mplite_tasks_transport import DeliveryFacts

from .errors import UndecodableMessage

__all__ = ["HandlerHeader", "ReceivedMessage", "read_body"]

#: The content types that a handler's messages may have, besides those without a serializer: text and bytes.
BODY_CONTENT_TYPES: Final = frozenset(
    {"application/json", "application/x-mplite-json", "text/plain", "application/octet-stream"}
)


class HandlerHeader:
    """The names of the headers by which a message remembers its earlier attempts."""

    RETRIES: Final = "x-mplite-retries"
    BEGAN: Final = "x-mplite-began"
    HISTORY: Final = "x-mplite-history"


_OURS: Final = frozenset({HandlerHeader.RETRIES, HandlerHeader.BEGAN, HandlerHeader.HISTORY, "compression"})


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """The facts of a message that a handler is called with.

    Parameters:
        id: the message's id in its queue; ``None`` where the broker and the producer give it none.
        queue: where it waited.
        priority: a signed 32-bit integer; higher runs first.
        headers: of the producer, without MPLite's own.
        properties: AMQP's, such as ``correlation_id`` and ``reply_to``.
        posted_at: when the broker received it, in microseconds since the epoch, if the broker says so. A retry is
            received anew.
        delivered_at: when the broker handed it out, by the same clock.
        deliveries: consumers that have died with it so far, if the broker counts them.
        retries: how often it was retried before.
    """

    id: str | None
    queue: str
    priority: int = 0
    headers: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    posted_at: int | None = None
    delivered_at: int | None = None
    deliveries: int | None = None
    retries: int = 0

    @classmethod
    def read(cls, message: Message, facts: DeliveryFacts) -> ReceivedMessage:
        """Return the facts of a delivery."""
        retries = message.headers.get(HandlerHeader.RETRIES)
        return cls(
            id=facts.id,
            queue=facts.queue or str(message.delivery_info.get("routing_key")),
            priority=facts.priority,
            headers={name: value for name, value in message.headers.items() if name not in _OURS},
            properties={name: value for name, value in message.properties.items() if name not in _ELSEWHERE},
            posted_at=facts.posted_at,
            delivered_at=facts.delivered_at,
            deliveries=facts.deliveries,
            retries=retries if isinstance(retries, int) and not isinstance(retries, bool) else 0,
        )


#: Properties that a received message has elsewhere, or that belong to the transport that it came by.
_ELSEWHERE: Final = frozenset(
    {
        "application_headers",
        "body_encoding",
        "content_encoding",
        "content_type",
        "delivery_info",
        "delivery_mode",
        "delivery_tag",
        "expiration",
        "headers",
        "message_id",
        "priority",
    }
)


def read_body(message: Message) -> Any:
    """Return the decoded body of a delivery: JSON, text or bytes. Nothing else is ever decoded.

    Raises :class:`UndecodableMessage` for a body that is not what its content type says, or of another content type.
    """
    try:
        if message.errors:  # what Kombu met while it decompressed the body
            message._reraise_error()
        if message.content_type == "application/octet-stream":
            return bytes(message.body)
        body = message.decode()
    except Exception as exc:
        raise UndecodableMessage(
            f"Its body ({message.content_type!r}, {len(message.body)} bytes) cannot be decoded: {exc}"
        ) from exc
    # Kombu gives an empty text back as bytes.
    return "" if body == b"" and message.content_type == "text/plain" else body

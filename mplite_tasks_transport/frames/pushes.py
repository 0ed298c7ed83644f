"""What the broker sends."""

from __future__ import annotations

from typing import Any

from .base import Frame

__all__ = [
    "Blocked",
    "ConsumerCancelled",
    "Deliver",
    "Failed",
    "Goodbye",
    "Ok",
    "Returned",
    "Unblocked",
]


class Ok(Frame, tag=100):
    """A request was done; its effects are committed."""

    r: int
    value: Any = None


class Failed(Frame, tag=101):
    """A request was refused and changed nothing. ``r`` is 0 for a request that wanted no answer."""

    r: int
    code: int
    text: str


class Deliver(Frame, tag=102):
    """A message for a consumer.

    Parameters:
        delivery: the delivery tag, rising within the channel.
        posted_at: the stamp of its arrival; unique in the broker.
        delivered_at: the stamp of this hand-out, from the same clock.
        deliveries: how often a consumer that had started with it died.
        redelivered: it may have been handed out before.
    """

    channel: int
    consumer: str
    delivery: int
    queue: str
    exchange: str
    routing_key: str
    id: str
    priority: int
    posted_at: int
    delivered_at: int
    deliveries: int
    redelivered: bool
    payload: bytes


class Returned(Frame, tag=103):
    """A mandatory message that asked for no answer found no queue."""

    exchange: str
    routing_key: str
    code: int
    text: str
    payload: bytes


class ConsumerCancelled(Frame, tag=104):
    """The broker ended a consumer, because its queue was deleted."""

    channel: int
    consumer: str


class Blocked(Frame, tag=105):
    """Publishes of this connection wait from now on; the text says for what."""

    reason: str


class Unblocked(Frame, tag=106):
    """Publishes go on."""


class Goodbye(Frame, tag=107):
    """The broker is about to close the connection."""

    code: int
    text: str

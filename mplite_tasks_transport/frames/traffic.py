"""Requests that move messages, and the verbs of the queue as an index."""

from __future__ import annotations

from .base import Frame
from .results import ResultRecord

__all__ = [
    "Ack",
    "CancelMessage",
    "Credit",
    "Get",
    "Position",
    "Publish",
    "Qos",
    "Recover",
    "Reject",
    "Reprioritise",
    "Settle",
    "Started",
]


class Publish(Frame, tag=10):
    """Hand a message over. Answered after the commit: ``True``, or ``False`` if no queue took it.

    Parameters:
        id: the key in the queue's index. A queue that holds this id, or held it within the deduplication window,
            takes it once: the repetition is confirmed and changes nothing.
        priority: a signed 32-bit integer; higher runs first.
        delay: microseconds from receipt until the message becomes ready. 0: at once.
        due: the wall-clock time at which it becomes ready. 0: at once.
        ttl: microseconds after which it expires while it still waits. 0: never.
        mandatory: answer ``Failed(NO_ROUTE)`` instead of ``False``.
        persistent: whether it outlives the broker (in a durable queue).
        wait: at a queue that is full (``x-max-length`` with ``x-overflow: reject-publish``) be answered when there is
            room, instead of ``Failed(LIMIT_REACHED)`` at once. Taken back by :class:`StopWaiting`.
    """

    r: int
    exchange: str
    routing_key: str
    id: str
    priority: int
    payload: bytes
    delay: int = 0
    due: int = 0
    ttl: int = 0
    mandatory: bool = False
    persistent: bool = True
    wait: bool = False


class Qos(Frame, tag=13):
    """Set how many deliveries without returned credit the whole channel may have. 0: any number. At once."""

    r: int
    channel: int
    prefetch: int


class Credit(Frame, tag=14):
    """Return credit for deliveries: the channel may be sent that many more."""

    r: int
    channel: int
    count: int = 1


class Ack(Frame, tag=15):
    """The delivery (with ``multiple``: and every earlier one of the channel) is done and leaves its queue.

    ``delivery`` 0 with ``multiple`` means all. ``credit`` returns the credit in the same step.
    """

    r: int
    channel: int
    delivery: int
    multiple: bool = False
    credit: bool = True


class Reject(Frame, tag=16):
    """The delivery is not done: back to its old place (``requeue``), or to the queue's dead letters, or dropped."""

    r: int
    channel: int
    delivery: int
    requeue: bool = False
    multiple: bool = False
    credit: bool = True


class Recover(Frame, tag=17):
    """Put everything that the channel holds back to its old place."""

    r: int
    channel: int


class Get(Frame, tag=18):
    """Take the best message of one queue. Answers ``None``, or the fields of :class:`Deliver` as a list."""

    r: int
    channel: int
    queue: str
    no_ack: bool = False


class Started(Frame, tag=19):
    """The consumer begins with this delivery now: if it dies, that counts towards the delivery limit."""

    r: int
    channel: int
    delivery: int


class Settle(Frame, tag=20):
    """In one step and one commit: ack the delivery, keep a result, publish what follows.

    A delivery that is no longer held is answered ``Failed(STALE)``, and nothing of it is done.
    """

    r: int
    channel: int
    delivery: int
    result: ResultRecord | None = None
    publish: list[Publish] = []
    credit: bool = True


class CancelMessage(Frame, tag=26):
    """Remove a waiting or delayed message. Answers whether it was there (a held one is not)."""

    r: int
    queue: str
    id: str


class Reprioritise(Frame, tag=27):
    """Give a waiting or delayed message another priority; its stamp stays. Answers whether it was there."""

    r: int
    queue: str
    id: str
    priority: int


class Position(Frame, tag=28):
    """Answers how many messages of the queue come before this one, or ``None`` if it does not wait."""

    r: int
    queue: str
    id: str

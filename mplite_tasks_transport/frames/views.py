"""Requests that read and write a queue as two dicts, and its lock."""

from __future__ import annotations

from enum import IntEnum

from .base import Frame

__all__ = [
    "AcquireQueueLock",
    "Half",
    "ReleaseQueueLock",
    "ViewClear",
    "ViewCount",
    "ViewGet",
    "ViewList",
    "ViewPop",
    "ViewSet",
    "WaitDrained",
]


class Half(IntEnum):
    """One of a queue's two dicts."""

    INDEX = 0
    QUEUE = 1


class ViewCount(Frame, tag=34):
    """Answers how many messages wait: the length of both dicts."""

    r: int
    queue: str


class ViewList(Frame, tag=35):
    """Read a part of a dict, in the order in which the messages run.

    Answers ``[[[id, value], …], next]``: of the index, values are ``[priority, posted_at]``; of the queue, payloads.
    ``next`` is what ``after`` is to be for the part that follows, ``None`` after the last one.
    """

    r: int
    queue: str
    half: Half
    after: tuple[int, int, str] | None = None
    most: int = 1000


class ViewGet(Frame, tag=36):
    """Read one value. Answers ``[value]``, or ``None`` if there is none."""

    r: int
    queue: str
    half: Half
    id: str


class ViewSet(Frame, tag=37):
    """Write one half of a message by hand.

    Of a message that waits, it changes the priority or the payload. Of one that does not exist, it is staged until the
    same connection has written the other half; then the message is published. Of one that this connection has popped
    this half of, it puts it back. Answers whether it was written (with ``if_absent``, not over what is there), none if
    it is staged.
    """

    r: int
    queue: str
    half: Half
    id: str
    priority: int = 0
    payload: bytes = b""
    if_absent: bool = False


class ViewPop(Frame, tag=38):
    """Pop one half of a waiting message. Answers ``[value]``, or ``None`` if there is none.

    The first half reserves the message for this connection, the second takes it: it is done. If the connection ends in
    between, the message is back at its old place.
    """

    r: int
    queue: str
    half: Half
    id: str


class ViewClear(Frame, tag=39):
    """Drop every waiting message, both halves. Answers how many."""

    r: int
    queue: str


class AcquireQueueLock(Frame, tag=40):
    """Take the lock of a queue: nobody else, the broker's own matching included, takes messages out meanwhile.

    Answers ``True`` when this connection has it, ``False`` if it did not get it in time. It ends with the connection,
    and is taken back after ``lease``; the next request of this connection about the queue is then refused once (409).

    Parameters:
        wait: microseconds to wait at most; 0 does not wait, a negative number waits for ever.
        lease: microseconds that it may be held.
    """

    r: int
    queue: str
    wait: int = -1
    lease: int = 30_000_000


class ReleaseQueueLock(Frame, tag=41):
    """Give the lock of a queue back."""

    r: int
    queue: str


class WaitDrained(Frame, tag=42):
    """Answered when the queue has no message any more: none that waits, none that is delayed, none that is held."""

    r: int
    queue: str

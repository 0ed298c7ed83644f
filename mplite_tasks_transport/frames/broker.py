"""Requests about the connection, named locks and the broker itself."""

from __future__ import annotations

from .base import Frame

__all__ = [
    "AcquireLock",
    "Identify",
    "Ping",
    "ReleaseLock",
    "Status",
    "StopWaiting",
]


class StopWaiting(Frame, tag=25):
    """Take back a request that waits and was not answered yet; it never will be, and what it asked for is not done.

    Those that wait are :class:`WaitResult`, :class:`WaitDrained`, :class:`AcquireQueueLock`, and :class:`Publish` with
    ``wait``.
    """

    r: int
    request: int


class AcquireLock(Frame, tag=29):
    """Take a named lock for this connection. Answers whether it has it now; it ends with the connection."""

    r: int
    name: str


class ReleaseLock(Frame, tag=30):
    """Give a named lock back."""

    r: int
    name: str


class Status(Frame, tag=31):
    """Answers a mapping: version, pid, durability, uptime, connections, memory, and the vhost's queues with counts."""

    r: int


class Ping(Frame, tag=32):
    """Answers the broker's clock."""

    r: int


class Identify(Frame, tag=33):
    """Name the consumer behind this connection, so that the death of the *broker* does not make its work run twice.

    From now on the broker keeps in its journal which started deliveries this connection holds. A later connection
    with the same identity takes over what an earlier one held when the broker ended: answers the list of their
    ``posted_at``, by which they are settled on channel 0 (``Ack``, ``Reject``, ``Settle`` with ``delivery`` =
    ``posted_at``). Until then they stay held as long as the process lives (unix socket), or for
    ``RESUME_SECONDS`` (TCP).
    """

    r: int
    identity: str

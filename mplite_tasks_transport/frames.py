"""Every frame of the protocol, as typed values. ``docs/protocol.md`` says what each does and what it answers.

A frame is a msgpack array whose first element is the frame's number and whose second, in what a client sends, is the
request id ``r``: 0 wants no answer, any other number is answered by exactly one :class:`Ok` or :class:`Failed` with
the same ``r``. New fields are added at the end, with a default, so that a peer of a lower minor version is understood.
Times are microseconds since the epoch by the broker's clock.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import msgspec

__all__ = [
    "Ack",
    "AcquireLock",
    "AcquireQueueLock",
    "BindQueue",
    "Blocked",
    "CancelConsumer",
    "CancelMessage",
    "CloseChannel",
    "Consume",
    "ConsumerCancelled",
    "Credit",
    "DeclareExchange",
    "DeclareQueue",
    "DeleteExchange",
    "DeleteQueue",
    "Deliver",
    "Failed",
    "ForgetResults",
    "Get",
    "GetResult",
    "Goodbye",
    "Half",
    "Identify",
    "Ok",
    "OpenChannel",
    "Ping",
    "Position",
    "Publish",
    "PurgeQueue",
    "Push",
    "Qos",
    "Recover",
    "Reject",
    "ReleaseLock",
    "ReleaseQueueLock",
    "Reprioritise",
    "Request",
    "ResultRecord",
    "Returned",
    "Settle",
    "Started",
    "Status",
    "StopWaiting",
    "StoreResult",
    "UnbindQueue",
    "Unblocked",
    "ViewClear",
    "ViewCount",
    "ViewGet",
    "ViewList",
    "ViewPop",
    "ViewSet",
    "WaitDrained",
    "WaitResult",
]


class _Frame(msgspec.Struct, array_like=True, gc=False):
    pass


class OpenChannel(_Frame, tag=1):
    """Open a channel. The client picks the number, 1 or more."""

    r: int
    channel: int


class CloseChannel(_Frame, tag=2):
    """Close a channel: its consumers end, what it held goes back to its old place."""

    r: int
    channel: int


class DeclareExchange(_Frame, tag=3):
    """Make sure that an exchange exists; ``passive`` only asks."""

    r: int
    name: str
    kind: str = "direct"
    passive: bool = False
    durable: bool = True
    auto_delete: bool = False
    arguments: dict[str, Any] = {}


class DeleteExchange(_Frame, tag=4):
    """Delete an exchange and its bindings."""

    r: int
    name: str
    if_unused: bool = False


class DeclareQueue(_Frame, tag=5):
    """Make sure that a queue exists. Answers ``[name, messages waiting, consumers]``; an empty name is picked."""

    r: int
    name: str
    passive: bool = False
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    arguments: dict[str, Any] = {}


class DeleteQueue(_Frame, tag=6):
    """Delete a queue with all that it holds. Answers the number of messages that were waiting."""

    r: int
    name: str
    if_unused: bool = False
    if_empty: bool = False


class BindQueue(_Frame, tag=7):
    """Route messages of an exchange to a queue."""

    r: int
    queue: str
    exchange: str
    routing_key: str = ""
    arguments: dict[str, Any] = {}


class UnbindQueue(_Frame, tag=8):
    """Take a binding back. One that does not exist is no error (RabbitMQ's reading of AMQP)."""

    r: int
    queue: str
    exchange: str
    routing_key: str = ""
    arguments: dict[str, Any] = {}


class PurgeQueue(_Frame, tag=9):
    """Drop every waiting message, also those that are not due yet. Answers how many."""

    r: int
    name: str


class Publish(_Frame, tag=10):
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


class Consume(_Frame, tag=11):
    """Register a consumer. Its tag is unique in its channel.

    The argument ``x-starts-on-delivery`` (true) says that each delivery counts as :class:`Started` when handed out.
    """

    r: int
    channel: int
    tag: str
    queue: str
    no_ack: bool = False
    exclusive: bool = False
    arguments: dict[str, Any] = {}


class CancelConsumer(_Frame, tag=12):
    """End a consumer. What it holds stays held until it is settled."""

    r: int
    channel: int
    tag: str


class Qos(_Frame, tag=13):
    """Set how many deliveries without returned credit the whole channel may have. 0: any number. At once."""

    r: int
    channel: int
    prefetch: int


class Credit(_Frame, tag=14):
    """Return credit for deliveries: the channel may be sent that many more."""

    r: int
    channel: int
    count: int = 1


class Ack(_Frame, tag=15):
    """The delivery (with ``multiple``: and every earlier one of the channel) is done and leaves its queue.

    ``delivery`` 0 with ``multiple`` means all. ``credit`` returns the credit in the same step.
    """

    r: int
    channel: int
    delivery: int
    multiple: bool = False
    credit: bool = True


class Reject(_Frame, tag=16):
    """The delivery is not done: back to its old place (``requeue``), or to the queue's dead letters, or dropped."""

    r: int
    channel: int
    delivery: int
    requeue: bool = False
    multiple: bool = False
    credit: bool = True


class Recover(_Frame, tag=17):
    """Put everything that the channel holds back to its old place."""

    r: int
    channel: int


class Get(_Frame, tag=18):
    """Take the best message of one queue. Answers ``None``, or the fields of :class:`Deliver` as a list."""

    r: int
    channel: int
    queue: str
    no_ack: bool = False


class Started(_Frame, tag=19):
    """The consumer begins with this delivery now: if it dies, that counts towards the delivery limit."""

    r: int
    channel: int
    delivery: int


class ResultRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The outcome of a task as the broker keeps it.

    Parameters:
        id: the task's id.
        state: a word such as ``SUCCESS``, ``FAILURE`` or ``RETRY``.
        value: opaque bytes.
        final: whether waiters are told. A record that is not final is replaced by the next.
        ttl: microseconds until it expires.
    """

    id: str
    state: str
    value: bytes
    final: bool = True
    ttl: int = 86_400_000_000


class Settle(_Frame, tag=20):
    """In one step and one commit: ack the delivery, keep a result, publish what follows.

    A delivery that is no longer held is answered ``Failed(STALE)``, and nothing of it is done.
    """

    r: int
    channel: int
    delivery: int
    result: ResultRecord | None = None
    publish: list[Publish] = []
    credit: bool = True


class StoreResult(_Frame, tag=21):
    """Keep a result, replacing an earlier one of the same id."""

    r: int
    result: ResultRecord


class WaitResult(_Frame, tag=22):
    """Answered ``[state, value]`` as soon as a final result of this id is there."""

    r: int
    id: str


class GetResult(_Frame, tag=23):
    """Answers ``[state, value, final]``: what is known now. ``["STARTED", b"", False]`` while a consumer that reported
    :class:`Started` holds the message of this id, and ``None`` if nothing is known."""

    r: int
    id: str


class ForgetResults(_Frame, tag=24):
    """Drop results. Answers how many there were."""

    r: int
    ids: list[str]


class StopWaiting(_Frame, tag=25):
    """Take back a request that waits and was not answered yet; it never will be, and what it asked for is not done.

    Those that wait are :class:`WaitResult`, :class:`WaitDrained`, :class:`AcquireQueueLock`, and :class:`Publish` with
    ``wait``.
    """

    r: int
    request: int


class CancelMessage(_Frame, tag=26):
    """Remove a waiting or delayed message. Answers whether it was there (a held one is not)."""

    r: int
    queue: str
    id: str


class Reprioritise(_Frame, tag=27):
    """Give a waiting or delayed message another priority; its stamp stays. Answers whether it was there."""

    r: int
    queue: str
    id: str
    priority: int


class Position(_Frame, tag=28):
    """Answers how many messages of the queue come before this one, or ``None`` if it does not wait."""

    r: int
    queue: str
    id: str


class AcquireLock(_Frame, tag=29):
    """Take a named lock for this connection. Answers whether it has it now; it ends with the connection."""

    r: int
    name: str


class ReleaseLock(_Frame, tag=30):
    """Give a named lock back."""

    r: int
    name: str


class Status(_Frame, tag=31):
    """Answers a mapping: version, pid, durability, uptime, connections, memory, and the vhost's queues with counts."""

    r: int


class Ping(_Frame, tag=32):
    """Answers the broker's clock."""

    r: int


class Identify(_Frame, tag=33):
    """Name the consumer behind this connection, so that the death of the *broker* does not make its work run twice.

    From now on the broker keeps in its journal which started deliveries this connection holds. A later connection
    with the same identity takes over what an earlier one held when the broker ended: answers the list of their
    ``posted_at``, by which they are settled on channel 0 (``Ack``, ``Reject``, ``Settle`` with ``delivery`` =
    ``posted_at``). Until then they stay held as long as the process lives (unix socket), or for
    ``RESUME_SECONDS`` (TCP).
    """

    r: int
    identity: str


class Half(IntEnum):
    """One of a queue's two dicts."""

    INDEX = 0
    QUEUE = 1


class ViewCount(_Frame, tag=34):
    """Answers how many messages wait: the length of both dicts."""

    r: int
    queue: str


class ViewList(_Frame, tag=35):
    """Read a part of a dict, in the order in which the messages run.

    Answers ``[[[id, value], …], next]``: of the index, values are ``[priority, posted_at]``; of the queue, payloads.
    ``next`` is what ``after`` is to be for the part that follows, ``None`` after the last one.
    """

    r: int
    queue: str
    half: Half
    after: tuple[int, int, str] | None = None
    most: int = 1000


class ViewGet(_Frame, tag=36):
    """Read one value. Answers ``[value]``, or ``None`` if there is none."""

    r: int
    queue: str
    half: Half
    id: str


class ViewSet(_Frame, tag=37):
    """Write one half of a message by hand.

    Of a message that waits, it changes the priority or the payload. Of one that does not exist, it is staged until the
    same connection has written the other half; then the message is published. Of one that this connection has popped
    this half of, it puts it back. Answers whether it was written: with ``if_absent``, not over what is there.
    """

    r: int
    queue: str
    half: Half
    id: str
    priority: int = 0
    payload: bytes = b""
    if_absent: bool = False


class ViewPop(_Frame, tag=38):
    """Pop one half of a waiting message. Answers ``[value]``, or ``None`` if there is none.

    The first half reserves the message for this connection, the second takes it: it is done. If the connection ends in
    between, the message is back at its old place.
    """

    r: int
    queue: str
    half: Half
    id: str


class ViewClear(_Frame, tag=39):
    """Drop every waiting message, both halves. Answers how many."""

    r: int
    queue: str


class AcquireQueueLock(_Frame, tag=40):
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


class ReleaseQueueLock(_Frame, tag=41):
    """Give the lock of a queue back."""

    r: int
    queue: str


class WaitDrained(_Frame, tag=42):
    """Answered when the queue has no message any more: none that waits, none that is delayed, none that is held."""

    r: int
    queue: str


Request = (
    OpenChannel
    | CloseChannel
    | DeclareExchange
    | DeleteExchange
    | DeclareQueue
    | DeleteQueue
    | BindQueue
    | UnbindQueue
    | PurgeQueue
    | Publish
    | Consume
    | CancelConsumer
    | Qos
    | Credit
    | Ack
    | Reject
    | Recover
    | Get
    | Started
    | Settle
    | StoreResult
    | WaitResult
    | GetResult
    | ForgetResults
    | StopWaiting
    | CancelMessage
    | Reprioritise
    | Position
    | AcquireLock
    | ReleaseLock
    | Status
    | Ping
    | Identify
    | ViewCount
    | ViewList
    | ViewGet
    | ViewSet
    | ViewPop
    | ViewClear
    | AcquireQueueLock
    | ReleaseQueueLock
    | WaitDrained
)


class Ok(_Frame, tag=100):
    """A request was done; its effects are committed."""

    r: int
    value: Any = None


class Failed(_Frame, tag=101):
    """A request was refused and changed nothing. ``r`` is 0 for a request that wanted no answer."""

    r: int
    code: int
    text: str


class Deliver(_Frame, tag=102):
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


class Returned(_Frame, tag=103):
    """A mandatory message that asked for no answer found no queue."""

    exchange: str
    routing_key: str
    code: int
    text: str
    payload: bytes


class ConsumerCancelled(_Frame, tag=104):
    """The broker ended a consumer, because its queue was deleted."""

    channel: int
    consumer: str


class Blocked(_Frame, tag=105):
    """Publishes of this connection wait from now on; the text says for what."""

    reason: str


class Unblocked(_Frame, tag=106):
    """Publishes go on."""


class Goodbye(_Frame, tag=107):
    """The broker is about to close the connection."""

    code: int
    text: str


Push = Ok | Failed | Deliver | Returned | ConsumerCancelled | Blocked | Unblocked | Goodbye

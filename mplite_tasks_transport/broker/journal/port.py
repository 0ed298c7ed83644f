"""The journal port: what must outlive the broker, as records, and what a journal promises about them.

A journal appends the records of one turn of the broker as one transaction and calls ``on_durable(seq)`` when they are
as safe as its durability level promises. It never reorders, and never does half a turn. At the start ``load()`` gives
back what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any, Protocol

import msgspec

__all__ = [
    "DropBinding",
    "DropExchange",
    "DropHolder",
    "DropMessage",
    "DropQueue",
    "DropRecent",
    "DropResult",
    "Durability",
    "Journal",
    "KeepBinding",
    "KeepExchange",
    "KeepHolder",
    "KeepMessage",
    "KeepQueue",
    "KeepRecent",
    "KeepResult",
    "Record",
]


class Durability(StrEnum):
    """What a confirm means.

    ``os``: written to the operating system; survives ``kill -9`` of the broker, not a power cut.
    ``fsync``: on the disk; survives a power cut, as far as the disk keeps its word.
    ``memory``: nothing; everything ends with the broker.
    """

    OS = "os"
    FSYNC = "fsync"
    MEMORY = "memory"


class _Record(msgspec.Struct, frozen=True, gc=False):
    pass


class KeepQueue(_Record, frozen=True):
    """A durable queue exists. ``number`` is its key in the journal, unique for ever."""

    number: int
    vhost: str
    name: str
    auto_delete: bool
    arguments: dict[str, Any]


class DropQueue(_Record, frozen=True):
    """A durable queue and all of its messages, bindings and recent ids are gone."""

    number: int


class KeepMessage(_Record, frozen=True):
    """A message is in a queue; replaces the record with the same ``stamp``.

    ``stamp`` is its arrival, unique in the broker, in microseconds. ``due`` (microseconds since the epoch, 0: none) is
    when it becomes or became ready; ``expires`` (the same unit, 0: never) is when it expires.
    """

    stamp: int
    queue: int
    id: str
    priority: int
    due: int
    expires: int
    deliveries: int
    exchange: str
    routing_key: str
    payload: bytes


class DropMessage(_Record, frozen=True):
    """A message left its queue."""

    stamp: int


class KeepExchange(_Record, frozen=True):
    """A durable exchange exists."""

    vhost: str
    name: str
    kind: str
    auto_delete: bool
    arguments: dict[str, Any]


class DropExchange(_Record, frozen=True):
    """A durable exchange and its bindings are gone."""

    vhost: str
    name: str


class KeepBinding(_Record, frozen=True):
    """A durable exchange is bound to a durable queue."""

    vhost: str
    exchange: str
    queue: int
    routing_key: str
    arguments: dict[str, Any]


class DropBinding(_Record, frozen=True):
    """That binding is gone."""

    vhost: str
    exchange: str
    queue: int
    routing_key: str
    arguments: dict[str, Any]


class KeepResult(_Record, frozen=True):
    """A result is kept; replaces an earlier one of the same id. ``expires`` is in microseconds since the epoch."""

    vhost: str
    id: str
    state: str
    value: bytes
    final: bool
    expires: int


class DropResult(_Record, frozen=True):
    """A result is forgotten or expired."""

    vhost: str
    id: str


class KeepHolder(_Record, frozen=True):
    """A consumer holds the messages with these stamps and has started with them; replaces its earlier record.

    Stamps of messages that are gone have no meaning any more. ``pid`` and ``pid_started`` (the kernel's start time
    of the process, in clock ticks) name the process on this machine, 0 for a consumer that came over TCP.
    """

    identity: str
    pid: int
    pid_started: int
    stamps: list[int]


class DropHolder(_Record, frozen=True):
    """That consumer's connection ended; it holds nothing."""

    identity: str


class KeepRecent(_Record, frozen=True):
    """These ids were settled in a queue in one turn; a repetition of one of them is no new message.

    ``stamp`` is when, in microseconds since the epoch, and differs from that of every other such record of the queue.
    """

    queue: int
    stamp: int
    ids: list[str]


class DropRecent(_Record, frozen=True):
    """What was settled in a queue before a stamp is not remembered any more."""

    queue: int
    before: int


Record = (
    KeepQueue
    | DropQueue
    | KeepMessage
    | DropMessage
    | KeepExchange
    | DropExchange
    | KeepBinding
    | DropBinding
    | KeepResult
    | DropResult
    | KeepHolder
    | DropHolder
    | KeepRecent
    | DropRecent
)


class Journal(Protocol):
    """Where a broker's records are kept."""

    #: What a confirm means with this journal.
    durability: Durability

    #: Called with a sequence number when everything up to it is as safe as ``durability`` promises; on the thread
    #: that called :meth:`append`, during the call, where nothing has to be waited for. The broker sets it, and brings
    #: calls from another thread to its loop itself.
    on_durable: Callable[[int], None]

    #: Called with the error when nothing can be kept any more (a failed fsync): the broker ends.
    on_failure: Callable[[BaseException], None]

    def load(self) -> Iterable[Record]:
        """Return what is kept: exchanges, then queues, bindings, messages in the order of their stamps, holders,
        results, recent ids in the order of their stamps.

        Only ``Keep…`` records. Called once, before the first :meth:`append`.
        """

    def last_stamp(self) -> int:
        """Return a stamp, in microseconds, that is not before any that was ever appended; 0 in a new journal.

        After a clean end it is the last one. After a crash it may be up to a second later: a journal may reserve
        stamps ahead, so as not to write one with every transaction.
        """

    def append(self, records: Sequence[Record], last_stamp: int) -> int:
        """Keep the records of one turn, in their order, as one transaction, and return its sequence number.

        Sequence numbers rise by one from 1. ``last_stamp`` is the last that the broker's clock gave out.
        Raises :class:`~mplite_tasks_transport.errors.JournalError` when the records could not be kept; then none of
        them is.
        """

    def close(self) -> None:
        """Finish what was appended and let go of the files."""

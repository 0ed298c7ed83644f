"""``shared_index``: the waiting messages of one queue by id, kept in the order in which they run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from sortedcontainers import SortedList

from .agenda import Appointment

__all__ = ["Entry", "PriorityIndex", "SortKey"]

#: Smaller runs first: negated priority, then arrival, then the id (two delayed messages may come due together).
SortKey: TypeAlias = tuple[int, int, str]


class Entry:
    """What the index knows of one message: everything but its payload.

    Attributes:
        id: the message's id in this queue.
        priority: higher runs first.
        stamp: its arrival at the broker, unique, in microseconds since the epoch.
        due: when it becomes, or became, ready (microseconds since the epoch); 0 for at once.
        expires: when it expires if it still waits (microseconds since the epoch); 0 for never.
        deliveries: how often a consumer that had started with it died.
        redelivered: whether it may have been handed out before.
        exchange, routing_key: how it was published.
        kept: whether the journal has it.
        alarm: what the agenda has for it: that it comes due, or that it expires.
    """

    __slots__ = (
        "alarm",
        "deliveries",
        "due",
        "exchange",
        "expires",
        "id",
        "kept",
        "priority",
        "redelivered",
        "routing_key",
        "stamp",
    )

    def __init__(
        self,
        id: str,
        priority: int,
        stamp: int,
        *,
        due: int = 0,
        expires: int = 0,
        deliveries: int = 0,
        redelivered: bool = False,
        exchange: str = "",
        routing_key: str = "",
        kept: bool = False,
    ) -> None:
        self.id = id
        self.priority = priority
        self.stamp = stamp
        self.due = due
        self.expires = expires
        self.deliveries = deliveries
        self.redelivered = redelivered
        self.exchange = exchange
        self.routing_key = routing_key
        self.kept = kept
        self.alarm: Appointment | None = None

    @property
    def key(self) -> SortKey:
        """Its place in the queue. A delayed message takes its place among those that arrive when it comes due."""
        return (-self.priority, self.due if self.due > self.stamp else self.stamp, self.id)

    def __repr__(self) -> str:
        return f"<Entry {self.id} priority={self.priority} stamp={self.stamp}>"


class PriorityIndex:
    """The waiting messages of a queue in exact order: highest priority, then earliest arrival.

    The order is kept, not made anew: adding, taking the best, removing by id and ranking are O(log n) at a million.
    """

    __slots__ = ("_entries", "_order")

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._order: SortedList[SortKey] = SortedList()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, id: str) -> bool:
        return id in self._entries

    def __iter__(self) -> Iterator[Entry]:
        """Iterate in the order in which the messages run."""
        return (self._entries[id] for _, _, id in self._order)

    def after(self, key: SortKey | None) -> Iterator[Entry]:
        """Iterate from behind a sort key on, or from the start; the entry of that key need not be there any more."""
        keys = self._order if key is None else self._order.irange(minimum=key, inclusive=(False, True))
        return (self._entries[id] for _, _, id in keys)

    def get(self, id: str) -> Entry | None:
        """Return the entry of an id, ``None`` if it does not wait."""
        return self._entries.get(id)

    def add(self, entry: Entry) -> None:
        """Put an entry in its place. Its id must not be in the index."""
        self._entries[entry.id] = entry
        self._order.add(entry.key)

    def best_key(self) -> SortKey | None:
        """Return the sort key of the message that runs next, ``None`` if none waits."""
        return self._order[0] if self._entries else None

    def pop_best(self) -> Entry:
        """Remove and return the message that runs next. Raises :class:`IndexError` if none waits."""
        return self._entries.pop(self._order.pop(0)[2])

    def remove(self, id: str) -> Entry | None:
        """Remove and return an entry, ``None`` if it does not wait."""
        entry = self._entries.pop(id, None)
        if entry is not None:
            self._order.remove(entry.key)
        return entry

    def rank(self, id: str) -> int | None:
        """Return how many messages run before this one, ``None`` if it does not wait."""
        entry = self._entries.get(id)
        return None if entry is None else int(self._order.index(entry.key))

    def clear(self) -> list[Entry]:
        """Remove and return everything."""
        entries = list(self._entries.values())
        self._entries.clear()
        self._order.clear()
        return entries

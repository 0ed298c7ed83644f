"""The ids that were settled lately, so that a publish in doubt that is sent again is kept once."""

from __future__ import annotations

from collections.abc import Iterable

from ..limits import DEDUPLICATION_IDS, DEDUPLICATION_SECONDS

__all__ = ["RecentIds"]


class RecentIds:
    """Remembers ids for at least ``seconds`` and at most twice that, unless more than ``most`` come within that time.

    Two generations: when the younger is old enough or full, it becomes the older one and the older one is forgotten.
    That needs no timer and no time for each id.
    """

    __slots__ = ("_batch", "_born", "_dropped", "_most", "_older", "_since", "_span", "_younger")

    def __init__(self, seconds: float = DEDUPLICATION_SECONDS, most: int = DEDUPLICATION_IDS) -> None:
        self._span = int(seconds * 1_000_000)
        self._most = most
        self._born = 0
        self._since = 0
        self._dropped = 0
        self._batch = 0
        self._younger: set[str] = set()
        self._older: set[str] = set()

    def add(self, id: str, now: int) -> None:
        """Remember an id. ``now`` is in microseconds; when it goes back, ids are remembered longer."""
        self._age(now)
        if len(self._younger) >= self._most:
            self._older, self._younger, self._since, self._born = self._younger, set(), self._born, now
        self._younger.add(id)

    def next_batch(self, now: int) -> int:
        """Return a stamp for the ids of this turn in the journal, later than that of every turn before."""
        self._batch = max(now, self._batch + 1)
        return self._batch

    def newly_forgotten(self) -> int | None:
        """Return the time before which everything has been forgotten, if that has changed since the last call."""
        if self._since <= self._dropped:
            return None
        self._dropped = self._since
        return self._since

    def restore(self, ids: Iterable[str], stamp: int) -> None:
        """Remember a turn's ids that the journal has."""
        self._batch = max(self._batch, stamp)
        for id in ids:
            self.add(id, stamp)

    def has(self, id: str, now: int) -> bool:
        """Return whether an id is remembered. An id that is used again later is not taken for a repetition."""
        self._age(now)
        return id in self._younger or id in self._older

    def _age(self, now: int) -> None:
        age = now - self._born
        if age > 2 * self._span:
            self._older, self._younger, self._since, self._born = set(), set(), now, now
        elif age > self._span:
            self._older, self._younger, self._since, self._born = (
                self._younger,
                set(),
                self._born,
                self._born + self._span,
            )

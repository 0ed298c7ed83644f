"""The ids that were settled lately, so that a publish in doubt that is sent again is kept once."""

from __future__ import annotations

from ..limits import DEDUPLICATION_IDS, DEDUPLICATION_SECONDS

__all__ = ["RecentIds"]


class RecentIds:
    """Remembers ids for at least ``seconds``, unless more than ``most`` come within that time.

    Two generations: when the younger is old enough or full, it becomes the older one and the older one is forgotten.
    That needs no timer and no time for each id.
    """

    __slots__ = ("_born", "_most", "_older", "_span", "_younger")

    def __init__(self, seconds: float = DEDUPLICATION_SECONDS, most: int = DEDUPLICATION_IDS) -> None:
        self._span = int(seconds * 1_000_000)
        self._most = most
        self._born = 0
        self._younger: set[str] = set()
        self._older: set[str] = set()

    def add(self, id: str, now: int) -> None:
        """Remember an id. ``now`` is in microseconds and never goes back."""
        if now - self._born > self._span or len(self._younger) >= self._most:
            self._older, self._younger = self._younger, set()
            self._born = now
        self._younger.add(id)

    def __contains__(self, id: str) -> bool:
        return id in self._younger or id in self._older

"""The broker's one clock: microsecond stamps that always increase."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock", "wall_microseconds"]


def wall_microseconds() -> int:
    """Return the wall-clock time in microseconds since the epoch."""
    return time.time_ns() // 1000


class Clock:
    """Gives out stamps: the wall-clock time in microseconds, and never the same or an earlier one twice.

    When the wall clock stands still or is set back, stamps go on by one microsecond each until it has caught up.

    Parameters:
        last: the last stamp given out in an earlier life of the broker.
        now: the wall clock, in microseconds since the epoch; tests give their own.
    """

    __slots__ = ("last", "now")

    def __init__(self, last: int = 0, now: Callable[[], int] = wall_microseconds) -> None:
        self.last = last
        self.now = now

    def reading(self) -> int:
        """Return the time now, or the last stamp if the wall clock was set back to before it."""
        return max(self.now(), self.last)

    def stamp(self) -> int:
        """Return a new stamp, later than every stamp before."""
        now = self.now()
        self.last = now if now > self.last else self.last + 1
        return self.last

"""What is to happen at a time: delays that come due, messages and results that expire."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

__all__ = ["Agenda"]


class Agenda:
    """Calls to be made at wall-clock times, earliest first.

    Nothing is ever taken back: a call looks whether there is still something to do.
    """

    __slots__ = ("_count", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, when: int, call: Callable[..., None], *args: Any) -> None:
        """Have ``call(*args)`` made when the clock shows ``when`` (microseconds since the epoch)."""
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, call, args))

    def next_due(self) -> int | None:
        """Return the time of the earliest call, ``None`` if there is none."""
        return self._heap[0][0] if self._heap else None

    def due(self, now: int, most: int) -> Iterator[Callable[[], None]]:
        """Take out, earliest first, at most ``most`` calls whose time has come."""
        while self._heap and self._heap[0][0] <= now and most > 0:
            _, _, call, args = heapq.heappop(self._heap)
            most -= 1
            yield partial(call, *args)

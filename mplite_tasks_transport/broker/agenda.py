"""What is to happen at a time: delays that come due, messages and results that expire."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

__all__ = ["Agenda", "Appointment"]


class Appointment:
    """One call that is to be made; ``call`` is ``None`` once it was made or taken back."""

    __slots__ = ("args", "call")

    def __init__(self, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.call: Callable[..., object] | None = call
        self.args = args

    def void(self) -> None:
        """Let go of everything that the call needs."""
        self.call, self.args = None, ()


class Agenda:
    """Calls to be made at wall-clock times, earliest first.

    What is taken back is forgotten at once, and its place in the heap when half of the heap is such places: a message
    with a day to live that is acked after a second leaves nothing behind.
    """

    __slots__ = ("_count", "_heap", "_void")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Appointment]] = []
        self._count = 0
        self._void = 0

    def __len__(self) -> int:
        return len(self._heap) - self._void

    def add(self, when: int, call: Callable[..., object], *args: Any) -> Appointment:
        """Have ``call(*args)`` made when the clock shows ``when`` (microseconds since the epoch)."""
        self._count += 1
        appointment = Appointment(call, args)
        heapq.heappush(self._heap, (when, self._count, appointment))
        return appointment

    def cancel(self, appointment: Appointment) -> None:
        """Take a call back. One that was made already is no error."""
        if appointment.call is None:
            return
        appointment.void()
        self._void += 1
        if self._void * 2 > len(self._heap):
            self._heap = [item for item in self._heap if item[2].call is not None]
            heapq.heapify(self._heap)
            self._void = 0

    def next_due(self) -> int | None:
        """Return the time of the earliest call, ``None`` if there is none."""
        while self._heap and self._heap[0][2].call is None:
            heapq.heappop(self._heap)
            self._void -= 1
        return self._heap[0][0] if self._heap else None

    def due(self, now: int, most: int) -> Iterator[Callable[[], object]]:
        """Take out, earliest first, at most ``most`` calls whose time has come."""
        while most > 0 and (when := self.next_due()) is not None and when <= now:
            appointment = heapq.heappop(self._heap)[2]
            call, args = appointment.call, appointment.args
            appointment.void()
            if call is not None:
                most -= 1
                yield partial(call, *args)

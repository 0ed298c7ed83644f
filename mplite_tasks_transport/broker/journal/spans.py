"""Between which stamps a queue's messages lie, so that dropping a queue looks at those rows and not at all.

An index of the messages by queue would say it exactly, and cost a page more in every transaction of every message.
Most queues that are dropped lived shortly.
"""

from __future__ import annotations

__all__ = ["Spans"]

_EVERYTHING = (0, 2**63 - 1)


class Spans:
    """Remember the first and last stamp of each queue. Never too narrow: everything until :meth:`know` is called."""

    def __init__(self) -> None:
        self._known = False
        self._spans: dict[int, list[int]] = {}

    def know(self) -> None:
        """From now on a queue of which nothing was noted has no messages."""
        self._known = True

    def doubt(self) -> None:
        """Forget all: what was noted is not what is kept."""
        self._known = False
        self._spans.clear()

    def note(self, queue: int, stamp: int) -> None:
        """A message with this stamp is in this queue."""
        span = self._spans.get(queue)
        if span is None:
            self._spans[queue] = [stamp, stamp]
        elif stamp > span[1]:
            span[1] = stamp
        elif stamp < span[0]:
            span[0] = stamp

    def take(self, queue: int) -> tuple[int, int]:
        """Return the span of a queue that is dropped; the first is greater than the last if it has no messages."""
        span = self._spans.pop(queue, None)
        if not self._known:
            return _EVERYTHING
        return (1, 0) if span is None else (span[0], span[1])

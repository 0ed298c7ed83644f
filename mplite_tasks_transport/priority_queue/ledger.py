"""What a queue object has got and not done, across the connections that it got it by."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from ..errors import StaleDelivery
from ..frames import Ack, CloseChannel, Deliver, Reject, Request
from .intake import CHANNEL

__all__ = ["Item", "Ledger"]

#: The channel on which deliveries of a lost connection are settled, by their ``posted_at``.
_RESUMED_CHANNEL = 0


class Item:
    """One message that was got.

    Attributes:
        posted_at: its stamp, by which a later connection takes it over.
        channel, delivery: how it is acked.
        gone: it went back to its queue, or its ack had been committed.
        acked: an ack was sent; whether it was committed may be in doubt.
    """

    __slots__ = ("acked", "channel", "delivery", "gone", "posted_at")

    def __init__(self, delivery: Deliver) -> None:
        self.posted_at = delivery.posted_at
        self.channel = CHANNEL
        self.delivery = delivery.delivery
        self.gone = False
        self.acked = False

    def ack(self) -> Ack | None:
        """Return the ack to send, ``None`` if an earlier one had come through.

        Raises :class:`StaleDelivery` if the message went back to its queue before it was done.
        """
        if self.gone and not self.acked:
            raise StaleDelivery(
                "The connection to the broker was lost, and the item went back to its queue before it was done: "
                "it is got again."
            )
        if self.gone:
            return None
        self.acked = True
        return Ack(0, self.channel, self.delivery, credit=False)


class Ledger:
    """The items of one queue object that are not done, oldest first. Threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._undone: deque[Item] = deque()
        self._settling: list[Item] = []

    def __len__(self) -> int:
        return len(self._undone)

    def add(self, delivery: Deliver) -> None:
        """Note that a message was got."""
        with self._lock:
            self._undone.append(Item(delivery))

    def begin(self) -> Item:
        """Take the oldest item, to be acked. Raises :class:`ValueError` if there is none."""
        with self._lock:
            if not self._undone:
                raise ValueError("task_done() called too many times")
            item = self._undone.popleft()
            self._settling.append(item)
            return item

    def end(self, item: Item) -> None:
        """The item is done with."""
        with self._lock:
            self._settling.remove(item)

    def fail(self, item: Item) -> None:
        """The ack could not be sent: the item is the oldest again."""
        with self._lock:
            self._settling.remove(item)
            self._undone.appendleft(item)

    def resume(self, held: Sequence[Any]) -> list[Request]:
        """A new connection took over these stamps. Returns what sends back those of which nobody here knows."""
        stamps = set(held)
        with self._lock:
            for item in (*self._undone, *self._settling):
                item.gone = item.posted_at not in stamps
                item.channel, item.delivery = _RESUMED_CHANNEL, item.posted_at
                stamps.discard(item.posted_at)
        return [Reject(0, _RESUMED_CHANNEL, stamp, requeue=True) for stamp in stamps]

    def give_back(self) -> list[Request]:
        """Forget everything. Returns what sends it back to its place."""
        with self._lock:
            items = [item for item in self._undone if not item.gone]
            self._undone.clear()
        back: list[Request] = [
            Reject(0, _RESUMED_CHANNEL, item.delivery, requeue=True)
            for item in items
            if item.channel == _RESUMED_CHANNEL
        ]
        return [*back, CloseChannel(0, CHANNEL)]

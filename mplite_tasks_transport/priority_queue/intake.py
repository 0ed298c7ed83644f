"""How many messages a queue object has asked for and got: the credit of one channel, without I/O."""

from __future__ import annotations

from collections import deque
from typing import Final

from ..frames import CancelConsumer, Consume, Deliver, Qos, Reject, Request

__all__ = ["CHANNEL", "Intake"]

#: The one channel of a queue object's connection, and its one consumer.
CHANNEL: Final = 1
_TAG: Final = "get"


class Intake:
    """The gets that wait on one connection, and what came for them.

    The broker may send exactly as many messages as gets wait: credit is never returned, and the prefetch count is what
    came so far and what is waited for. So nothing is held that nobody asked for, and waiting is a push, not polling.

    Parameters:
        queue: the queue's name.
    """

    def __init__(self, queue: str) -> None:
        self.arrived: deque[Deliver] = deque()
        self.waiting = 0
        #: Gets that gave up, until the broker has confirmed that it sends nothing more for them.
        self.leaving = 0
        self.cancelled = False
        self._queue = queue
        self._came = 0
        self._allowed = 0
        self._consuming = False

    def enter(self) -> list[Request]:
        """One more get waits. Returns what to send."""
        self.waiting += 1
        return self._adjusted()

    def leave(self) -> list[Request]:
        """A get gives up. Returns what to send; when it is answered, call :meth:`left`."""
        self.waiting -= 1
        self.leaving += 1
        return self._adjusted()

    def left(self) -> Deliver | None:
        """Return what came for a get that gave up, after all; ``None`` if nothing did."""
        self.leaving -= 1
        return self.arrived.popleft() if len(self.arrived) > self.waiting + self.leaving else None

    def deliver(self, delivery: Deliver) -> None:
        """A message came."""
        self._came += 1
        self.arrived.append(delivery)

    def take(self) -> Deliver:
        """Give what came to one of the gets that wait."""
        self.waiting -= 1
        return self.arrived.popleft()

    def surplus(self) -> list[Request]:
        """Return what sends back what came for gets that are gone: to its place."""
        back: list[Request] = []
        while len(self.arrived) > self.waiting + self.leaving:
            back.append(Reject(0, CHANNEL, self.arrived.pop().delivery, requeue=True, credit=False))
        return back

    def _adjusted(self) -> list[Request]:
        allowed = self._came + max(0, self.waiting - len(self.arrived))
        if allowed == self._allowed:
            return []
        self._allowed = allowed
        if not allowed:  # a prefetch count of 0 would mean any number
            self._consuming = False
            return [CancelConsumer(0, CHANNEL, _TAG)]
        requests: list[Request] = [Qos(0, CHANNEL, allowed)]
        if not self._consuming:
            self._consuming = True
            requests.append(Consume(0, CHANNEL, _TAG, self._queue, arguments={"x-starts-on-delivery": True}))
        return requests

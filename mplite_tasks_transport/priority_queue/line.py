"""What the blocking and the asynchronous queue have in common of one connection: what comes in, and where it goes."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterable
from typing import Any, Final

from ..client import BrokerClient, Reply
from ..errors import ConnectionLost, NotFound, TransportError, reply_error
from ..frames import ConsumerCancelled, Deliver, Failed, Request
from .intake import Intake
from .ledger import Ledger

__all__ = ["BaseLine", "Losses", "value_of"]

#: Connections that may be lost at once, one after the other, by the same call: then it is the call that ends them.
_MAX_LOSSES: Final = 10

#: Seconds that a connection has lived which was not lost at once, and of the longest pause before the next one.
_AT_ONCE: Final = 1.0
_LONGEST_PAUSE: Final = 0.5


class Losses:
    """Counts the connections that one call has lost, so that it neither goes on for ever nor without a pause."""

    def __init__(self) -> None:
        self._count = 0
        self._began = 0.0

    def begin(self) -> None:
        """A connection is used now."""
        self._began = time.monotonic()

    def pause(self, error: ConnectionLost) -> float:
        """It was lost: return the seconds to wait before the next one. Raises the error when that is no use."""
        if time.monotonic() - self._began >= _AT_ONCE:
            self._count = 0
        self._count += 1
        if self._count > _MAX_LOSSES:
            raise error
        return 0.0 if self._count == 1 else random.uniform(0.0, min(_LONGEST_PAUSE, 0.02 * 2**self._count))  # noqa: S311 - jitter


class BaseLine:
    """One connection of a queue object.

    Parameters:
        client: the connection; this is the only one that uses it.
        queue: the queue's name.
        ledger: what the queue object has got and not done.
    """

    def __init__(self, client: BrokerClient, queue: str, ledger: Ledger) -> None:
        self.client = client
        self.intake = Intake(queue)
        self._queue = queue
        self._ledger = ledger
        self._lost: ConnectionLost | None = None
        #: Rises with every answer and every event that was read.
        self._news = 0

    @property
    def usable(self) -> bool:
        """Whether the connection is there, as far as is known."""
        return self._lost is None and self.client.connected

    def ask(self, request: Request) -> tuple[int, list[Reply]]:
        """Send a request. Returns its id, and the list that its answer is put into."""
        answer: list[Reply] = []

        def on_reply(reply: Reply) -> None:
            self._news += 1
            answer.append(reply)

        self._check()
        return self.client.ask(request, on_reply), answer

    def ask_all(self, requests: Iterable[Request]) -> list[list[Reply]]:
        """Send requests. Returns the lists that their answers are put into."""
        return [self.ask(request)[1] for request in requests]

    def pump(self) -> None:
        """Take what there is to read, without waiting. Raises :class:`ConnectionLost`."""
        self._check()
        try:
            with contextlib.suppress(TimeoutError):
                self.client.wait_until(lambda: False, 0)
            self._sort_events()
            self.ask_all(self.intake.surplus())
        except ConnectionLost as exc:
            self._lost = self._lost or exc
            raise
        except TransportError as exc:
            self._lost = self._lost or ConnectionLost(str(exc))
            raise

    def give_up(self, why: str) -> None:
        """Use the connection no more: what it brought and nobody took belongs to the next one."""
        self._lost = self._lost or ConnectionLost(why)
        self.intake.arrived.clear()
        self._news += 1

    def taken(self, delivery: Deliver) -> Deliver:
        """Note that a message was got, in the same step in which it leaves the intake."""
        self._ledger.add(delivery)
        return delivery

    def gone(self) -> NotFound:
        """Return the error for a queue that was deleted."""
        return NotFound(f"Queue {self._queue!r} was deleted; make another queue object to declare it again.")

    def _check(self) -> None:
        if self._lost is not None:
            raise ConnectionLost(str(self._lost))

    def _sort_events(self) -> None:
        events = self.client.events
        while events:
            self._news += 1
            event = events.popleft()
            if isinstance(event, Deliver):
                self.intake.deliver(event)
            elif isinstance(event, ConsumerCancelled):
                self.intake.cancelled = True
            elif isinstance(event, Failed):
                raise reply_error(event.code, event.text)


def value_of(answer: list[Reply]) -> Any:
    """Return the value of an answer. Raises the error that it is."""
    (reply,) = answer
    if isinstance(reply, Failed):
        raise reply_error(reply.code, reply.text)
    return reply.value

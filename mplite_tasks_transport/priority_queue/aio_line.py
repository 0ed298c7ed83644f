"""One connection of an asynchronous queue: the loop says when there is something to read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from ..client import BrokerClient
from ..errors import ConnectionLost, TransportError
from ..frames import Deliver, Publish, Request, StopWaiting
from .ledger import Ledger
from .line import BaseLine, value_of

__all__ = ["LoopLine"]


class LoopLine(BaseLine):
    """A connection that several tasks of one event loop use at once.

    A task that is cancelled while it waits takes its request back without waiting: what had come for it goes back to
    its place as soon as it is read.
    """

    def __init__(self, client: BrokerClient, queue: str, ledger: Ledger) -> None:
        super().__init__(client, queue, ledger)
        self._loop = asyncio.get_running_loop()
        self._waiters: set[asyncio.Future[None]] = set()
        self._fd = client.fileno()
        self._loop.add_reader(self._fd, self._on_readable)

    async def call(self, request: Request) -> Any:
        """Send a request and return the value of its answer."""
        _, answer = self._ask(request)
        await self._wait(lambda: bool(answer))
        return value_of(answer)

    async def take(self, timeout: float | None) -> Deliver | None:
        """Return the next message, or ``None`` if there is none within the timeout (seconds)."""
        intake = self.intake
        asked = [self._ask(request)[1] for request in intake.enter()]
        try:
            # The broker looks for a message at least once, however short the time is.
            await self._wait(lambda: self._came or all(asked))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._wait(lambda: self._came)
            self._check()
        except ConnectionLost:
            raise
        except BaseException:
            for request in intake.leave():
                self._try_ask(request)
            intake.leaving -= 1
            self._send_back()
            raise
        if intake.arrived:
            return self.taken(intake.take())
        if intake.cancelled:
            intake.waiting -= 1
            raise self.gone()
        return await self._withdraw()

    async def publish(self, frame: Publish, timeout: float | None) -> bool:
        """Publish, and wait for room within the timeout (seconds). Returns whether the queue took it."""
        request, answer = self._ask(frame)
        try:
            async with asyncio.timeout(timeout):
                await self._wait(lambda: bool(answer))
        except TimeoutError:
            await self.call(StopWaiting(0, request))
            if not answer:
                return False
        except asyncio.CancelledError:
            self._try_ask(StopWaiting(0, request))
            raise
        value_of(answer)
        return True

    async def wait_for(self, request: Request) -> None:
        """Send a request whose answer may take long, and wait for it; a cancellation takes it back."""
        number, answer = self._ask(request)
        try:
            await self._wait(lambda: bool(answer))
        except asyncio.CancelledError:
            self._try_ask(StopWaiting(0, number))
            raise
        value_of(answer)

    async def close(self, last: list[Request]) -> None:
        """Send the last requests and end the connection."""
        with contextlib.suppress(TransportError):
            answers = [self._ask(request)[1] for request in last]
            await self._wait(lambda: all(answers))
        self.abandon("it was closed")

    def abandon(self, why: str) -> None:
        """Use the connection no more, tell all tasks that wait, and close the socket."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._fd = -1
        self.give_up(why)
        self._wake()
        self.client.abandon()

    @property
    def _came(self) -> bool:
        return bool(self.intake.arrived) or self.intake.cancelled

    def _on_readable(self) -> None:
        try:
            self.pump()
        except TransportError as exc:
            self.abandon(str(exc))
        self._wake()

    def _ask(self, request: Request) -> Any:
        before = self._news
        try:
            return self.ask(request)
        except ConnectionLost as exc:
            self.abandon(str(exc))
            raise
        finally:
            if self.usable:
                self._sort_events()
            if self._news != before:
                self._wake()

    def _try_ask(self, request: Request) -> None:
        with contextlib.suppress(TransportError):
            self._ask(request)

    def _send_back(self) -> None:
        for request in self.intake.surplus():
            self._try_ask(request)

    async def _withdraw(self) -> Deliver | None:
        """Give up waiting. Returns what the broker had sent before it knew."""
        answers = [self._ask(request)[1] for request in self.intake.leave()]
        try:
            await self._wait(lambda: all(answers))
        except asyncio.CancelledError:
            self.intake.leaving -= 1
            self._send_back()
            raise
        delivery = self.intake.left()
        return None if delivery is None else self.taken(delivery)

    async def _wait(self, done: Callable[[], bool]) -> None:
        while not done():
            self._check()
            waiter = self._loop.create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

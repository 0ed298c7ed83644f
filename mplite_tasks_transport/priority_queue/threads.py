"""One connection for all the threads of a process: whoever waits reads, for the others too."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from ..client import BrokerClient
from ..errors import ConnectionLost, TransportError
from ..frames import Deliver, Publish, Request, StopWaiting
from .ledger import Ledger
from .line import BaseLine, value_of

__all__ = ["ThreadLine"]

#: Milliseconds of one wait: the system's limit is 2**31.
_LONGEST_POLL_MS = 86_400_000.0


class ThreadLine(BaseLine):
    """A connection that several threads use at once.

    One of those that wait is the reader: it waits for the socket without the lock, so that the others can send
    meanwhile, and hands out what came. When it has what it waited for, another one takes its place. No thread runs in
    the background.
    """

    def __init__(self, client: BrokerClient, queue: str, ledger: Ledger) -> None:
        super().__init__(client, queue, ledger)
        # Not re-entrant: the reader lets go of it while it waits.
        self._changed = threading.Condition(threading.Lock())
        self._reading = False
        self._waker, self._alarm = socket.socketpair()
        for end in (self._waker, self._alarm):
            end.setblocking(False)
        self._ready = select.poll()
        self._ready.register(client.fileno(), select.POLLIN)
        self._ready.register(self._alarm, select.POLLIN)
        # Not __del__: an exception may make this part of a cycle, of which the sockets could be collected first.
        self._close = weakref.finalize(self, _close, client, self._waker, self._alarm)

    def call(self, request: Request) -> Any:
        """Send a request and return the value of its answer, however long it takes."""
        with self._changed:
            _, answer = self._ask(request)
            self._wait(lambda: bool(answer))
            return value_of(answer)

    def take(self, deadline: float | None) -> Deliver | None:
        """Return the next message, or ``None`` if there is none until the deadline (``time.monotonic()``)."""
        with self._changed:
            asked = [self._ask(request)[1] for request in self.intake.enter()]
            try:
                # The broker looks for a message at least once, however short the time is.
                self._wait(lambda: self._came or all(asked))
                self._wait(lambda: self._came, deadline)
                self._check()
                if self.intake.arrived:
                    return self.taken(self.intake.take())
            except TimeoutError:
                return self._withdraw()
            except ConnectionLost:
                raise
            except BaseException:
                self._return_credit()
                raise
            self.intake.waiting -= 1
            raise self.gone()

    def publish(self, frame: Publish, deadline: float | None) -> bool:
        """Publish, and wait for room until the deadline. Returns whether the queue took it."""
        with self._changed:
            request, answer = self._ask(frame)
            try:
                self._wait(lambda: bool(answer), deadline)
            except TimeoutError:
                _, stopped = self._ask(StopWaiting(0, request))
                self._wait(lambda: bool(stopped))
                if not answer:
                    return False
            except ConnectionLost:
                raise
            except BaseException:
                self._try_ask(StopWaiting(0, request))
                raise
            value_of(answer)
            return True

    def wait_for(self, request: Request) -> None:
        """Send a request whose answer may take long, and wait for it; an interruption takes it back."""
        with self._changed:
            number, answer = self._ask(request)
            try:
                self._wait(lambda: bool(answer))
            except ConnectionLost:
                raise
            except BaseException:
                self._try_ask(StopWaiting(0, number))
                raise
            value_of(answer)

    def retire(self, why: str) -> None:
        """Use the connection no more, and tell all threads that wait."""
        with self._changed:
            self.give_up(why)
            self._wake()

    def close(self, last: list[Request]) -> None:
        """Send the last requests and end the connection."""
        with self._changed:
            with contextlib.suppress(TransportError):
                answers = [self._ask(request)[1] for request in last]
                self._wait(lambda: all(answers))
            self.give_up("it was closed")
            self._wake()
            self.abandon()

    def abandon(self) -> None:
        """Close the sockets."""
        self._close()

    @property
    def _came(self) -> bool:
        return bool(self.intake.arrived) or self.intake.cancelled

    def _ask(self, request: Request) -> Any:
        """Send with the lock held. What was read on the way is told to those who wait."""
        before = self._news
        try:
            return self.ask(request)
        except ConnectionLost as exc:
            self._lost = self._lost or exc
            self._wake()
            raise
        finally:
            if self.usable:
                self._sort_events()
            if self._news != before:
                self._wake()

    def _try_ask(self, request: Request) -> None:
        with contextlib.suppress(TransportError):
            self._ask(request)

    def _withdraw(self) -> Deliver | None:
        """Give up waiting. Returns what the broker had sent before it knew."""
        answers = [self._ask(request)[1] for request in self.intake.leave()]
        self._wait(lambda: all(answers))
        delivery = self.intake.left()
        return None if delivery is None else self.taken(delivery)

    def _return_credit(self) -> None:
        """An interrupted get: nothing more comes for it, and what has come goes back."""
        for request in self.intake.leave():
            self._try_ask(request)
        self.intake.leaving -= 1
        for request in self.intake.surplus():
            self._try_ask(request)

    def _wait(self, done: Callable[[], bool], deadline: float | None = None) -> None:
        """Wait with the lock held until something is so. Raises :class:`TimeoutError` at the deadline."""
        while not done():
            self._check()
            rest = None if deadline is None else deadline - time.monotonic()
            if rest is not None and rest <= 0:
                raise TimeoutError
            if self._reading:
                self._changed.wait(rest)
                continue
            self._reading = True
            try:
                self._read(rest)
            finally:
                self._reading = False
                self._changed.notify_all()

    def _read(self, rest: float | None) -> None:
        """Be the reader: wait for something to read without the lock, and take it with the lock."""
        self._changed.release()
        try:
            # Rounded up: a wait that is cut short by a fraction of a millisecond would be repeated until it is over.
            self._ready.poll(None if rest is None else int(min(rest * 1000, _LONGEST_POLL_MS)) + 1)
        finally:
            self._changed.acquire()
        with contextlib.suppress(OSError):
            self._alarm.recv(4096)
        self.pump()

    def _wake(self) -> None:
        self._changed.notify_all()
        if self._reading:
            with contextlib.suppress(OSError):
                self._waker.send(b"!")


def _close(client: BrokerClient, *ends: socket.socket) -> None:
    client.abandon()
    for end in ends:
        end.close()

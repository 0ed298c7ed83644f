"""Waiting for signals and sockets at once, without ever waking up for nothing."""

from __future__ import annotations

import selectors
import signal
import socket
from collections.abc import Iterable
from typing import Protocol

__all__ = ["Waiter"]


class Readable(Protocol):
    """What can be waited for."""

    def fileno(self) -> int:
        """Return its descriptor."""


class Waiter:
    """Turns the signals of this process into something that is waited for together with a socket.

    Parameters:
        signals: what to take; nothing else is done when one of them arrives.
    """

    def __init__(self, signals: Iterable[signal.Signals]) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._receiver, selectors.EVENT_READ)
        self._socket: Readable | None = None
        signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        for number in signals:
            signal.signal(number, lambda signum, frame: None)
            signal.siginterrupt(number, False)

    def watch(self, readable: Readable | None) -> None:
        """Wait for this too from now on, in place of what was watched before."""
        if self._socket is not None:
            self._selector.unregister(self._socket)
        self._socket = readable
        if readable is not None:
            self._selector.register(readable, selectors.EVENT_READ)

    def wait(self, timeout: float | None) -> tuple[list[int], bool]:
        """Wait until something happens or ``timeout`` seconds have passed.

        Returns the signals that arrived, in their order, and whether the watched socket can be read.
        """
        ready = {key.fileobj for key, _ in self._selector.select(timeout)}
        numbers: list[int] = []
        if self._receiver in ready:
            numbers = list(self._receiver.recv(4096))
        return numbers, self._socket is not None and self._socket in ready

    def close(self) -> None:
        """Take no more signals."""
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._receiver.close()
        self._sender.close()

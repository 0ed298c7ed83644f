"""How a consumer in a thread is told to stop: by a byte on a socket that it waits for together with its connection."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing.connection import wait
from typing import Final

import kombu

from .stopping import StopIdle

__all__ = ["StopRequest", "StopThread"]

#: Seconds after which a thread looks whether it is to stop, over Kombu transports that have no socket to wait for.
POLL_SECONDS: Final = 0.5


class StopRequest:
    """What the threads of one registration wait for. Nothing else happens when it is made."""

    def __init__(self) -> None:
        self.made_at: float | None = None
        self._made = threading.Event()
        self._lock = threading.Lock()
        #: Can be read from the time on when it is made.
        self.receiver: socket.socket
        self.receiver, self._sender = socket.socketpair()

    def make(self) -> None:
        """Ask the threads to stop. May be repeated."""
        with self._lock:
            if self.made_at is None:
                self.made_at = time.monotonic()
                self._made.set()
                with contextlib.suppress(OSError):  # closed: there is nobody left to tell
                    self._sender.send(b"\0")  # never read, so that each thread finds it

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until it is made. Returns whether it is."""
        return self._made.wait(seconds)

    def close(self) -> None:
        """Let go of the sockets, when no thread waits any more."""
        with self._lock:
            self.receiver.close()
            self._sender.close()


class StopThread:
    """What one thread knows of it: :class:`~.stopping.Stopping` for its consumer."""

    def __init__(self, request: StopRequest) -> None:
        self._request = request
        self._idle = False

    @property
    def requested_at(self) -> float | None:
        """When the stop was asked for, by the monotonic clock."""
        return self._request.made_at

    @property
    def requested(self) -> bool:
        """Whether the thread is to stop."""
        return self._request.made_at is not None

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Let a stop interrupt the block by :class:`StopIdle`, where it drains or sleeps."""
        self._idle = True
        try:
            yield
        finally:
            self._idle = False

    def running(self, give_back: Callable[[], None]) -> AbstractContextManager[None]:
        """Do nothing: what runs in a thread cannot be broken off."""
        return nullcontext()

    def drain(self, connection: kombu.Connection) -> None:
        """Wait for events of a connection and handle them, or raise :class:`StopIdle`."""
        sock: socket.socket | None = getattr(connection.connection, "sock", None)
        while not self.requested:
            with contextlib.suppress(TimeoutError):
                connection.drain_events(timeout=0 if sock is not None else POLL_SECONDS)
                return
            if sock is not None:
                wait([sock, self._request.receiver])
        raise StopIdle

    def sleep(self, seconds: float) -> None:
        """Wait so long; a stop interrupts that while the consumer is idle."""
        if not self._idle:
            time.sleep(seconds)
        elif self._request.wait(seconds):
            raise StopIdle

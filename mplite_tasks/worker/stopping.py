"""How a consumer is told to stop: what its signals do depends on what it is doing at that moment.

``SIGTERM``: stop when what runs is done; while nothing runs, at once. However often it comes, it means the same.
``SIGQUIT``: stop now; the message goes back to its place. ``SIGINT``: nothing, because a Ctrl-C in a terminal reaches
every process of the group, and it is the supervisor that decides.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Protocol

import kombu

__all__ = ["STOP_NOW", "STOP_WHEN_DONE", "StopIdle", "StopSignals", "Stopping"]

STOP_WHEN_DONE = signal.SIGTERM
STOP_NOW = signal.SIGQUIT

_OURS = (STOP_WHEN_DONE, STOP_NOW, signal.SIGINT)


class StopIdle(BaseException):
    """Raised out of a wait for the next message: there is nothing to finish."""


class Stopping(Protocol):
    """How a consumer learns that it is to stop, and what may be interrupted for that."""

    @property
    def requested_at(self) -> float | None:
        """When that was asked for, by the monotonic clock."""

    @property
    def requested(self) -> bool:
        """Whether the consumer is to stop."""

    def idle(self) -> AbstractContextManager[None]:
        """Let a stop interrupt the block by :class:`StopIdle`."""

    def running(self, give_back: Callable[[], None]) -> AbstractContextManager[None]:
        """Say that a job runs in the block, and how its message is given back."""

    def drain(self, connection: kombu.Connection) -> None:
        """Wait for events of a connection and handle them, at least one."""

    def sleep(self, seconds: float) -> None:
        """Wait so long."""


class StopSignals:
    """The handlers of a consumer process, and what they need to know."""

    def __init__(self) -> None:
        self._requested_at: float | None = None
        self._idle = False
        self._give_back: Callable[[], None] | None = None
        self._signalled, self._wakeup = socket.socketpair()
        for end in (self._signalled, self._wakeup):
            end.setblocking(False)

    @property
    def requested_at(self) -> float | None:
        """When the stop was asked for, by the monotonic clock."""
        return self._requested_at

    @property
    def requested(self) -> bool:
        """Whether the consumer is to stop."""
        return self._requested_at is not None

    def install(self) -> None:
        """Take the signals of this process."""
        signal.signal(STOP_WHEN_DONE, self._when_done)
        signal.signal(STOP_NOW, self._now)
        # A handler, since an ignored signal would stay ignored in the programs that a job starts.
        signal.signal(signal.SIGINT, lambda signum, frame: None)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_default_handlers)

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Let a stop interrupt the block by :class:`StopIdle`."""
        self._idle = True
        try:
            if self.requested:
                raise StopIdle
            yield
        finally:
            self._idle = False

    @contextmanager
    def running(self, give_back: Callable[[], None]) -> Iterator[None]:
        """Say that a job runs in the block. To stop now calls ``give_back`` and ends the process there and then.

        The job uses no connection of the consumer, so that ``give_back`` may, from the signal handler.
        """
        self._give_back = give_back
        try:
            yield
        finally:
            self._give_back = None

    def drain(self, connection: kombu.Connection) -> None:
        """Wait for events of a connection; a signal interrupts that.

        Its handler alone would not do: one that arrives at the wrong moment is handled when the wait is over, and what
        a handler raises in a destructor is lost. So the signal is waited for as well, where there is a socket to wait.
        """
        sock: socket.socket | None = getattr(connection.connection, "sock", None)
        if sock is None:
            connection.drain_events()
            return
        while not self.requested:
            with contextlib.suppress(TimeoutError):
                connection.drain_events(timeout=0)
                return
            happened = select.poll()
            happened.register(sock, select.POLLIN)
            happened.register(self._signalled, select.POLLIN)
            happened.poll()
            with contextlib.suppress(BlockingIOError):
                self._signalled.recv(4096)
        raise StopIdle

    def sleep(self, seconds: float) -> None:
        """Wait so long; a signal interrupts that while the consumer is idle."""
        time.sleep(seconds)

    def _when_done(self, signum: int, frame: FrameType | None) -> None:
        if self._requested_at is None:
            self._requested_at = time.monotonic()
        if self._idle:
            self._idle = False
            raise StopIdle

    def _now(self, signum: int, frame: FrameType | None) -> None:
        self._when_done(signum, frame)
        give_back, self._give_back = self._give_back, None
        try:
            if give_back is not None:
                give_back()
        finally:
            # Not sys.exit(): the job might catch it, and its own clean-up may take as long as it likes.
            os._exit(1)


def _default_handlers() -> None:
    """Give a process that a job forks the usual signals: ``multiprocessing`` ends its processes by ``SIGTERM``."""
    signal.set_wakeup_fd(-1)
    for number in (STOP_WHEN_DONE, STOP_NOW):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _unblock()


def _block() -> None:
    """Hold signals back over a fork, so that none meets the child while it still has the consumer's handlers."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _OURS)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OURS)

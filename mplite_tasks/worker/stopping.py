"""How a consumer is told to stop: what its signals do depends on what it is doing at that moment.

``SIGTERM``: stop when what runs is done; while nothing runs, at once. However often it comes, it means the same.
``SIGQUIT``: stop now; the message goes back to its place. ``SIGINT``: nothing, because a Ctrl-C in a terminal reaches
every process of the group, and it is the supervisor that decides.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["STOP_NOW", "STOP_WHEN_DONE", "StopIdle", "StopSignals"]

STOP_WHEN_DONE = signal.SIGTERM
STOP_NOW = signal.SIGQUIT

_OURS = (STOP_WHEN_DONE, STOP_NOW, signal.SIGINT)


class StopIdle(BaseException):
    """Raised out of a wait for the next message: there is nothing to finish."""


class StopSignals:
    """The handlers of a consumer process, and what they need to know."""

    def __init__(self) -> None:
        self.requested_at: float | None = None
        self._idle = False
        self._give_back: Callable[[], None] | None = None

    @property
    def requested(self) -> bool:
        """Whether the consumer is to stop."""
        return self.requested_at is not None

    def install(self) -> None:
        """Take the signals of this process."""
        signal.signal(STOP_WHEN_DONE, self._when_done)
        signal.signal(STOP_NOW, self._now)
        # A handler, since an ignored signal would stay ignored in the programs that a job starts.
        signal.signal(signal.SIGINT, lambda signum, frame: None)
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

    def _when_done(self, signum: int, frame: FrameType | None) -> None:
        if self.requested_at is None:
            self.requested_at = time.monotonic()
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
    for number in (STOP_WHEN_DONE, STOP_NOW):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _unblock()


def _block() -> None:
    """Hold signals back over a fork, so that none meets the child while it still has the consumer's handlers."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _OURS)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OURS)

"""A queue's lock by hand, with the methods of ``threading.Lock``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .. import frames
from ..errors import ResourceLocked
from .link import Link

__all__ = ["LOCK_METHODS", "LockView"]

_FOR_EVER: Final = -1


class LockView:
    """The lock of a queue, over one thread's link, whose the lock is.

    Parameters:
        link: the connection.
        queue: the queue's name.
        lease: seconds after which the broker takes the lock back.
    """

    def __init__(self, link: Link, queue: str, lease: float) -> None:
        self._link = link
        self._queue = queue
        self._lease = round(lease * 1_000_000)

    def acquire(self, blocking: bool = True, timeout: float = _FOR_EVER) -> bool:
        """Take the lock. Returns whether this thread has it now."""
        if not blocking and timeout != _FOR_EVER:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if timeout < 0 and timeout != _FOR_EVER:
            raise ValueError("timeout value must be a non-negative number")
        wait = 0 if not blocking else _FOR_EVER if timeout == _FOR_EVER else round(timeout * 1_000_000)
        try:
            taken: bool = self._link.call(frames.AcquireQueueLock(0, self._queue, wait, self._lease))
        except ResourceLocked as exc:
            raise RuntimeError(f"This thread has the lock of queue {self._queue!r} already.") from exc
        return taken

    def release(self) -> None:
        """Give the lock back. Raises :class:`RuntimeError` if this thread does not have it."""
        try:
            self._link.call(frames.ReleaseQueueLock(0, self._queue))
        except ResourceLocked as exc:
            raise RuntimeError(f"This thread does not have the lock of queue {self._queue!r}.") from exc


#: The methods of a stock ``AcquirerProxy``, and what answers them.
LOCK_METHODS: Final[dict[str, Callable[..., Any]]] = {"acquire": LockView.acquire, "release": LockView.release}

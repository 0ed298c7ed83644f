"""A handler that runs in threads of this process."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from types import TracebackType
from typing import Any, Self

from .handlers import Handler
from .worker.consumer import Consumer
from .worker.handling import HandlerExecutor
from .worker.threads import StopRequest, StopThread

__all__ = ["Registration"]

logger = logging.getLogger("mplite_tasks.worker")


class Registration:
    """A handler at work, from :func:`~mplite_tasks.register_handler` to :meth:`stop`.

    As a context manager it stops at the end of the block. The end of the program stops it too, and waits for what
    is being handled then. After a fork it belongs to the parent only.

    A thread cannot be broken off. A process that must not wait for a handler uses ``mplite handle``.
    """

    def __init__(self, handler: Handler[..., Any]) -> None:
        self._pid = os.getpid()
        self._handler = handler
        self._request = StopRequest()
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        count = handler.options.concurrency
        self._running = count
        self._threads = [
            threading.Thread(target=self._work, name=f"{handler.name}-{number}", daemon=True)
            for number in range(1, count + 1)
        ]
        atexit.register(self.stop)
        for thread in self._threads:
            thread.start()

    @property
    def running(self) -> bool:
        """Whether any thread is at work."""
        return self._pid == os.getpid() and any(thread.is_alive() for thread in self._threads)

    def stop(self, timeout: float | None = None) -> bool:
        """Take no more messages, wait for those that are being handled, and settle them. May be repeated.

        Parameters:
            timeout: seconds to wait; ``None`` for as long as it takes.

        Returns whether all is done; if not, what runs goes on, and is settled when it is done. Called by the handler
        itself it does not wait for the thread that it is called in.
        """
        if self._pid != os.getpid():
            return True
        self._request.make()
        return self._wait(timeout)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has been stopped, or cannot go on.

        Parameters:
            timeout: seconds to wait; ``None`` for as long as it takes.

        Returns whether all is done. Raises what the broker refused the handler with, if it did.
        """
        done = self._wait(timeout)
        if done and self._error is not None:
            raise self._error
        return done

    def _wait(self, timeout: float | None) -> bool:
        if self._pid != os.getpid():
            return True
        deadline = None if timeout is None else time.monotonic() + timeout
        others = [thread for thread in self._threads if thread is not threading.current_thread()]
        for thread in others:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in others)

    def _work(self) -> None:
        """Consume until told to stop, in one thread."""
        handler = self._handler
        try:
            stop = StopThread(self._request)
            consumer = Consumer(handler.source(), handler.options.queues, stop, HandlerExecutor(handler))
            consumer.run()
            self._error = consumer.refusal or self._error
        except BaseException as exc:
            self._error = exc
            logger.critical("A thread of the handler %s failed, which it should never do", handler.name, exc_info=True)
        finally:
            self._ended()

    def _ended(self) -> None:
        with self._lock:
            self._running -= 1
            last = self._running == 0
        if last:
            self._request.close()
            atexit.unregister(self.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        at_work = f"{sum(thread.is_alive() for thread in self._threads)} threads"
        return f"<Registration of {self._handler!r}: {at_work if self.running else 'stopped'}>"

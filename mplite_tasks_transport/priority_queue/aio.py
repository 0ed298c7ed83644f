"""``AsyncPriorityQueue``: the same for asyncio."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ..client import BrokerClient
from ..errors import BrokerBusy, BrokerUnreachable, ConnectionLost, NoRoute, StaleDelivery
from ..frames import ViewCount, WaitDrained
from ..serializer import NAME
from ..tls import TLSOptions
from ..url import BrokerURL
from .aio_line import LoopLine
from .ledger import Item, Ledger
from .line import Losses
from .settings import Settings, new_identity

__all__ = ["AsyncPriorityQueue"]

_T = TypeVar("_T")


class AsyncPriorityQueue:
    """A priority queue between processes and machines, used as ``asyncio.PriorityQueue`` is.

    ::

        async with AsyncPriorityQueue("jobs") as jobs:
            await jobs.put({"n": 1}, priority=5)
            item = await jobs.get()
            await jobs.task_done()

    Parameters, promises and errors are those of :class:`PriorityQueue`, but that every method is awaited and that it
    connects when it is first used. ``QueueEmpty`` and ``QueueFull`` are asyncio's, and a timeout is a parameter as well
    as a matter for ``asyncio.timeout``.

    A get that is cancelled loses no message: what had come for it goes back to its place. A put that is cancelled may
    or may not have put its item. An object belongs to one event loop of one process.

    Sending does not yield: an item of many megabytes to a slow broker holds up the loop for as long as it takes.
    """

    def __init__(
        self,
        name: str,
        broker: str | BrokerURL = "mplite://",
        maxsize: int = 0,
        *,
        serializer: str = NAME,
        key: str | bytes | None = None,
        reconnect: float = 60.0,
        connect_timeout: float = 5.0,
        autostart: bool = True,
        credentials: str | os.PathLike[str] | None = None,
        tls: TLSOptions | None = None,
        allow_plaintext: bool = False,
    ) -> None:
        self._settings = Settings.of(
            name,
            broker,
            maxsize,
            serializer=serializer,
            key=key,
            reconnect=reconnect,
            connect_timeout=connect_timeout,
            autostart=autostart,
            credentials=credentials,
            tls=tls,
            allow_plaintext=allow_plaintext,
        )
        self.name = name
        self.maxsize = maxsize
        self._closed = False
        self._identity = new_identity()
        self._ledger = Ledger()
        self._line: LoopLine | None = None
        self._connecting = asyncio.Lock()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._ledger)} not done"
        return f"<AsyncPriorityQueue {self.name!r} at {self._settings.url}, {state}>"

    async def __aenter__(self) -> AsyncPriorityQueue:
        await self._connect()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def put(self, item: Any, timeout: float | None = None, *, priority: int = 0) -> None:
        """Put an item, when there is room. Raises ``asyncio.QueueFull`` at the timeout (seconds)."""
        await self._put(item, priority, timeout, wait=True)

    async def put_nowait(self, item: Any, *, priority: int = 0) -> None:
        """Put an item if there is room now, else raise ``asyncio.QueueFull``."""
        await self._put(item, priority, None, wait=False)

    async def get(self, timeout: float | None = None) -> Any:
        """Take the item that comes first, when there is one. Raises ``asyncio.QueueEmpty`` at the timeout (seconds)."""
        rest = _countdown(timeout)
        delivery = await self._run(lambda line: line.take(rest()))
        if delivery is None:
            raise asyncio.QueueEmpty
        return self._settings.value(delivery)

    async def get_nowait(self) -> Any:
        """Take an item if there is one now, else raise ``asyncio.QueueEmpty``."""
        return await self.get(0)

    async def task_done(self) -> None:
        """The oldest item that this object got and that is not done is done. Raises :class:`ValueError` for none."""
        item = self._ledger.begin()
        try:
            await self._run(lambda line: _acked(line, item))
        except StaleDelivery:
            self._ledger.end(item)
            raise
        except BaseException:
            self._ledger.fail(item)
            raise
        self._ledger.end(item)

    async def join(self) -> None:
        """Wait until the queue has no item any more: none that waits, and none that somebody got and has not done."""
        await self._run(lambda line: line.wait_for(WaitDrained(0, self.name)))

    async def qsize(self) -> int:
        """Return how many items wait now."""
        count: int = await self._run(lambda line: line.call(ViewCount(0, self.name)))
        return count

    async def empty(self) -> bool:
        """Return whether no item waits now."""
        return await self.qsize() == 0

    async def full(self) -> bool:
        """Return whether there is no room now, as far as this object's ``maxsize`` says."""
        return 0 < self.maxsize <= await self.qsize()

    async def close(self) -> None:
        """Give back to the queue what this object got and has not done, and disconnect. May be repeated."""
        self._closed = True
        line, self._line = self._line, None
        if line is not None:
            await line.close(self._ledger.give_back())

    async def _put(self, item: Any, priority: int, timeout: float | None, *, wait: bool) -> None:
        frame = self._settings.publish(item, priority, wait=wait)
        rest = _countdown(timeout)
        try:
            done = await self._run(lambda line: line.publish(frame, rest()))
        except BrokerBusy as exc:
            raise asyncio.QueueFull from exc
        except NoRoute as exc:
            raise (exc if self._line is None else self._line.gone()) from exc
        if not done:
            raise asyncio.QueueFull

    async def _run(self, use: Callable[[LoopLine], Awaitable[_T]]) -> _T:
        """Do something over the connection; over another one, from the start, if it is lost meanwhile."""
        losses = Losses()
        while True:
            line = await self._live_line()
            losses.begin()
            try:
                return await use(line)
            except ConnectionLost as exc:
                line.abandon(str(exc))
                pause = losses.pause(exc)
            await asyncio.sleep(pause)

    async def _live_line(self) -> LoopLine:
        if self._line is not None and self._line.usable:
            return self._line
        import tenacity  # noqa: PLC0415 - it is not needed while the connection lives

        again = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type((ConnectionLost, BrokerUnreachable)),
            wait=tenacity.wait_random_exponential(0.05, max=2.0),
            stop=tenacity.stop_after_delay(self._settings.reconnect),
            reraise=True,
        )
        return await again(self._connect)

    async def _connect(self) -> LoopLine:
        async with self._connecting:
            if self._closed:
                raise ValueError(f"{self!r} is closed.")
            if self._line is not None:
                if self._line.usable:
                    return self._line
                self._line.abandon("it was lost")
                self._line = None
            # The handshake blocks, and a local broker may have to be started: that is for another thread.
            dialled = asyncio.ensure_future(asyncio.to_thread(self._settings.connect, self._identity, self._ledger))
            try:
                client = await asyncio.shield(dialled)
            except asyncio.CancelledError:
                dialled.add_done_callback(_drop)
                raise
            self._line = LoopLine(client, self.name, self._ledger)
            return self._line


def _countdown(timeout: float | None) -> Callable[[], float | None]:
    """Return what says how much of a timeout is left. Raises :class:`ValueError` for a negative one."""
    if timeout is None:
        return lambda: None
    if timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    deadline = time.monotonic() + timeout
    return lambda: max(0.0, deadline - time.monotonic())


async def _acked(line: LoopLine, item: Item) -> None:
    ack = item.ack()
    if ack is not None:
        await line.call(ack)


def _drop(dialled: asyncio.Future[BrokerClient]) -> None:
    """Close a connection that nobody waits for any more."""
    if not dialled.cancelled() and dialled.exception() is None:
        dialled.result().abandon()

"""One thread's connection to a broker, shared by all the proxies that the thread uses."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from .. import frames
from ..client import BrokerClient
from ..errors import BrokerUnreachable, ConnectionLost, NotFound, ReplyError, StaleDelivery
from .address import BrokerAddress, key_for

__all__ = ["Link", "close_link", "link_to"]


class Link:
    """A connection that is made when it is first needed, and again after it was lost.

    The broker knows a lock's holder, and who wrote or popped one half of a message, by the connection. So one that is
    lost in the middle of that is told to the caller (:class:`ConnectionLost`). Outside of it the request is made again
    over another connection: none of them does more when it is done twice.

    Parameters:
        address: the broker.
        offered: the key that the proxy brings along, if any.
    """

    def __init__(self, address: BrokerAddress, offered: bytes | None) -> None:
        self._address = address
        self._offered = offered
        self._client: BrokerClient | None = None
        self._end: weakref.finalize[..., Link] | None = None
        #: Messages (queue and id) of which the broker has one half for this connection: written, or popped.
        self._staged: set[tuple[str, str]] = set()
        self._reserved: set[tuple[str, str]] = set()
        #: Whether some of many writes were refused, so that it is not known what is staged.
        self._unsure = False
        #: Queues whose lock it has, and those whose lock was lost with an earlier connection until that was told.
        self._locks: set[str] = set()
        self._lost: set[str] = set()

    def close(self) -> None:
        """End the connection: locks are free, what was half written or half popped is undone."""
        self._client = None
        self._lost |= self._locks
        self._locks.clear()
        self._staged.clear()
        self._reserved.clear()
        self._unsure = False
        if self._end is not None:
            self._end()
            self._end = None

    @property
    def _busy(self) -> bool:
        """Whether the broker knows something of this connection that would be gone with it."""
        return bool(self._locks or self._staged or self._reserved or self._unsure)

    def call(self, frame: frames.Request) -> Any:
        """Send a request and return the value of its answer. Raises what :meth:`BrokerClient.call` does."""
        if isinstance(frame, frames.AcquireQueueLock | frames.ReleaseQueueLock) and frame.queue in self._lost:
            self._lost.discard(frame.queue)
            if isinstance(frame, frames.ReleaseQueueLock):
                raise ConnectionLost(f"The lock of queue {frame.queue!r} was lost with the connection to the broker.")
        busy = self._busy
        try:
            value = self._ask(frame)
        except ConnectionLost:
            if busy:
                raise
            value = self._again(frame)
        except (NotFound, StaleDelivery):
            self._forget(frame)
            raise
        self._note(frame, value)
        return value

    def _note(self, frame: frames.Request, value: Any) -> None:
        if isinstance(frame, frames.ReleaseQueueLock):
            self._locks.discard(frame.queue)
        elif isinstance(frame, frames.AcquireQueueLock) and value:
            self._locks.add(frame.queue)
        elif isinstance(frame, frames.ViewSet):
            self._note_written((frame.queue, frame.id), value)
        elif isinstance(frame, frames.ViewPop) and value is not None:
            self._note_popped((frame.queue, frame.id))
        elif isinstance(frame, frames.ViewClear):
            self._staged = {key for key in self._staged if key[0] != frame.queue}

    def _note_written(self, key: tuple[str, str], value: bool | None) -> None:
        if value is None:
            self._staged.add(key)
        elif value:
            self._staged.discard(key)
            self._reserved.discard(key)

    def _note_popped(self, key: tuple[str, str]) -> None:
        if key in self._staged:
            self._staged.discard(key)
        elif key in self._reserved:
            self._reserved.discard(key)
        else:
            self._reserved.add(key)

    def _forget(self, frame: frames.Request) -> None:
        """The broker took back what this connection had of a queue, or the queue is gone: the caller is told now."""
        queue = getattr(frame, "queue", "")
        self._locks.discard(queue)
        self._reserved = {key for key in self._reserved if key[0] != queue}

    def call_many(self, requests: Sequence[frames.Request]) -> list[Any]:
        """Send requests one after the other and return their values. Raises the first refusal, when all are done."""
        unsure, self._unsure = self._unsure, True
        values: list[Any] = self._guarded(lambda client: client.call_many(requests))
        self._unsure = unsure
        for request, value in zip(requests, values, strict=True):
            self._note(request, value)
        return values

    def _again(self, frame: frames.Request) -> Any:
        import tenacity  # noqa: PLC0415 - it imports asyncio, and few connections are lost

        again = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((ConnectionLost, BrokerUnreachable)),
            wait=tenacity.wait_random_exponential(0.05, max=1.0),
            stop=tenacity.stop_after_delay(self._address.reconnect),
            reraise=True,
        )
        return again(self._ask, frame)

    def _ask(self, frame: frames.Request) -> Any:
        return self._guarded(lambda client: client.call(frame))

    def _guarded(self, use: Callable[[BrokerClient], Any]) -> Any:
        client = self._client
        if client is None:
            client = self._client = self._connect()
        try:
            return use(client)
        except ReplyError:
            raise
        except BaseException:
            # Interrupted or lost: a lock may have been given, or a half popped, without our knowing.
            self.close()
            raise

    def _connect(self) -> BrokerClient:
        address = self._address
        client = BrokerClient.connect(
            address.url,
            key=None if address.url.is_local else key_for(address, self._offered),
            timeout=address.connect_timeout,
            autostart=address.autostart,
            credentials=address.credentials,
            tls=address.tls,
            allow_plaintext=address.allow_plaintext,
        )
        # The end of the thread is the end of its link. Not __del__: an exception may make the link part of a cycle, of
        # which the socket could be collected first.
        self._end = weakref.finalize(self, client.abandon)
        return client


class _Links(threading.local):
    """The links of one thread. A forked child has its own: its copies of the connections are closed."""

    def __init__(self) -> None:
        self.by_address: dict[tuple[int, BrokerAddress], Link] = {}


_links = _Links()


def link_to(address: BrokerAddress, offered: bytes | None) -> Link:
    """Return this thread's link to a broker. It lives as long as the thread, or until :func:`close_link`."""
    key = (os.getpid(), address)
    link = _links.by_address.get(key)
    if link is None:
        link = _links.by_address[key] = Link(address, offered)
    return link


def close_link(address: BrokerAddress) -> None:
    """End this thread's connection to a broker, if there is one."""
    with contextlib.suppress(KeyError):
        _links.by_address.pop((os.getpid(), address)).close()

"""``PriorityQueue``, for threads and processes."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.context import get_spawning_popen
from typing import Any, TypeVar

from ..errors import BrokerBusy, BrokerUnreachable, ConnectionLost, NoRoute, StaleDelivery
from ..frames import ViewCount, WaitDrained
from ..serializer import NAME
from ..tls import TLSOptions
from ..url import BrokerURL
from .ledger import Item, Ledger
from .line import Losses
from .settings import Settings, new_identity
from .threads import ThreadLine

__all__ = ["PriorityQueue"]

_T = TypeVar("_T")


class _Side:
    """What belongs to a queue object in one process: its connection and what it has got and not done."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.identity = new_identity()
        self.ledger = Ledger()
        self.connecting = threading.Lock()
        self.line: ThreadLine | None = None


class PriorityQueue:
    """A priority queue between threads, processes and machines, used as ``queue.PriorityQueue`` is.

    ::

        with PriorityQueue("jobs") as jobs:
            jobs.put({"n": 1}, priority=5)
            item = jobs.get(timeout=10)
            jobs.task_done()

    An item that was got belongs to this object until :meth:`task_done`; if the process dies before, the item is back
    at its place. Items survive the death of the broker (unless it keeps nothing on disk), and gets and puts go on when
    it is back: a put in doubt is sent again and kept once, an item in hand stays in hand.

    What differs from ``queue.PriorityQueue``:

    * the priority is an argument, not part of the item; *higher* comes first, and equal ones in the order of arrival
      at the broker. Items need not be comparable.
    * items are data: JSON or bytes. What others wrote is read if it is JSON, text or binary.
    * :meth:`task_done` is for the oldest item of this object that is not done, and lets it leave the queue for good;
      :meth:`join` waits for all processes.
    * :meth:`qsize` does not count items that were got, and ``maxsize`` does not either.
    * an item that cannot be read raises :class:`UnreadableValue` in :meth:`get`; it counts as got, so
      :meth:`task_done` drops it.

    Threads may share an object. A process that was forked, or is given the object in a pickle, uses a connection of its
    own: what the parent had got stays the parent's.

    Parameters:
        name: the queue's name. It is used as it exists, else declared durable.
        broker: the broker's URL. The local broker is started if it does not run.
        maxsize: how many items may wait before a put waits; 0 or less for any number. The queue is declared with it,
            so objects that name one have to agree (:class:`PreconditionFailed`); those that name none use the queue as
            it is.
        serializer: ``mplite-json``, or ``json`` for readers that have Kombu and not this package.
        key: the broker's key for TCP; by default the URL's, the credentials' or the environment's.
        reconnect: seconds for which a broker that was lost is looked for before :class:`BrokerUnreachable` is raised.
        connect_timeout: seconds for connecting and the handshake.
        autostart, credentials, tls, allow_plaintext: as for ``BrokerClient.connect``.
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
        self._begin(
            Settings.of(
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
        )

    def _begin(self, settings: Settings) -> None:
        self._settings = settings
        self.name = settings.name
        self.maxsize = settings.maxsize
        self._closed = False
        self._side = _Side()
        self._connect(self._side)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the settings: the same queue, another connection. The key is among them only for a spawned child."""
        settings = self._settings
        if get_spawning_popen() is None:
            settings = replace(settings, key=None, url=settings.url.with_key(None))
        return _rebuilt, (settings,)

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._side.ledger)} not done"
        return f"<PriorityQueue {self.name!r} at {self._settings.url}, {state}>"

    def __enter__(self) -> PriorityQueue:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def put(self, item: Any, block: bool = True, timeout: float | None = None, *, priority: int = 0) -> None:
        """Put an item into the queue; it is there, and safe, when this returns.

        Parameters:
            block: whether to wait for room.
            timeout: seconds to wait for room; ``None`` for ever.
            priority: a signed 32-bit integer; higher comes first.

        Raises:
            queue.Full: there was no room (in time); the item is not in the queue.
            TypeError, ValueError: the item is not data, the priority is no such number, the timeout is negative.
            NotFound: the queue was deleted.
            BrokerUnreachable: the broker was lost and did not come back; whether the item is in the queue is in doubt.
        """
        deadline = deadline_of(block, timeout)
        frame = self._settings.publish(item, priority, wait=block)
        try:
            done = self._run(lambda line: line.publish(frame, deadline))
        except BrokerBusy as exc:
            raise queue.Full from exc
        except NoRoute as exc:
            line = self._side.line
            raise (exc if line is None else line.gone()) from exc
        if not done:
            raise queue.Full

    def put_nowait(self, item: Any, *, priority: int = 0) -> None:
        """Put an item if there is room now. Raises as :meth:`put`."""
        self.put(item, False, priority=priority)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the item that comes first: of the highest priority, and of those the one that arrived first.

        While somebody has the queue's lock by hand there is none to get.

        Parameters:
            block: whether to wait for one.
            timeout: seconds to wait; ``None`` for ever.

        Raises:
            queue.Empty: there was none (in time).
            ValueError: the timeout is negative, or the queue is closed.
            UnreadableValue: the item is no data that is read here.
            NotFound: the queue was deleted.
            BrokerUnreachable: the broker was lost and did not come back.
        """
        deadline = deadline_of(block, timeout)
        delivery = self._run(lambda line: line.take(deadline if block else time.monotonic()))
        if delivery is None:
            raise queue.Empty
        return self._settings.value(delivery)

    def get_nowait(self) -> Any:
        """Take an item if there is one now. Raises as :meth:`get`."""
        return self.get(False)

    def task_done(self) -> None:
        """The oldest item that this object got and that is not done is done: it leaves the queue for good.

        Raises:
            ValueError: there is none.
            StaleDelivery: the connection was lost, and the item had gone back to its queue.
        """
        side = self._here()
        item = side.ledger.begin()
        try:
            self._run(lambda line: _acked(line, item))
        except StaleDelivery:
            side.ledger.end(item)
            raise
        except BaseException:
            side.ledger.fail(item)
            raise
        side.ledger.end(item)

    def join(self) -> None:
        """Wait until the queue has no item any more: none that waits, and none that somebody got and has not done."""
        self._run(lambda line: line.wait_for(WaitDrained(0, self.name)))

    def qsize(self) -> int:
        """Return how many items wait now."""
        count: int = self._run(lambda line: line.call(ViewCount(0, self.name)))
        return count

    def empty(self) -> bool:
        """Return whether no item waits now."""
        return self.qsize() == 0

    def full(self) -> bool:
        """Return whether there is no room now, as far as this object's ``maxsize`` says."""
        return 0 < self.maxsize <= self.qsize()

    def close(self) -> None:
        """Give back to the queue what this object got and has not done, and disconnect. May be repeated."""
        self._closed = True
        side = self._here()
        line, side.line = side.line, None
        if line is not None:
            line.close(side.ledger.give_back())

    def _here(self) -> _Side:
        """Return this process's side; a fork begins with none of its parent's."""
        if self._side.pid != os.getpid():
            parents = self._side.line
            self._side = _Side()
            if parents is not None:
                parents.abandon()
        return self._side

    def _run(self, use: Callable[[ThreadLine], _T]) -> _T:
        """Do something over the connection; over another one, from the start, if it is lost meanwhile."""
        losses = Losses()
        while True:
            line = self._line()
            losses.begin()
            try:
                return use(line)
            except ConnectionLost as exc:
                line.retire(str(exc))
                pause = losses.pause(exc)
            time.sleep(pause)

    def _line(self) -> ThreadLine:
        side = self._here()
        line = side.line
        if line is not None and line.usable:
            return line
        import tenacity  # noqa: PLC0415 - it imports asyncio, and few connections are lost

        again = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((ConnectionLost, BrokerUnreachable)),
            wait=tenacity.wait_random_exponential(0.05, max=2.0),
            stop=tenacity.stop_after_delay(self._settings.reconnect),
            reraise=True,
        )
        return again(self._connect, side)

    def _connect(self, side: _Side) -> ThreadLine:
        """Return the connection, made by the first thread that needs it."""
        with side.connecting:
            if self._closed:
                raise ValueError(f"{self!r} is closed.")
            line = side.line
            if line is not None:
                if line.usable:
                    return line
                side.line = None
                line.retire("it was lost")
                line.abandon()
            client = self._settings.connect(side.identity, side.ledger)
            side.line = line = ThreadLine(client, self.name, side.ledger)
            return line


def _rebuilt(settings: Settings) -> PriorityQueue:
    made = PriorityQueue.__new__(PriorityQueue)
    made._begin(settings)
    return made


def _acked(line: ThreadLine, item: Item) -> None:
    ack = item.ack()
    if ack is not None:
        line.call(ack)


def deadline_of(block: bool, timeout: float | None) -> float | None:
    """Return when a wait is over (``time.monotonic()``). Raises :class:`ValueError` for a negative timeout."""
    if not block or timeout is None:
        return None
    if timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return time.monotonic() + timeout

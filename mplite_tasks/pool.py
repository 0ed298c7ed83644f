"""Connections to the broker for those who publish and wait: a bounded pool, made anew in each process.

A connection is used by one thread at a time. What was opened before a fork is never used, closed or written to after
it: the child makes its own. There is no background thread.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import kombu
import tenacity

from mplite_tasks_transport import BrokerBusy, BrokerFeatures, NoRoute, Publication, features_for

from .errors import BadOption, BrokerUnavailable
from .topology import Topology

__all__ = ["DEFAULT_POOL_SIZE", "Link", "LinkPool", "NoLinkInTime", "lost_errors"]

#: Connections that one process may have in its pool: as many threads can publish or wait at a time.
DEFAULT_POOL_SIZE: Final = 10


def lost_errors(connection: kombu.Connection) -> tuple[type[BaseException], ...]:
    """Return what is raised when a connection was lost, or the broker asks to try later."""
    return (*connection.recoverable_connection_errors, *connection.recoverable_channel_errors, BrokerBusy)


class NoLinkInTime(Exception):
    """There was no connection for a caller within the time that it had; the text says why."""


class Link:
    """One connection with what is used on it: a channel, a producer, the broker's features, the queues declared."""

    def __init__(self, connection: kombu.Connection, topology: Topology) -> None:
        # As connect() does, without the two seconds that Kombu sleeps in it: whoever calls has a backoff of their own.
        connection.ensure_connection(max_retries=1, interval_start=0, reraise_as_library_errors=False)
        self.connection = connection
        self.topology = topology
        self.driver_type: str = connection.transport.driver_type
        self.channel: Any = connection.channel()
        self.producer = kombu.Producer(self.channel, auto_declare=False)
        self.features: BrokerFeatures = features_for(connection)
        #: What is raised when the connection was lost, or the broker asks to try later.
        self.lost_errors = lost_errors(connection)
        self._declared: set[str] = set()
        self._returned = 0
        # Redis has no word for it: what is sent to a queue makes that queue there.
        events = getattr(self.channel, "events", None)
        if events is not None:
            events["basic_return"].add(self._on_return)

    def declare(self, queue: str) -> None:
        """Make sure that a queue and its dead letters exist, once on this connection."""
        if queue not in self._declared:
            self.topology.declare(queue, self.connection, self.channel, self.driver_type)
            self._declared.add(queue)

    def declare_again(self) -> None:
        """Declare every queue that was declared on this connection once more: somebody may have deleted one."""
        declared, self._declared = self._declared, set()
        for queue in declared:
            self.declare(queue)

    def publish(self, publication: Publication) -> None:
        """Publish one message to its queue, and return when the broker has confirmed it.

        Raises :class:`NoRoute` if the queue is deleted as soon as it is declared.
        """
        self.declare(publication.queue)
        if self._is_returned(publication):
            self.declare_again()
            if self._is_returned(publication):
                raise NoRoute(f"The queue {publication.queue} is deleted as soon as it is declared.")

    def _is_returned(self, publication: Publication) -> bool:
        """Publish a message and say whether there was no queue to take it."""
        before = self._returned
        self.producer.publish(
            publication.body,
            routing_key=publication.queue,
            exchange="",
            mandatory=True,
            priority=publication.priority,
            content_type=publication.content_type,
            content_encoding=publication.content_encoding,
            headers=dict(publication.headers),
            **publication.properties,
            **self.features.publish_options(id=publication.id, delay=publication.delay, eta=publication.eta),
        )
        return self._returned > before

    def _on_return(self, *what: object) -> None:
        self._returned += 1

    def close(self) -> None:
        """Close the connection. Never raises what the broker or the network has to say to that."""
        with contextlib.suppress(*self.lost_errors, OSError):  # the other end may be gone already
            self.connection.release()


class _Process:
    """The links of one process: free ones, and how many there are in all."""

    def __init__(self, pid: int, size: int) -> None:
        self.pid = pid
        self.slots = threading.BoundedSemaphore(size)
        self.free: list[Link] = []

    def take(self) -> Link | None:
        """Return a free link, if there is one. Safe for many threads, as each step on the list is."""
        try:
            return self.free.pop()
        except IndexError:
            return None

    def close_free(self) -> None:
        """Close every free link."""
        while (link := self.take()) is not None:
            link.close()


class LinkPool:
    """Lends links, each to one thread at a time.

    Parameters:
        url: the broker's URL.
        transport_options: Kombu's.
        topology: how queues are declared.
        size: links per process; a further thread waits until one is given back.
        patience: seconds for which a broker that cannot be reached is tried again.
    """

    def __init__(
        self,
        url: str,
        *,
        topology: Topology,
        transport_options: dict[str, Any],
        size: int = DEFAULT_POOL_SIZE,
        patience: float,
    ) -> None:
        self._url = url
        self._topology = topology
        self._transport_options = transport_options
        self._size = size
        self._patience = patience
        self._process = _Process(os.getpid(), size)
        self._inherited: list[_Process] = []

    @property
    def patience(self) -> float:
        """Seconds for which a broker that cannot be reached is tried again."""
        return self._patience

    def connection(self) -> kombu.Connection:
        """Return a new Kombu connection, not yet connected.

        Its publishes are confirmed, as ours always are and RabbitMQ's where it is asked for.

        Raises :class:`BadOption` for a kind of broker that Kombu does not know, or whose library is missing.
        """
        options = {"confirm_publish": True, **self._transport_options}
        try:
            return kombu.Connection(self._url, transport_options=options)
        except (KeyError, ImportError) as exc:
            scheme = self._url.partition("://")[0]
            raise BadOption(
                f"There is no Kombu transport for a broker URL that begins with {scheme!r}: {exc.args[0]}."
            ) from exc

    def shown_url(self) -> str:
        """Return the broker's URL without its password; of one that cannot be taken apart, only the kind."""
        try:
            return str(self.connection().as_uri())
        except ValueError:  # Python's text would quote a part of what may be the password
            return f"{self._url.partition('://')[0]}://**"

    @contextmanager
    def link(self, timeout: float | None = None) -> Iterator[Link]:
        """Lend a link. One during whose use anything was raised is closed, since its state is not known.

        Parameters:
            timeout: seconds to wait for one that others use, and for the broker, if that is less than ``patience``.

        Raises:
            BrokerUnavailable: no broker was reached for as long as ``patience`` says.
            NoLinkInTime: there was none within ``timeout`` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        process = self._own_process()
        with self._slot(process, timeout):
            link = process.take() or self._connect(deadline)
            try:
                yield link
            except BaseException as exc:
                link.close()
                if isinstance(exc, link.lost_errors):
                    process.close_free()  # they go to the same broker, and are older
                raise
            if self._process is process:
                process.free.append(link)
            else:  # closed meanwhile
                link.close()

    def close(self) -> None:
        """Close every free link, and each lent one as it comes back. The pool can be used again."""
        process, self._process = self._own_process(), _Process(os.getpid(), self._size)
        process.close_free()

    def _own_process(self) -> _Process:
        process = self._process
        if process.pid != os.getpid():
            # Kept, so that no destructor of what belongs to the parent runs here.
            self._inherited.append(process)
            process = self._process = _Process(os.getpid(), self._size)
        return process

    @contextmanager
    def _slot(self, process: _Process, timeout: float | None) -> Iterator[None]:
        if not process.slots.acquire(timeout=timeout):
            raise NoLinkInTime(f"all {self._size} connections of this process were in use (pool_size=)")
        try:
            yield
        finally:
            process.slots.release()

    def _connect(self, deadline: float | None) -> Link:
        connection = self.connection()
        errors = lost_errors(connection)
        left = self._patience if deadline is None else max(0.0, deadline - time.monotonic())
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(errors),
            wait=tenacity.wait_exponential(multiplier=0.02, max=1.0) + tenacity.wait_random(0, 0.05),
            stop=tenacity.stop_after_delay(min(self._patience, left)),
            reraise=True,
        )
        try:
            return attempts(lambda: Link(self.connection(), self._topology))
        except errors as exc:
            if left < self._patience:
                raise NoLinkInTime(f"the broker at {connection.as_uri()} could not be reached: {exc}") from exc
            raise BrokerUnavailable(
                f"The broker at {connection.as_uri()} could not be reached for {self._patience:g} s: {exc}"
            ) from exc

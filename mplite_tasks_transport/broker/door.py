"""The door: the listeners, and who may come in through them and how many.

Whoever is accepted is a stranger until the handshake is over, by TLS where the listener has it. Strangers have a
deadline and little room: for one more than that, the one that has been silent longest goes, of the address that has
most of them. So an honest client, which needs some milliseconds, gets in whatever a flood of silent ones does.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import os
import socket
from asyncio.sslproto import SSLProtocol
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import TooManyConnections
from ..limits import (
    ACCEPT_PAUSE_SECONDS,
    ACCEPTS_PER_TURN,
    HANDSHAKE_SECONDS,
    LISTEN_BACKLOG,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_ADDRESS,
    MAX_UNAUTHENTICATED,
    TLS_CLOSE_SECONDS,
    TLS_READ_BYTES,
)
from .throttle import Throttle

if TYPE_CHECKING:
    from .connection import ClientConnection
    from .identity import Identity

__all__ = ["Arrival", "Door", "origin_of"]

log = logging.getLogger("mplite.broker")

#: What accept() raises when there is no descriptor left, or no memory for one: nothing is wrong with who comes.
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Arrival:
    """A connection as the door sees it, from its accept to its end.

    Parameters:
        address: where it comes from, as connections are counted (:func:`origin_of`); empty for a unix socket.
        binding: the channel binding of the certificate that it is shown; empty without TLS.
        since: when it came, in seconds of the loop.
    """

    __slots__ = ("address", "admitted", "binding", "connection", "since", "task")

    def __init__(self, address: str, binding: bytes, since: float) -> None:
        self.address = address
        self.binding = binding
        self.since = since
        self.admitted = False
        self.connection: ClientConnection | None = None
        self.task: asyncio.Task[None] | None = None

    def drop(self) -> None:
        """Close it at once."""
        if self.connection is not None and self.connection.is_open:
            self.connection.abort()
        elif self.task is not None:
            self.task.cancel()


def origin_of(address: str) -> str:
    """Return what connections are counted by: an IPv4 address, or of an IPv6 address the network of 64 bits.

    That is what one machine has at least, with as many addresses as it likes.
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv4Address) or parsed.is_loopback:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False))


class Door:
    """All listeners of a broker.

    Parameters:
        loop: the broker's.
        make: makes the protocol of a connection.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, make: Callable[[Arrival], ClientConnection]) -> None:
        self._loop = loop
        self._make = make
        self._listeners: dict[socket.socket, Identity | None] = {}
        self._strangers: dict[str, dict[Arrival, None]] = {}
        self._arrivals: set[Arrival] = set()
        self._admitted: Counter[str] = Counter()
        self._resume: asyncio.TimerHandle | None = None
        self._say_exhausted = Throttle(log)
        self._say_crowded = Throttle(log)
        self._say_no_tls = Throttle(log, logging.INFO)

    # Listeners

    def listen_unix(self, path: Path) -> None:
        """Listen on a unix socket that only this user can connect to."""
        if path.is_socket():
            path.unlink()  # of an earlier broker: whoever starts one holds the lock of its data directory
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        umask = os.umask(0o177)
        try:
            listener.bind(str(path))
        except BaseException:
            listener.close()
            raise
        finally:
            os.umask(umask)
        self._open(listener, None)

    def listen_tcp(self, host: str, port: int, identity: Identity | None) -> list[tuple[str, int]]:
        """Listen on a TCP address, by TLS if there is an identity. Returns the addresses with their ports.

        Raises :class:`OSError` if it is not known or taken.
        """
        if identity is not None:
            SSLProtocol.max_size = TLS_READ_BYTES  # there is no argument for it
        addresses = []
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            listener = socket.socket(family, socket.SOCK_STREAM)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind(address)
            except OSError as exc:
                listener.close()
                reason = (exc.strerror or str(exc)).lower()
                raise OSError(exc.errno, f"cannot listen on {address[0]}, port {port}: {reason}") from None
            self._open(listener, identity)
            name = listener.getsockname()
            addresses.append((str(name[0]), int(name[1])))
        return addresses

    def _open(self, listener: socket.socket, identity: Identity | None) -> None:
        listener.setblocking(False)
        listener.listen(LISTEN_BACKLOG)
        self._listeners[listener] = identity
        self._loop.add_reader(listener, self._accept, listener)

    def close(self) -> None:
        """Stop listening, and turn away who is still at the door."""
        if self._resume is not None:
            self._resume.cancel()
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            listener.close()
        self._listeners.clear()
        for arrival in [each for strangers in self._strangers.values() for each in strangers]:
            arrival.drop()

    # Accepting

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                if exc.errno not in _EXHAUSTED:
                    raise
                self._pause(exc)
                return
            sock.setblocking(False)
            local = sock.family == socket.AF_UNIX
            self._receive(sock, "" if local else origin_of(str(address[0])), self._listeners[listener])

    def _receive(self, sock: socket.socket, address: str, identity: Identity | None) -> None:
        arrival = Arrival(address, identity.binding if identity else b"", self._loop.time())
        self._arrivals.add(arrival)
        if address:
            self._make_room()
            self._strangers.setdefault(address, {})[arrival] = None
        arrival.task = self._loop.create_task(self._greet(sock, arrival, identity))
        # Not in the coroutine: it does not even begin when it is cancelled at once.
        arrival.task.add_done_callback(lambda task: self._greeted(task, sock, arrival))

    async def _greet(self, sock: socket.socket, arrival: Arrival, identity: Identity | None) -> None:
        """Have the connection made, after the TLS handshake if it has one."""
        connection = arrival.connection = self._make(arrival)
        if identity is None:
            await self._loop.connect_accepted_socket(lambda: connection, sock)
        else:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                sock,
                ssl=identity.context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=TLS_CLOSE_SECONDS,
            )

    def _greeted(self, task: asyncio.Task[None], sock: socket.socket, arrival: Arrival) -> None:
        arrival.task = None
        error = None if task.cancelled() else task.exception()
        if error is None and not task.cancelled():
            return
        sock.close()
        self.leave(arrival)
        if isinstance(error, OSError):
            self._say_no_tls("A connection from %s came to nothing: %s", arrival.address or "a unix socket", error)
        elif error is not None:
            log.error("A connection could not be made.", exc_info=error)

    def _pause(self, error: OSError) -> None:
        """Accept nobody until there may be a descriptor again: the listeners would be ready all the time."""
        self._say_exhausted(
            "No more connections for now: %s. Raise the limit of open files (ulimit -n).", error.strerror
        )
        if self._resume is None:
            for listener in self._listeners:
                self._loop.remove_reader(listener)
            self._resume = self._loop.call_later(ACCEPT_PAUSE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        self._resume = None
        for listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)

    # Who is in

    def _make_room(self) -> None:
        """Let the stranger go that has been silent longest, of the address that has most, if there are too many."""
        if sum(map(len, self._strangers.values())) < MAX_UNAUTHENTICATED:
            return
        address = max(self._strangers, key=lambda each: len(self._strangers[each]))
        self._say_crowded("There are %d connections without a handshake, mostly from %s.", MAX_UNAUTHENTICATED, address)
        oldest = next(iter(self._strangers[address]))
        self._forget_stranger(oldest)
        oldest.drop()

    def admit(self, arrival: Arrival) -> None:
        """The handshake is over: the stranger is a client.

        Raises :class:`TooManyConnections` if it is one too many, in all or of its address.
        """
        if self._admitted.total() >= MAX_CONNECTIONS:
            raise TooManyConnections(
                f"The broker has {MAX_CONNECTIONS} connections, and takes no more; try again later."
            )
        if arrival.address and self._admitted[arrival.address] >= MAX_CONNECTIONS_PER_ADDRESS:
            raise TooManyConnections(
                f"The broker has {MAX_CONNECTIONS_PER_ADDRESS} connections from {arrival.address}, and takes no more "
                "from there; use fewer, or try again later."
            )
        self._forget_stranger(arrival)
        arrival.admitted = True
        self._admitted[arrival.address] += 1

    def leave(self, arrival: Arrival) -> None:
        """The connection has ended. May be repeated."""
        if arrival not in self._arrivals:
            return
        self._arrivals.discard(arrival)
        self._forget_stranger(arrival)
        if arrival.admitted:
            self._admitted[arrival.address] -= 1
            if not self._admitted[arrival.address]:
                del self._admitted[arrival.address]
        if self._resume is not None:  # there is a descriptor again as soon as the socket is closed
            self._resume.cancel()
            self._resume = self._loop.call_later(0, self._go_on)

    def _forget_stranger(self, arrival: Arrival) -> None:
        strangers = self._strangers.get(arrival.address)
        if strangers is not None:
            strangers.pop(arrival, None)
            if not strangers:
                del self._strangers[arrival.address]

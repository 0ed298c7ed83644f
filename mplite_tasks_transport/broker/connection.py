"""One client's connection: the socket, the handshake, and frames between it and the server's turn."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import TYPE_CHECKING

from ..errors import Code, HandshakeRefused, ProtocolError, TooManyConnections, VersionMismatch
from ..frames import Goodbye
from ..handshake import BrokerHandshake
from ..limits import HANDSHAKE_SECONDS, MAX_FRAME_BYTES, MAX_HANDSHAKE_BYTES, OUTPUT_HIGH_BYTES
from ..protocol import FrameReader, encode_push
from .process import ProcessWatch, peer_of, same_user
from .roles import ALL_ROLES
from .session import Process, Session

if TYPE_CHECKING:
    from .door import Arrival
    from .server import Server

__all__ = ["ClientConnection"]

log = logging.getLogger("mplite.broker")


class ClientConnection(asyncio.BufferedProtocol):
    """Reads frames of one client and writes frames to it.

    Until the handshake is over, nothing that arrives reaches the message codec, and a frame may have 2 KiB.
    """

    def __init__(self, server: Server, arrival: Arrival) -> None:
        self._server = server
        self._arrival = arrival
        self._reader = FrameReader(MAX_HANDSHAKE_BYTES)
        self._transport: asyncio.Transport | None = None
        self._handshake: BrokerHandshake | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._watch: ProcessWatch | None = None
        self._process = Process()
        self._output_full = False
        self._reading = True
        self.session: Session | None = None

    # The socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the handshake, unless the peer may not connect at all."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - tells the type checker; asyncio gives no other
        self._transport = transport
        sock: socket.socket = transport.get_extra_info("socket")
        local = sock.family == socket.AF_UNIX
        self._server.connected(self)
        if not self._server.has_room or (local and not self._admit(sock)):
            transport.abort()
            return
        if not local:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            keep_alive(sock)
        transport.set_write_buffer_limits(high=OUTPUT_HIGH_BYTES)
        guard = self._server.guard
        self._handshake = BrokerHandshake(
            pid=os.getpid(),
            keys_of=None if local else lambda peer: guard.keys_of(peer.user, peer.vhost),
            binding=self._arrival.binding,
        )
        self._deadline = self._server.loop.call_at(self._arrival.since + HANDSHAKE_SECONDS, self.abort)

    def _admit(self, sock: socket.socket) -> bool:
        peer = peer_of(sock)
        if peer is None:
            return True  # the socket's directory and mode are the guard
        self._process, uid = peer
        if not same_user(uid):
            log.warning("Refused a connection of user id %d on the unix socket.", uid)
            return False
        return True

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to read to: all connections share one place, since what was read is taken at once."""
        return self._server.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        try:
            for body in self._reader.feed(self._server.read_buffer[:nbytes]):
                if self.session is None:
                    self._shake_hands(body)
                else:
                    self._server.receive(self, body)
        except ProtocolError as error:
            self.refuse(error)

    def _shake_hands(self, body: bytes) -> None:
        if self._handshake is None or self._transport is None:
            return
        try:
            answer = self._handshake.receive(body)
            if self._handshake.done and self._handshake.peer is not None:
                self._server.admit(self._arrival, self._handshake.peer.vhost)
            self._transport.write(answer)
        except (HandshakeRefused, VersionMismatch, TooManyConnections) as error:
            self._server.say_refused("Refused a client from %s: %s", self._arrival.address or "a unix socket", error)
            self._transport.write(self._handshake.refusal(error))
            self._transport.close()
            self._handshake = None
            return
        if self._handshake.done:
            self._let_in()

    def _let_in(self) -> None:
        if self._handshake is None or self._handshake.peer is None:
            return
        peer = self._handshake.peer
        self._handshake = None
        if self._deadline is not None:
            self._deadline.cancel()
        self._reader.limit = MAX_FRAME_BYTES
        roles = self._server.guard.roles_of(peer.user) if self._arrival.address else ALL_ROLES
        self.session = self._server.open_session(self, peer.vhost, peer.user, self._process, roles)
        if self._process.pid:
            self._watch = ProcessWatch(self._server.loop, self._process.pid, self._process_ended)

    def _process_ended(self) -> None:
        # Its children may hold the socket open for as long as they like: the messages go back now.
        self._server.lose(self)
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        if self._deadline is not None:
            self._deadline.cancel()
        if self._watch is not None:
            self._watch.close()
        self._server.lose(self)
        self._server.disconnected(self)
        self._server.door.leave(self._arrival)
        self._transport = None

    @property
    def is_open(self) -> bool:
        """Whether there is a socket."""
        return self._transport is not None

    # Output

    def write(self, data: bytes) -> None:
        """Send bytes, or keep them until the client reads."""
        if self._transport is not None:
            self._transport.write(data)

    def pause_writing(self) -> None:
        """The client reads too slowly: no deliveries, and no more requests, until it has caught up."""
        self._output_full = True
        if self.session is not None:
            self._server.pause_output(self.session)
        self.update_reading()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._output_full = False
        if self.session is not None:
            self._server.resume_output(self.session)
        self.update_reading()

    @property
    def output_full(self) -> bool:
        """Whether the client has more to read than it should have."""
        return self._output_full

    def update_reading(self) -> None:
        """Read from the client, or stop for as long as its own requests pile up."""
        server = self._server
        reading = not (self._output_full or server.is_overrun or server.is_flooded_by(self.session))
        if self._transport is None or reading == self._reading or self._transport.is_closing():
            return
        self._reading = reading
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # Ends

    def refuse(self, error: ProtocolError) -> None:
        """The client broke the protocol: say so, if it can understand it, and close."""
        self._server.say_refused("Closed a connection from %s: %s", self._arrival.address or "a unix socket", error)
        self.say_goodbye(error.code, str(error))

    def say_goodbye(self, code: Code, text: str) -> None:
        """Tell the client why, and close when it has read it."""
        if self._transport is None:
            return
        if self.session is not None:
            self._transport.write(encode_push(Goodbye(code, text)))
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what was not sent is lost."""
        if self._transport is not None:
            self._transport.abort()


def keep_alive(sock: socket.socket) -> None:
    """Have the kernel notice within about 45 seconds that the peer's machine is gone."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 45_000)):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)

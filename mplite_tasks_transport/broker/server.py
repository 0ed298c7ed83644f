"""The broker's process: one loop, its listeners, and the turn that applies, matches, commits and then writes.

Nothing leaves a socket before the journal has what it reveals: what a turn has to say waits for the turn's commit.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._version import __version__
from ..errors import Code, JournalError, ProtocolError
from ..limits import (
    INBOX_HIGH_BYTES,
    MAX_TURNS_IN_FLIGHT,
    PARKED_BYTES_PER_CONNECTION,
    RESUME_SECONDS,
)
from ..protocol import decode_request, encode_push
from ..url import SCHEME, TLS_SCHEME, BrokerURL
from .clock import Clock
from .connection import ClientConnection
from .core import Core
from .door import Arrival, Door
from .identity import Identity
from .journal.port import Durability, Journal
from .memory import Memory
from .process import ProcessWatch, is_alive
from .roles import Role
from .session import Holder, Process, Session
from .throttle import Throttle
from .users import Guard, UserBook

__all__ = ["BrokerConfig", "serve"]

log = logging.getLogger("mplite.broker")

#: Seconds that the loop sleeps at most while something is to happen later: a wall clock that was set is noticed.
_LONGEST_NAP = 30.0

#: Seconds that a shutdown gives its clients to read their goodbye.
_GOODBYE_SECONDS = 1.0

#: Bytes of one read. They are reserved once: an allocation of that size for each read costs more than the read.
_READ_BYTES = 256 * 1024

#: Cyclic garbage is rare here (a closed connection), and a full collection walks every message: at a million waiting
#: it stops the loop for hundreds of milliseconds. Young objects are still looked at, old ones practically never.
_GC_THRESHOLDS = (50_000, 50, 1_000_000)


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """How one broker runs.

    Parameters:
        unix_path: the unix socket to listen on, ``None`` for none. Only this user (and root) may connect.
        tcp: addresses to listen on, in the clear; port 0 picks one.
        journal: where messages are kept.
        key: the secret of TCP clients that come without a name, and may do everything.
        memory_limit: bytes of messages above which publishers wait; ``None`` for 40% of what there is.
        idle_seconds: end after so long without a connection; ``None`` for never. A broker whose journal is ``memory``
            does not end while it holds a message.
        tls: addresses to listen on by TLS.
        identity: the certificate for those.
        users: the TCP clients that come with a name.
    """

    unix_path: Path | None
    tcp: tuple[tuple[str, int], ...]
    journal: Journal
    key: bytes | None = field(repr=False)
    memory_limit: int | None = None
    idle_seconds: float | None = None
    tls: tuple[tuple[str, int], ...] = ()
    identity: Identity | None = field(default=None, repr=False)
    users: UserBook | None = None


async def serve(config: BrokerConfig, on_ready: Callable[[list[BrokerURL]], None]) -> int:
    """Run a broker until SIGTERM, SIGINT, idleness or a failure of the journal. Returns the exit status.

    Parameters:
        on_ready: called with the URLs of the TCP listeners when clients can connect.

    Raises :class:`OSError` if an address cannot be listened on, :class:`JournalError` if the journal cannot be read.
    """
    server = Server(config)
    on_ready(await server.start())
    return await server.run()


class Server:
    """The connections of one broker and its turns."""

    def __init__(self, config: BrokerConfig) -> None:
        self.loop = asyncio.get_running_loop()
        self.guard = Guard(config.key, config.users)
        self.door = Door(self.loop, lambda arrival: ClientConnection(self, arrival))
        self.say_refused = Throttle(log)
        self.read_buffer = memoryview(bytearray(_READ_BYTES))
        self._config = config
        self._journal = config.journal
        self._started = time.time()
        self._core = Core(Clock(), Memory(config.memory_limit), self._facts)
        self._connections: dict[ClientConnection, None] = {}
        self._by_session: dict[Session, ClientConnection] = {}
        self._inbox: list[tuple[ClientConnection, bytes | None]] = []
        self._farewell = "The broker is shutting down."
        self._inbox_bytes = 0
        self._turn_scheduled = False
        self._turn_put_off = False
        self._outbox: deque[tuple[int, list[tuple[ClientConnection, bytes]]]] = deque()
        self._appended = 0
        self._durable = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0
        self._idle_alarm: asyncio.TimerHandle | None = None
        self._ended: asyncio.Future[int] = self.loop.create_future()

    # Start and end

    async def start(self) -> list[BrokerURL]:
        """Read the journal, then listen. Returns the URLs of the TCP listeners."""
        config = self._config
        if (config.tcp or config.tls) and not (config.key or config.users):
            raise ValueError("A broker on TCP needs a key: without one it would let everybody in.")
        if config.tls and config.identity is None:
            raise ValueError("A broker that listens by TLS needs a certificate.")
        self._journal.on_durable = self._on_durable
        self._journal.on_failure = self._on_failure
        self._core.services.clock.last = self._journal.last_stamp()
        self._core.restore(self._journal.load())
        for holder in self._core.absentees():
            self._await_return(holder)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        if self._config.unix_path is not None:
            self.door.listen_unix(self._config.unix_path)
        urls = [
            BrokerURL(host=address, port=number, scheme=scheme)
            for scheme, places, identity in ((SCHEME, config.tcp, None), (TLS_SCHEME, config.tls, config.identity))
            for host, port in places
            for address, number in self.door.listen_tcp(host, port, identity)
        ]
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self.stop)
        self._schedule()
        self._watch_idleness()
        return urls

    def _await_return(self, holder: Holder) -> None:
        """Keep what a consumer of an earlier broker works on until it comes back, or never can."""
        pid = holder.process.pid
        if pid and not is_alive(holder.process):
            self._core.give_up(holder)
        elif not pid or not ProcessWatch(self.loop, pid, lambda: self._give_up(holder)).watching:
            self.loop.call_later(RESUME_SECONDS, self._give_up, holder)

    def _give_up(self, holder: Holder) -> None:
        self._core.give_up(holder)
        self._schedule()

    async def run(self) -> int:
        """Serve until the end. Returns the exit status."""
        status = await self._ended
        self.door.close()
        for connection in list(self._connections):
            connection.say_goodbye(Code.CONNECTION_FORCED, self._farewell)
        deadline = self.loop.time() + _GOODBYE_SECONDS
        while self._connections and self.loop.time() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.abort()
        self._journal.close()
        if self._config.unix_path is not None:
            self._config.unix_path.unlink(missing_ok=True)
        return status

    def stop(self, status: int = 0) -> None:
        """End the broker after this turn."""
        if not self._ended.done():
            self._ended.set_result(status)

    @property
    def _stopping(self) -> bool:
        return self._ended.done()

    def _on_failure(self, error: BaseException) -> None:
        log.critical("The journal failed, and the broker ends rather than confirm what is not kept: %s", error)
        self._farewell = (
            "The broker ends, because its journal cannot keep what it is told any more; its log says why "
            "(a full disk?). What was confirmed is kept."
        )
        self.loop.call_soon_threadsafe(self.stop, 1)

    # Connections

    @property
    def has_room(self) -> bool:
        """Whether anybody may come in."""
        return not self._stopping

    def admit(self, arrival: Arrival, vhost: str) -> None:
        """Let a client in that has proved who it is. Raises :class:`TooManyConnections`."""
        self._core.check_vhost(vhost)
        self.door.admit(arrival)

    def connected(self, connection: ClientConnection) -> None:
        """A socket was accepted."""
        self._connections[connection] = None

    def disconnected(self, connection: ClientConnection) -> None:
        """A socket is closed."""
        self._connections.pop(connection, None)
        self._watch_idleness()

    def open_session(
        self, connection: ClientConnection, vhost: str, user: str, process: Process, roles: Iterable[Role]
    ) -> Session:
        """A client passed the handshake."""
        session = self._core.open_session(vhost, user=user, process=process, roles=roles)
        self._by_session[session] = connection
        return session

    def receive(self, connection: ClientConnection, body: bytes) -> None:
        """A frame arrived; it is applied in the next turn."""
        overrun = self.is_overrun
        self._inbox.append((connection, body))
        self._inbox_bytes += len(body)
        if self.is_overrun and not overrun:
            self._update_reading()
        self._schedule()

    @property
    def is_overrun(self) -> bool:
        """Whether so much waits to be applied, because the journal is slow, that nothing more is read."""
        return self._inbox_bytes > INBOX_HIGH_BYTES

    def _update_reading(self) -> None:
        for connection in list(self._connections):
            connection.update_reading()

    def lose(self, connection: ClientConnection) -> None:
        """A connection ended; after the frames that it sent before, what it held goes back."""
        # At a shutdown everything stays as the journal has it, so that consumers can take up their work again.
        if connection.session is not None and not self._stopping:
            self._inbox.append((connection, None))
            self._schedule()

    def is_flooded_by(self, session: Session | None) -> bool:
        """Whether a client has so many publishes waiting for memory that no more of its requests are read."""
        return session is not None and session.parked_bytes > PARKED_BYTES_PER_CONNECTION

    def pause_output(self, session: Session) -> None:
        """A client reads too slowly."""
        self._core.pause_output(session)

    def resume_output(self, session: Session) -> None:
        """A client has caught up."""
        self._core.resume_output(session)
        self._schedule()

    # The turn

    def _schedule(self) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_scheduled = False
        if self._stopping:
            return
        if self._appended - self._durable > MAX_TURNS_IN_FLIGHT:
            self._turn_put_off = True  # the next commit has it taken
            return
        try:
            self._take_turn()
        except Exception:
            log.critical("The broker ends: a turn failed, and nothing of it is kept.", exc_info=True)
            self.stop(1)

    def _take_turn(self) -> None:
        inbox, self._inbox = self._inbox, []
        overrun, self._inbox_bytes = self.is_overrun, 0
        if overrun:
            self._update_reading()
        for connection, body in inbox:
            self._apply(connection, body)
        more = self._core.finish_turn()
        records = self._core.take_records()
        try:
            if records:
                self._appended = self._journal.append(records, self._core.services.clock.last)
        except JournalError as error:
            self._on_failure(error)
            return
        self._post()
        if more:
            self._schedule()
        self._set_alarm()

    def _apply(self, connection: ClientConnection, body: bytes | None) -> None:
        session = connection.session
        if session is None or session not in self._by_session:
            return
        if body is None:
            del self._by_session[session]
            self._core.close_session(session)
            return
        try:
            self._core.apply(session, decode_request(body))
        except ProtocolError as error:
            connection.refuse(error)
        except Exception:
            # One client's request must not end the work of the others. It may have been done in part: the client is
            # not answered and asks again over a new connection.
            log.exception("Closed a connection: its request failed in a way that was not foreseen.")
            connection.say_goodbye(Code.INTERNAL_ERROR, "The broker failed at a request; its log says how.")
        if session.parked_bytes:
            connection.update_reading()

    def _post(self) -> None:
        """Let what the turn has to say go out when the turn is durable."""
        letters = []
        for session in self._core.take_talking():
            connection = self._by_session.get(session)
            frames, session.out = session.out, []
            if connection is None:
                continue
            try:
                letters.append((connection, b"".join(map(encode_push, frames))))
            except ProtocolError as error:
                connection.refuse(error)
        if letters:
            self._outbox.append((self._appended, letters))
        self._deliver_post()

    def _deliver_post(self) -> None:
        while self._outbox and self._outbox[0][0] <= self._durable:
            for connection, data in self._outbox.popleft()[1]:
                connection.write(data)
                if connection.session is None:
                    continue
                if not connection.output_full and connection.session.out_bytes:
                    self._core.resume_output(connection.session)
                    if self._core.is_stirred:
                        self._schedule()
                connection.update_reading()

    def _on_durable(self, seq: int) -> None:
        if self._config.journal.durability is Durability.FSYNC:
            self.loop.call_soon_threadsafe(self._now_durable, seq)
        else:
            self._durable = seq

    def _now_durable(self, seq: int) -> None:
        self._durable = seq
        self._deliver_post()
        if self._turn_put_off:
            self._turn_put_off = False
            self._schedule()

    # Time

    def _set_alarm(self) -> None:
        due = self._core.next_due()
        if due is None or due == self._alarm_at:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = due
        delay = (due - self._core.services.clock.now()) / 1_000_000
        self._alarm = self.loop.call_later(min(max(delay, 0.0), _LONGEST_NAP), self._ring)

    def _ring(self) -> None:
        self._alarm_at = 0
        self._schedule()

    def _watch_idleness(self) -> None:
        if self._idle_alarm is not None:
            self._idle_alarm.cancel()
            self._idle_alarm = None
        if self._config.idle_seconds is not None and not self._connections and not self._stopping:
            self._idle_alarm = self.loop.call_later(self._config.idle_seconds, self._end_if_idle)

    def _end_if_idle(self) -> None:
        forgetful = self._journal.durability is Durability.MEMORY
        if self._connections or (forgetful and self._core.services.memory.held):
            self._watch_idleness()
            return
        log.info("Nobody was connected for %g seconds; the broker ends.", self._config.idle_seconds)
        self.stop()

    def _facts(self) -> dict[str, Any]:
        return {
            "version": __version__,
            "pid": os.getpid(),
            "durability": str(self._journal.durability),
            "uptime": time.time() - self._started,
            "connections": len(self._connections),
        }

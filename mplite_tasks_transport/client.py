"""The blocking client: one connection to a broker, frames out, replies and pushed events in."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

from .dial import DEFAULT_CONNECT_SECONDS, Line, dial
from .errors import ConnectionLost, ProtocolError, TransportError, reply_error
from .frames import (
    Blocked,
    ConsumerCancelled,
    Deliver,
    Failed,
    Goodbye,
    Ok,
    Ping,
    Push,
    Request,
    Returned,
    Unblocked,
)
from .handshake import Welcome
from .protocol import decode_push, encode_request
from .tls import TLSOptions
from .url import BrokerURL

__all__ = ["BrokerClient", "Event", "Reply"]

#: What the broker pushes and a caller has to deal with, in the order of its arrival. A ``Failed`` among them is the
#: refusal of a frame whose answer nobody waits for.
Event: TypeAlias = Deliver | Returned | ConsumerCancelled | Failed

Reply: TypeAlias = Ok | Failed

#: Bytes of one read: as much as a burst of deliveries has, and little enough to be reserved for each connection.
READ_BYTES: Final = 256 * 1024

#: Bytes that :meth:`BrokerClient.call_many` hands to the system at once.
CHUNK_BYTES: Final = 64 * 1024

#: Requests of :meth:`BrokerClient.call_many` that may be unanswered: the broker does that many in about 50 ms.
WINDOW: Final = 2048

#: Seconds that :meth:`BrokerClient.close` waits for the broker to have read everything.
CLOSE_SECONDS: Final = 5.0

#: Milliseconds of one wait: the system's limit is 2**31.
_LONGEST_POLL_MS: Final = 86_400_000.0

_open_clients: weakref.WeakSet[BrokerClient] = weakref.WeakSet()


class BrokerClient:
    """One connection to a broker, for one thread at a time of the process that made it.

    After ``fork`` the child's copy is closed without a word to the broker, so that the end of the parent is seen
    even while the child lives; used there, it raises :class:`ConnectionLost`. Once lost, a client stays lost: make
    another one.

    A signal handler that raises while the client waits loses nothing. One that raises between reading and
    understanding what was read ends the connection rather than lose a frame.
    """

    def __init__(self, url: BrokerURL, line: Line) -> None:
        self.url = url
        self.welcome: Welcome = line.welcome
        self.events: deque[Event] = deque()
        #: Why publishes wait now, ``None`` if they do not.
        self.blocked: str | None = None
        self._sock: socket.socket | None = line.sock
        self._pid = os.getpid()
        self._reader = line.reader
        # Reserved once: the system would map and unmap that much for each read.
        self._space = memoryview(bytearray(READ_BYTES))
        self._handlers: dict[int, Callable[[Reply], None]] = {}
        self._last_request = 0
        self._farewell = ""
        self._lost = "it was closed"
        #: The last request when a frame without an answer was sent, ``None`` once a later request was answered.
        self._silent_after: int | None = None
        self._readable = select.poll()
        self._readable.register(line.sock, select.POLLIN)
        _open_clients.add(self)
        for body in line.bodies:
            self._take(decode_push(body))

    @classmethod
    def connect(
        cls,
        url: BrokerURL,
        *,
        key: bytes | None = None,
        timeout: float | None = DEFAULT_CONNECT_SECONDS,
        autostart: bool = True,
        home: Path | None = None,
        credentials: str | os.PathLike[str] | None = None,
        tls: TLSOptions | None = None,
        allow_plaintext: bool = False,
    ) -> BrokerClient:
        """Return a client that is connected. Parameters and errors are those of :func:`~.dial.dial`."""
        line = dial(
            url,
            key=key,
            timeout=timeout,
            autostart=autostart,
            home=home,
            credentials=credentials,
            tls=tls,
            allow_plaintext=allow_plaintext,
        )
        return cls(line.url or url, line)

    def __repr__(self) -> str:
        state = "connected" if self.connected else "closed"
        return f"<BrokerClient {self.url} {state}, {len(self.events)} events, {len(self._handlers)} unanswered>"

    def __enter__(self) -> BrokerClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def connected(self) -> bool:
        """Whether it can be used, as far as is known: a loss is noticed in use."""
        return self._sock is not None and self._pid == os.getpid()

    @property
    def sock(self) -> socket.socket | None:
        """The socket, for event loops; ``None`` when it is closed."""
        return self._sock

    def fileno(self) -> int:
        """Return the socket's descriptor. Raises :class:`ConnectionLost` when there is none."""
        return self._usable().fileno()

    def call(self, frame: Request, *, timeout: float | None = None) -> Any:
        """Send a request and return the value that it is answered with.

        What the broker pushes meanwhile goes to ``events``. A publish waits here for as long as the broker has no
        memory for it.

        Parameters:
            timeout: seconds to wait for the answer; ``None`` waits for as long as the connection lives.

        Raises:
            ReplyError: the broker refused; nothing was changed.
            TimeoutError: there was no answer in time; whether it was done is in doubt.
            ConnectionLost: likewise.
        """
        answer: list[Reply] = []
        request = self.ask(frame, answer.append)
        try:
            self.wait_until(lambda: bool(answer), timeout)
        finally:
            self.withdraw(request)
        return _value(answer[0])

    def ask(self, frame: Request, on_reply: Callable[[Reply], None]) -> int:
        """Send a request and return its id at once; ``on_reply`` is called when its answer is read, by any method.

        ``on_reply`` is called in the order of arrival among the events, and must not raise nor use the client.
        """
        self._last_request += 1
        request = frame.r = self._last_request
        data = _encoded(frame)
        self._handlers[request] = on_reply
        try:
            self._write(data)
        except BaseException:
            self.withdraw(request)
            raise
        return request

    def withdraw(self, request: int) -> None:
        """Forget who waits for the answer to a request; it is dropped when it comes."""
        self._handlers.pop(request, None)

    def send(self, frame: Request) -> None:
        """Send a frame that is not answered. A refusal is raised by a later :meth:`drain`."""
        frame.r = 0
        self._write(_encoded(frame))
        self._silent_after = self._last_request

    def call_many(self, frames: Iterable[Request], *, timeout: float | None = None) -> list[Any]:
        """Send requests without waiting for each, and return their values when all are answered.

        At most ``WINDOW`` are unanswered at a time. All are sent and waited for before the first refusal is raised;
        the others were done.

        Parameters, Raises: as :meth:`call`; the timeout is for all together.
        """
        deadline = _deadline(timeout)
        answers: dict[int, Reply] = {}
        first = self._last_request + 1

        def unanswered() -> int:
            return self._last_request + 1 - first - len(answers)

        try:
            for chunk in self._chunks(frames, answers):
                self._write(chunk)
                self._wait(lambda: unanswered() <= WINDOW // 2, deadline)
            self._wait(lambda: not unanswered(), deadline)
        finally:
            for request in range(first, self._last_request + 1):
                self.withdraw(request)
        return [_value(answers[request]) for request in range(first, self._last_request + 1)]

    def _chunks(self, frames: Iterable[Request], answers: dict[int, Reply]) -> Iterator[bytes]:
        chunk = bytearray()
        count = 0
        for frame in frames:
            request = frame.r = self._last_request + 1
            chunk += _encoded(frame)
            self._last_request = request
            self._handlers[request] = lambda reply: answers.__setitem__(reply.r, reply)
            count += 1
            if len(chunk) >= CHUNK_BYTES or count == WINDOW // 2:
                yield bytes(chunk)
                chunk.clear()
                count = 0
        if chunk:
            yield bytes(chunk)

    def drain(self, timeout: float | None = None) -> Event:
        """Return the next event.

        Parameters:
            timeout: seconds to wait; 0 never blocks, ``None`` waits for as long as the connection lives.

        Raises:
            TimeoutError: there was none in time.
            ReplyError: the broker refused an earlier frame whose answer nobody waited for.
            ConnectionLost: the connection ended.
        """
        deadline = _deadline(timeout)
        self._usable()
        while not self.events:
            self._fill(deadline)
        event = self.events.popleft()
        if isinstance(event, Failed):
            raise reply_error(event.code, event.text)
        return event

    def wait_until(self, done: Callable[[], bool], timeout: float | None = None) -> None:
        """Read until ``done()`` holds, which replies or pushes have to bring about.

        Parameters:
            timeout: seconds to wait; ``None`` waits for as long as the connection lives.

        Raises:
            TimeoutError: it did not hold in time.
            ConnectionLost: the connection ended.
        """
        self._wait(done, _deadline(timeout))

    def take_events(self, wanted: Callable[[Event], bool]) -> list[Event]:
        """Remove from ``events``, and return, those that are wanted; the others keep their order."""
        taken = [event for event in self.events if wanted(event)]
        if taken:
            kept = [event for event in self.events if not wanted(event)]
            self.events.clear()
            self.events.extend(kept)
        return taken

    def close(self) -> None:
        """Close the connection when the broker has read everything that was sent. Never raises; may be repeated.

        An unread answer makes the system throw away what is still to be sent, so an ack just before would be lost:
        the broker is asked for a last answer first.
        """
        if self.connected and (self._handlers or self._silent_after is not None):
            with contextlib.suppress(TransportError, TimeoutError):
                self.call(Ping(0), timeout=CLOSE_SECONDS)
        self.abandon()

    def abandon(self) -> None:
        """Close the connection at once, without a word."""
        self._drop("it was closed")

    def _usable(self) -> socket.socket:
        sock = self._sock
        if sock is None:
            raise ConnectionLost(f"The connection to the broker at {self.url} cannot be used: {self._lost}.")
        if self._pid != os.getpid():
            self._leave_to_parent()
            raise ConnectionLost(f"The connection to the broker at {self.url} cannot be used: {self._lost}.")
        return sock

    def _wait(self, done: Callable[[], bool], deadline: float | None) -> None:
        self._usable()
        while not done():
            self._fill(deadline)

    def _fill(self, deadline: float | None) -> None:
        """Read once, having waited for something to read. Raises TimeoutError at the deadline."""
        sock = self._usable()
        if deadline is None:
            self._readable.poll()
        else:
            # Rounded up: a wait that is cut short by a fraction of a millisecond would be repeated until it is over.
            milliseconds = min((deadline - time.monotonic()) * 1000, _LONGEST_POLL_MS)
            if not self._readable.poll(int(milliseconds) + 1 if milliseconds > 0 else 0):
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"Nothing came from the broker at {self.url} in time.")
                return
        self._receive(sock)

    def _receive(self, sock: socket.socket) -> None:
        """Take what there is to read, without waiting."""
        try:
            size = sock.recv_into(self._space, 0, socket.MSG_DONTWAIT)
            for body in self._reader.feed(self._space[:size]):
                self._take(decode_push(body))
        except BlockingIOError:
            return
        except OSError as exc:
            raise self._lose(exc.strerror or str(exc)) from exc
        except ProtocolError as exc:
            raise self._lose(str(exc)) from exc
        except BaseException as exc:
            # A signal handler raised: a frame may have been read and not been understood.
            self._drop(f"{type(exc).__name__} was raised while it was being read")
            raise
        if not size:
            raise self._lose("the broker closed it")

    def _take(self, frame: Push) -> None:
        if isinstance(frame, Ok) or (isinstance(frame, Failed) and frame.r):
            handler = self._handlers.pop(frame.r, None)
            if self._silent_after is not None and frame.r > self._silent_after:
                self._silent_after = None
            if handler is not None:
                handler(frame)
        elif isinstance(frame, Blocked):
            self.blocked = frame.reason
        elif isinstance(frame, Unblocked):
            self.blocked = None
        elif isinstance(frame, Goodbye):
            self._farewell = frame.text
        else:
            self.events.append(frame)

    def _write(self, data: bytes) -> None:
        """Send all of it, reading meanwhile: a broker that cannot send to us may not read from us either."""
        sock = self._usable()
        rest = memoryview(data)
        try:
            rest = rest[sock.send(rest, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            pass
        except OSError as exc:
            raise self._lose_writing(sock, exc) from exc
        except BaseException as exc:
            # A signal handler raised: nobody knows how much of the frame was sent.
            self._drop(f"{type(exc).__name__} was raised in the middle of a frame")
            raise
        if not rest:
            return
        ready = select.poll()
        ready.register(sock, select.POLLIN | select.POLLOUT)
        try:
            while rest:
                (_, happened), *_ = ready.poll()
                if happened & ~select.POLLOUT:
                    self._receive(sock)
                with contextlib.suppress(BlockingIOError):
                    rest = rest[sock.send(rest, socket.MSG_DONTWAIT) :]
        except OSError as exc:
            raise self._lose_writing(sock, exc) from exc
        except BaseException as exc:
            self._drop(f"{type(exc).__name__} was raised in the middle of a frame")
            raise

    def _lose_writing(self, sock: socket.socket, error: OSError) -> ConnectionLost:
        """Return the error for a failed write. The broker may have said why it closed: look for it."""
        try:
            while self._sock is not None:
                self._receive(sock)
                if not self._readable.poll(0):
                    break
        except ConnectionLost as exc:
            return exc
        return self._lose(error.strerror or str(error))

    def _lose(self, why: str) -> ConnectionLost:
        if self._farewell:
            why = f"{why}: {self._farewell}"
        self._drop(why.removesuffix("."))
        return ConnectionLost(f"The connection to the broker at {self.url} was lost: {self._lost}.")

    def _drop(self, why: str) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            self._lost = why
            with contextlib.suppress(OSError):  # user code may have closed the descriptor
                sock.close()
        # What was delivered belongs to the connection: the broker gives it to somebody else now.
        self.events.clear()
        self._handlers.clear()
        self.blocked = None
        _open_clients.discard(self)

    def _leave_to_parent(self) -> None:
        """Close this process's copy of the descriptor; the connection goes on in the process that made it."""
        self._drop(f"it belongs to process {self._pid}, of which this process is a fork. Connect again here")


def _close_inherited() -> None:
    for client in list(_open_clients):
        client._leave_to_parent()


os.register_at_fork(after_in_child=_close_inherited)


def _encoded(frame: Request) -> bytes:
    try:
        return encode_request(frame)
    except ProtocolError as exc:
        raise reply_error(exc.code, str(exc)) from exc


def _value(reply: Reply) -> Any:
    if isinstance(reply, Failed):
        raise reply_error(reply.code, reply.text)
    return reply.value


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout

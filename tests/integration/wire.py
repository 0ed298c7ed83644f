"""A client of bare frames over a real socket, and a broker in the loop of a test."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mplite_tasks_transport import frames
from mplite_tasks_transport.broker.journal.port import Durability, Record
from mplite_tasks_transport.broker.server import BrokerConfig, Server
from mplite_tasks_transport.handshake import ClientHandshake, Welcome
from mplite_tasks_transport.limits import MAX_FRAME_BYTES
from mplite_tasks_transport.protocol import FrameReader, decode_push, encode_request

__all__ = ["HeldJournal", "Peer", "brief_garbage_collection", "hang_up_all", "running"]

#: Seconds after which a test gives up waiting for the broker.
PATIENCE = 20.0

#: The connections of the test that is running.
_open: list[Peer] = []


class HeldJournal:
    """A journal whose commits become durable when the test says so."""

    def __init__(self, durability: Durability = Durability.FSYNC) -> None:
        self.durability = durability
        self.on_durable: Callable[[int], None] = lambda _: None
        self.on_failure: Callable[[BaseException], None] = lambda _: None
        self.appended: list[Sequence[Record]] = []
        self.error: Exception | None = None
        self.at_once = False
        self.closed = False

    def load(self) -> Iterable[Record]:
        return ()

    def last_stamp(self) -> int:
        return 0

    def append(self, records: Sequence[Record], last_stamp: int) -> int:
        if self.error is not None:
            raise self.error
        self.appended.append(list(records))
        if self.at_once:
            self.on_durable(len(self.appended))
        return len(self.appended)

    def release(self) -> None:
        """Let everything that was appended be durable."""
        self.on_durable(len(self.appended))

    def close(self) -> None:
        self.closed = True


class Peer:
    """One connection. Requests are numbered; answers and pushes are kept in the order in which they come."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.frames = FrameReader(MAX_FRAME_BYTES)
        self.come: list[Any] = []
        self._requests = 0
        _open.append(self)

    @classmethod
    async def connect(cls, address: Path | tuple[str, int], key: bytes | None = None, vhost: str = "/") -> Peer:
        """Connect and shake hands; channel 1 is open."""
        peer = await cls.open(address)
        handshake = ClientHandshake(vhost=vhost, key=key)
        answer: bytes | Welcome = handshake.hello()
        while not isinstance(answer, Welcome):
            peer.writer.write(answer)
            answer = handshake.receive(await peer.body())
        await peer.call(frames.OpenChannel, 1)
        return peer

    @classmethod
    async def open(cls, address: Path | tuple[str, int]) -> Peer:
        """Connect and say nothing."""
        if isinstance(address, Path):
            return cls(*await asyncio.open_unix_connection(str(address)))
        return cls(*await asyncio.open_connection(*address))

    async def body(self) -> bytes:
        """Return the body of the next frame, in the handshake, where frames come one at a time."""
        async with asyncio.timeout(PATIENCE):
            size = int.from_bytes(await self.reader.readexactly(4), "big")
            return await self.reader.readexactly(size)

    def ask(self, kind: type[Any], *fields: Any, **named: Any) -> int:
        """Send a request and return its number."""
        self._requests += 1
        self.writer.write(encode_request(kind(self._requests, *fields, **named)))
        return self._requests

    async def call(self, kind: type[Any], *fields: Any, **named: Any) -> Any:
        """Send a request and return the value of its answer; a refusal is returned as ``Failed``."""
        number = self.ask(kind, *fields, **named)
        answer = await self.until(lambda frame: getattr(frame, "r", None) == number)
        return answer.value if isinstance(answer, frames.Ok) else answer

    async def until(self, wanted: Callable[[Any], bool]) -> Any:
        """Return the first frame that is wanted, and take it out of what has come."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for frame in self.come:
                    if wanted(frame):
                        self.come.remove(frame)
                        return frame
                data = await self.reader.read(1 << 20)
                if not data:
                    raise EOFError("the broker closed the connection")
                self.come += map(decode_push, self.frames.feed(data))

    async def delivery(self) -> frames.Deliver:
        """Return the next delivery."""
        found: frames.Deliver = await self.until(lambda frame: isinstance(frame, frames.Deliver))
        return found

    async def end(self) -> list[Any]:
        """Read until the broker closes, and return what came."""
        with contextlib.suppress(EOFError, ConnectionError):
            await self.until(lambda frame: False)
        return self.come

    async def publish(self, id: str, priority: int = 0, queue: str = "q", payload: bytes = b"x") -> Any:
        """Publish and wait for the confirm."""
        return await self.call(frames.Publish, "", queue, id, priority, payload)

    def hang_up(self) -> None:
        """Close the socket."""
        self.writer.transport.abort()


@contextlib.contextmanager
def brief_garbage_collection() -> Iterator[None]:
    """Undo what a broker does to the garbage collector of its process."""
    thresholds = gc.get_threshold()
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


@contextlib.asynccontextmanager
async def running(config: BrokerConfig) -> AsyncIterator[tuple[Server, asyncio.Task[int]]]:
    """Run a broker in this loop; the task gives its exit status."""
    with brief_garbage_collection():
        server = Server(config)
        await server.start()
        task = asyncio.create_task(server.run())
        try:
            yield server, task
        finally:
            server.stop()
            await task
            await hang_up_all()


async def hang_up_all() -> None:
    """Close the sockets of the test's connections."""
    peers = list(_open)
    _open.clear()
    for peer in peers:
        peer.hang_up()
        with contextlib.suppress(OSError):
            await peer.writer.wait_closed()

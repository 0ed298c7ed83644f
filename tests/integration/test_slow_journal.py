"""A journal that is slow to say that a turn is safe: what waits for it, and what it may take in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mplite_tasks_transport import frames
from mplite_tasks_transport.broker import server as server_module
from mplite_tasks_transport.broker.journal.port import Durability, KeepMessage, Record
from mplite_tasks_transport.broker.server import BrokerConfig, Server
from mplite_tasks_transport.handshake import ClientHandshake
from mplite_tasks_transport.protocol import FrameReader, decode_push, encode_request

TURNS_IN_FLIGHT = server_module.MAX_TURNS_IN_FLIGHT


class HeldJournal:
    """A journal whose commits are safe when the test says so."""

    durability = Durability.FSYNC

    def __init__(self) -> None:
        self.turns: list[Sequence[Record]] = []
        self.on_durable = lambda seq: None
        self.on_failure = lambda error: None

    def load(self) -> Iterable[Record]:
        return ()

    def last_stamp(self) -> int:
        return 0

    def append(self, records: Sequence[Record], last_stamp: int) -> int:
        self.turns.append(list(records))
        return len(self.turns)

    def messages(self) -> int:
        return sum(isinstance(record, KeepMessage) for turn in self.turns for record in turn)

    def say_safe(self) -> None:
        self.on_durable(len(self.turns))

    def close(self) -> None:
        pass


class Client:
    """A client on the same loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self._frames = FrameReader()
        self.got: list[object] = []

    @classmethod
    async def connect(cls, path: Path) -> Client:
        client = cls(*await asyncio.open_unix_connection(str(path)))
        handshake = ClientHandshake(vhost="/")
        client.writer.write(handshake.hello())
        (body,) = client._frames.feed(await client._reader.read(4096))
        handshake.receive(body)
        return client

    def send(self, *requests: frames.Request) -> None:
        for request in requests:
            self.writer.write(encode_request(request))

    async def receive(self) -> object:
        while not self.got:
            self.got += [decode_push(body) for body in self._frames.feed(await self._reader.read(65536))]
        return self.got.pop(0)


@asynccontextmanager
async def a_broker_with(journal: HeldJournal, path: Path) -> AsyncIterator[Client]:
    broker = Server(BrokerConfig(path, (), journal, None))
    await broker.start()
    running = asyncio.create_task(broker.run())
    client = await Client.connect(path)
    try:
        yield client
    finally:
        client.writer.close()
        broker.stop()
        await running


async def answered(client: Client, journal: HeldJournal, count: int) -> None:
    """Wait for so many answers, with a disk that is fast again."""
    for _ in range(count):
        receiving = asyncio.ensure_future(client.receive())
        while not receiving.done():
            journal.say_safe()
            await asyncio.wait([receiving], timeout=0.02)
        assert isinstance(receiving.result(), frames.Ok)


def publish(number: int, size: int = 100) -> frames.Publish:
    return frames.Publish(number, "", "q", str(number), 0, b"x" * size)


def test_nothing_is_confirmed_before_its_commit_and_everything_after_it(short_directory: Path) -> None:
    journal = HeldJournal()

    async def story() -> None:
        async with a_broker_with(journal, short_directory / "s") as client:
            client.send(frames.DeclareQueue(1, "q"), publish(2))
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.receive(), 0.2)
            assert journal.messages() == 1, "the message is on its way to the disk"
            journal.say_safe()
            assert [await client.receive(), await client.receive()] == [frames.Ok(1, ["q", 0, 0]), frames.Ok(2, True)]

    asyncio.run(story())


def test_while_commits_are_outstanding_requests_share_the_next_one(short_directory: Path) -> None:
    journal = HeldJournal()

    async def story() -> None:
        async with a_broker_with(journal, short_directory / "s") as client:
            client.send(frames.DeclareQueue(1, "q"))
            for number in range(2, 60):
                client.send(publish(number))
                await asyncio.sleep(0.002)  # a turn of its own for each, if the journal were fast
            assert len(journal.turns) <= TURNS_IN_FLIGHT + 1
            await answered(client, journal, 59)
            assert journal.messages() == 58

    asyncio.run(story())


def test_a_stalled_journal_stops_reading_instead_of_filling_the_memory(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "INBOX_HIGH_BYTES", 1_000_000)
    journal = HeldJournal()
    count, size = 400, 50_000

    async def story() -> None:
        async with a_broker_with(journal, short_directory / "s") as client:
            client.send(frames.DeclareQueue(1, "q"))
            for number in range(2, 2 + count):
                client.send(publish(number, size))
            flushed = asyncio.create_task(client.writer.drain())
            await asyncio.sleep(0.5)
            unread = client.writer.transport.get_write_buffer_size()
            assert unread > count * size / 2, "the broker reads on although nothing of it can be committed"
            for _ in range(1 + count):
                while not client.got:
                    journal.say_safe()
                    try:
                        client.got.append(await asyncio.wait_for(client.receive(), 0.05))
                    except TimeoutError:
                        continue
                client.got.pop(0)
            await flushed
            assert journal.messages() == count

    asyncio.run(story())

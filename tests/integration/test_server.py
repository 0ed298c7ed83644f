"""The broker's server in the loop of the test: turns, commits, floods and slow readers, over a unix socket."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from mplite_tasks_transport import frames
from mplite_tasks_transport.broker import connection
from mplite_tasks_transport.broker.journal import MemoryJournal
from mplite_tasks_transport.broker.journal.port import Durability, Journal
from mplite_tasks_transport.broker.server import BrokerConfig
from mplite_tasks_transport.errors import Code, JournalError
from mplite_tasks_transport.limits import OUTPUT_HIGH_BYTES, PARKED_BYTES_PER_CONNECTION

from .wire import HeldJournal, Peer, running

KEY = b"k" * 32


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a coroutine as a test, in an event loop of its own."""

    @wraps(test)
    def run(*args: Any, **fields: Any) -> None:
        asyncio.run(test(*args, **fields))

    return run


def config_at(directory: Path, journal: Journal, **fields: Any) -> BrokerConfig:
    return BrokerConfig(**{"unix_path": directory / "s", "tcp": (), "journal": journal, "key": None, **fields})


async def settled(rounds: int = 50) -> None:
    """Let the loop go round, so that whatever could be sent would have been."""
    for _ in range(rounds):
        await asyncio.sleep(0)


# The commit


@in_a_loop
async def test_nothing_leaves_a_socket_before_the_commit_of_what_it_reveals(short_directory: Path) -> None:
    journal = HeldJournal()
    async with running(config_at(short_directory, journal)):
        producer, other = await Peer.connect(short_directory / "s"), await Peer.connect(short_directory / "s")
        asked = [producer.ask(frames.DeclareQueue, "q")]
        asked.append(producer.ask(frames.Publish, "", "q", "m", 0, b""))
        while not journal.appended:
            await asyncio.sleep(0)
        count = other.ask(frames.DeclareQueue, "q", True)
        taken = other.ask(frames.Get, 1, "q", True)
        await settled()
        assert producer.reader._buffer == b"", "a confirm went out before its commit"  # type: ignore[attr-defined]
        assert other.reader._buffer == b"", "another client saw a message before its commit"  # type: ignore[attr-defined]
        journal.release()
        answers = [await producer.until(lambda frame, r=r: frame.r == r) for r in asked]
        assert [type(answer) for answer in answers] == [frames.Ok, frames.Ok]
        assert (await other.until(lambda frame: frame.r == count)).value == ["q", 1, 0]
        assert (await other.until(lambda frame: frame.r == taken)).value[6] == "m"


@in_a_loop
async def test_a_turn_is_one_transaction(short_directory: Path) -> None:
    journal = HeldJournal()
    journal.at_once = True
    async with running(config_at(short_directory, journal)):
        producer = await Peer.connect(short_directory / "s")
        await producer.call(frames.DeclareQueue, "q")
        journal.appended.clear()
        before = len(journal.appended)
        asked = [producer.ask(frames.Publish, "", "q", f"m{n}", 0, b"") for n in range(100)]
        for number in asked:
            await producer.until(lambda frame, r=number: frame.r == r)
        assert len(journal.appended) - before == 1
        assert len(journal.appended[0]) >= 100


@in_a_loop
async def test_a_failed_sync_ends_the_broker_and_confirms_nothing(short_directory: Path) -> None:
    journal = HeldJournal()
    async with running(config_at(short_directory, journal)) as (_, task):
        producer = await Peer.connect(short_directory / "s")
        number = producer.ask(frames.DeclareQueue, "q")
        while not journal.appended:
            await asyncio.sleep(0)
        await asyncio.to_thread(journal.on_failure, OSError("the disk is gone"))
        assert await task == 1
        come = await producer.end()
        assert not any(getattr(frame, "r", None) == number for frame in come)
        goodbye = come[-1]
        assert isinstance(goodbye, frames.Goodbye)
        assert "journal cannot keep" in goodbye.text
        assert journal.closed


@pytest.mark.parametrize("error", [JournalError("the disk is full"), OverflowError("a number that nobody foresaw")])
@in_a_loop
async def test_a_turn_that_cannot_be_kept_ends_the_broker_and_confirms_nothing(
    short_directory: Path, error: Exception
) -> None:
    journal = HeldJournal(Durability.OS)
    async with running(config_at(short_directory, journal)) as (_, task):
        producer = await Peer.connect(short_directory / "s")
        journal.error = error
        number = producer.ask(frames.DeclareQueue, "q")
        assert await task == 1
        assert not any(getattr(frame, "r", None) == number for frame in await producer.end())


# Clients that fail, and the others


@in_a_loop
async def test_an_unforeseen_error_closes_the_connection_of_its_request_only(short_directory: Path) -> None:
    async with running(config_at(short_directory, MemoryJournal())) as (server, _):
        culprit, other = await Peer.connect(short_directory / "s"), await Peer.connect(short_directory / "s")
        await other.call(frames.DeclareQueue, "q")

        def fail(*_: object) -> None:
            raise ZeroDivisionError

        server._core._handlers[frames.Status] = fail
        culprit.ask(frames.Status)
        goodbye = (await culprit.end())[-1]
        assert goodbye.code == Code.INTERNAL_ERROR
        assert await other.publish("m") is True


@in_a_loop
async def test_a_frame_that_is_none_closes_its_connection_with_a_reason(short_directory: Path) -> None:
    async with running(config_at(short_directory, MemoryJournal())):
        culprit, other = await Peer.connect(short_directory / "s"), await Peer.connect(short_directory / "s")
        await other.call(frames.DeclareQueue, "q")
        for junk in (b"\0\0\0\x05\x95\x21\x01\xa2\xff", b"\0\0\0\0", b"\xff\xff\xff\xff"):
            culprit.writer.write(junk)
            goodbye = (await culprit.end())[-1]
            assert goodbye.code in (Code.BAD_FORMAT, Code.FRAME_TOO_LARGE)
            assert await other.call(frames.Ping) > 0
            culprit = await Peer.connect(short_directory / "s")


@in_a_loop
async def test_a_connection_that_ends_gives_back_what_it_held_after_the_frames_that_it_sent(
    short_directory: Path,
) -> None:
    async with running(config_at(short_directory, MemoryJournal())):
        consumer, other = await Peer.connect(short_directory / "s"), await Peer.connect(short_directory / "s")
        await other.call(frames.DeclareQueue, "q")
        await consumer.call(frames.Consume, 1, "c", "q")
        for n in range(3):
            await other.publish(f"m{n}")
        for _ in range(3):
            last = await consumer.delivery()
        consumer.ask(frames.Ack, 1, last.delivery - 2)
        await consumer.writer.drain()
        consumer.writer.close()
        await other.call(frames.Consume, 1, "c", "q")
        assert [(await other.delivery()).id for _ in range(2)] == ["m1", "m2"]


@in_a_loop
async def test_a_flood_at_the_watermark_stops_the_reading_of_its_connection_only(short_directory: Path) -> None:
    payload = bytes(10_000)
    async with running(config_at(short_directory, MemoryJournal(), memory_limit=100_000)) as (server, _):
        flood, other = await Peer.connect(short_directory / "s"), await Peer.connect(short_directory / "s")
        await other.call(frames.DeclareQueue, "q")
        asked = [flood.ask(frames.Publish, "", "q", f"m{n}", 0, payload) for n in range(1_000)]
        while all(each._reading for each in server._connections):
            parked = sum(s.parked_bytes for s in server._by_session)
            assert parked < 3 * PARKED_BYTES_PER_CONNECTION, "the flood is read to its end"
            await asyncio.sleep(0)
        parked = max(s.parked_bytes for s in server._by_session)
        assert PARKED_BYTES_PER_CONNECTION < parked < 3 * PARKED_BYTES_PER_CONNECTION
        assert await other.call(frames.Ping) > 0
        await other.call(frames.Consume, 1, "c", "q", True)
        come = [(await other.delivery()).id for _ in range(1_000)]
        assert come == [f"m{n}" for n in range(1_000)]
        for number in asked:
            await flood.until(lambda frame, r=number: getattr(frame, "r", None) == r)
        assert {type(frame) for frame in flood.come} == {frames.Blocked, frames.Unblocked}


@in_a_loop
async def test_a_client_that_does_not_read_holds_up_nobody_and_gets_everything_when_it_does(
    short_directory: Path,
) -> None:
    payload = bytes(500_000)
    async with running(config_at(short_directory, MemoryJournal())) as (server, _):
        slow, other = await Peer.connect(short_directory / "s"), await Peer.connect(short_directory / "s")
        await other.call(frames.DeclareQueue, "q")
        await slow.call(frames.Consume, 1, "c", "q")
        for n in range(60):
            await other.publish(f"m{n}", payload=payload)
        buffered = max(c._transport.get_write_buffer_size() for c in server._connections if c._transport)
        assert buffered < OUTPUT_HIGH_BYTES + 2 * len(payload)
        _, waiting, _ = await other.call(frames.DeclareQueue, "q", True)
        assert waiting > 40
        assert [(await slow.delivery()).id for _ in range(60)] == [f"m{n}" for n in range(60)]


# The door


@in_a_loop
async def test_the_unix_socket_is_for_its_user_only(short_directory: Path) -> None:
    async with running(config_at(short_directory, MemoryJournal())):
        mode = (short_directory / "s").stat()
        assert stat.S_IMODE(mode.st_mode) == 0o600
        assert mode.st_uid == os.getuid()
    assert not (short_directory / "s").exists()


@in_a_loop
async def test_another_user_is_turned_away_at_the_unix_socket(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "same_user", lambda uid: False)
    async with running(config_at(short_directory, MemoryJournal())):
        stranger = await Peer.open(short_directory / "s")
        assert await stranger.reader.read() == b""


@in_a_loop
async def test_a_silent_stranger_is_closed_at_the_deadline(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HANDSHAKE_SECONDS", 0.05)
    async with running(config_at(short_directory, MemoryJournal())):
        friend = await Peer.connect(short_directory / "s")
        stranger = await Peer.open(short_directory / "s")
        stranger.writer.write(b"\0\0")
        assert await asyncio.wait_for(stranger.reader.read(), 20) == b""
        assert await friend.call(frames.Ping) > 0, "who is in stays in"


@in_a_loop
async def test_a_broker_on_tcp_does_not_start_without_a_key(short_directory: Path) -> None:
    config = config_at(short_directory, MemoryJournal(), tcp=(("127.0.0.1", 0),))
    with pytest.raises(ValueError, match="needs a key"):
        async with running(config):
            pass


@in_a_loop
async def test_a_broker_says_goodbye_when_it_is_stopped(short_directory: Path) -> None:
    async with running(config_at(short_directory, MemoryJournal())) as (server, task):
        peer = await Peer.connect(short_directory / "s")
        server.stop()
        (goodbye,) = await peer.end()
        assert goodbye.code == Code.CONNECTION_FORCED
        assert await task == 0


@in_a_loop
async def test_a_forgetful_broker_ends_when_it_is_idle_and_never_while_it_holds_a_message(
    short_directory: Path,
) -> None:
    config = config_at(short_directory, MemoryJournal(), idle_seconds=0.02)
    async with running(config) as (server, task):
        peer = await Peer.connect(short_directory / "s")
        await peer.call(frames.DeclareQueue, "q")
        await peer.publish("m")
        peer.hang_up()
        while server._connections:
            await asyncio.sleep(0)
        rung = server._idle_alarm
        while server._idle_alarm is rung:
            await asyncio.sleep(0.005)
        assert not task.done()
        again = await Peer.connect(short_directory / "s")
        assert await again.call(frames.PurgeQueue, "q") == 1
        again.hang_up()
        assert await asyncio.wait_for(task, 20) == 0

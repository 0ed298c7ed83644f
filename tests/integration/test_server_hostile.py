"""Real broker processes: strangers at the door, crashes, clients that die, idleness."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mplite_tasks_transport import frames, local
from mplite_tasks_transport.dial import dial
from mplite_tasks_transport.errors import HandshakeRefused
from mplite_tasks_transport.home import read_info
from mplite_tasks_transport.limits import MAX_HANDSHAKE_BYTES, MAX_PRIORITY, MIN_PRIORITY
from mplite_tasks_transport.url import BrokerURL

from ..support.brokers import BrokerProcess
from .wire import Peer, hang_up_all

HELLO_LIKE = b"\x01" + struct.pack(">H", 6) + b"MPLITE"

JUNK = {
    "a web browser": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a huge announcement": b"\xff\xff\xff\xff",
    "one byte over the limit": struct.pack(">I", MAX_HANDSHAKE_BYTES + 1) + bytes(MAX_HANDSHAKE_BYTES + 1),
    "an empty frame": bytes(4),
    "a pickle": struct.pack(">I", 40) + b"\x80\x04cos\nsystem\n(S'true'\ntR.".ljust(40, b"."),
    "a hello without its end": struct.pack(">I", len(HELLO_LIKE)) + HELLO_LIKE,
    "a proof before the hello": struct.pack(">I", 35) + b"\x04" + struct.pack(">H", 32) + bytes(32),
    "a request of the protocol": struct.pack(">I", 2) + b"\x92\x1f",
}


async def talk(broker: BrokerProcess) -> Peer:
    return await Peer.connect(("127.0.0.1", broker.port), broker.key.encode())


@contextlib.contextmanager
def connected(sock: socket.socket) -> Iterator[socket.socket]:
    with sock:
        sock.settimeout(20)
        yield sock


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_a_stranger_that_speaks_something_else_gets_not_one_byte(broker: BrokerProcess, junk: bytes) -> None:
    with connected(socket.create_connection(("127.0.0.1", broker.port))) as sock:
        sock.sendall(junk)
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1000) == b""
    dial(broker.broker_url).sock.close()
    assert "Traceback" not in broker.errors


def test_a_wrong_key_gets_one_text_whatever_is_wrong_and_no_traceback(broker: BrokerProcess) -> None:
    texts = set()
    for key, vhost in ((b"wrong", ""), (b"", ""), (broker.key.encode() + b"x", "nowhere")):
        url = BrokerURL.parse(f"mplite://127.0.0.1:{broker.port}/{vhost}")
        with pytest.raises(HandshakeRefused) as caught:
            dial(url, key=key)
        texts.add(str(caught.value).partition(": ")[2])
    assert len(texts) == 1
    assert "Traceback" not in broker.errors
    assert broker.key not in broker.errors


def test_many_strangers_at_once_keep_no_honest_client_out(broker: BrokerProcess) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", broker.port)))
            sock.sendall(b"\0")
        dial(broker.broker_url).sock.close()


def test_what_was_confirmed_is_at_its_place_after_a_crash(broker: BrokerProcess) -> None:
    async def before() -> list[tuple[int, int, str]]:
        peer = await talk(broker)
        await peer.call(frames.DeclareQueue, "q")
        chosen = random.Random(3)
        placed = [(-chosen.randint(MIN_PRIORITY, MAX_PRIORITY), n, f"m{n}") for n in range(500)]
        asked = [peer.ask(frames.Publish, "", "q", id, -negative, b"x") for negative, _, id in placed]
        for number in asked:
            answer = await peer.until(lambda frame, r=number: frame.r == r)
            assert answer.value is True
        await peer.call(frames.Qos, 1, 10)
        await peer.call(frames.Consume, 1, "c", "q")
        held = [await peer.delivery() for _ in range(10)]
        await peer.call(frames.Ack, 1, held[0].delivery, credit=False)
        await peer.call(frames.Reject, 1, held[1].delivery, True, credit=False)
        broker.kill()
        await peer.end()
        await hang_up_all()
        return [place for place in sorted(placed) if place[2] != held[0].id]

    async def after() -> list[str]:
        peer = await talk(broker)
        await peer.call(frames.Consume, 1, "c", "q", True)
        ids = [(await peer.delivery()).id for _ in range(499)]
        assert (await peer.call(frames.DeclareQueue, "q", True))[1] == 0
        await hang_up_all()
        return ids

    expected = asyncio.run(before())
    broker.start()
    assert asyncio.run(after()) == [id for _, _, id in expected]


def test_ten_thousand_random_priorities_run_in_exact_order(broker: BrokerProcess) -> None:
    async def order() -> tuple[list[int], list[frames.Deliver]]:
        peer = await talk(broker)
        await peer.call(frames.DeclareQueue, "q")
        chosen = random.Random(5)
        priorities = [chosen.randint(MIN_PRIORITY, MAX_PRIORITY) for _ in range(10_000)]
        for n, priority in enumerate(priorities):
            peer.ask(frames.Publish, "", "q", str(n), priority, b"")
        assert await peer.call(frames.Ping) > 0
        consumer = await talk(broker)
        await consumer.call(frames.Qos, 1, 1)
        consumer.ask(frames.Consume, 1, "c", "q")
        taken = []
        for _ in priorities:
            delivery = await consumer.delivery()
            taken.append(delivery)
            consumer.writer.write(_ack(delivery))
        await hang_up_all()
        return priorities, taken

    priorities, taken = asyncio.run(order())
    expected = sorted(range(len(priorities)), key=lambda n: (-priorities[n], n))
    assert [int(d.id) for d in taken] == expected
    stamps = [d.delivered_at for d in taken]
    assert stamps == sorted(set(stamps))


def _ack(delivery: frames.Deliver) -> bytes:
    from mplite_tasks_transport.protocol import encode_request

    return encode_request(frames.Ack(0, 1, delivery.delivery))


def test_sigterm_says_goodbye_and_ends_with_status_0(broker: BrokerProcess) -> None:
    async def goodbye() -> frames.Goodbye:
        peer = await talk(broker)
        os.kill(broker.pid, signal.SIGTERM)
        come = await peer.end()
        await hang_up_all()
        found: frames.Goodbye = come[-1]
        return found

    assert asyncio.run(goodbye()).code == 320
    assert broker.stop() == 0


def test_an_idle_broker_is_never_woken_up(broker: BrokerProcess) -> None:
    def switches() -> int:
        total = 0
        for task in Path(f"/proc/{broker.pid}/task").iterdir():
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    total += int(line.split()[1])
        return total

    async def rest() -> int:
        peer = await talk(broker)
        await peer.call(frames.DeclareQueue, "q")
        await peer.call(frames.Consume, 1, "c", "q")
        await peer.publish("m")
        await peer.delivery()
        last = switches()
        for _ in range(50):  # the end of what the requests above have set going
            await asyncio.sleep(0.05)
            if (now := switches()) == last:
                break
            last = now
        await asyncio.sleep(2)  # the time itself is the measurement
        woken = switches() - last
        await hang_up_all()
        return woken

    assert asyncio.run(rest()) == 0


# A consumer that dies while its child keeps the socket open

DYING = """
import os, sys, time
from mplite_tasks_transport import frames
from mplite_tasks_transport.dial import dial
from mplite_tasks_transport.protocol import decode_push, encode_requests
from mplite_tasks_transport.url import BrokerURL

line = dial(BrokerURL.parse("mplite://"), autostart=False)
line.sock.sendall(encode_requests([
    frames.OpenChannel(1, 1), frames.Consume(2, 1, "c", "q"),
]))
while True:
    bodies = line.reader.feed(line.sock.recv(65536))
    if any(isinstance(decode_push(body), frames.Deliver) for body in bodies):
        break
child = os.fork()
if not child:
    time.sleep(600)
    os._exit(0)
print(child, flush=True)
time.sleep(600)
"""


def test_a_message_is_back_at_once_when_its_consumer_was_killed_and_a_child_holds_the_socket_open(
    local_home: Path,
) -> None:
    local.ensure_running(local_home)
    info = read_info(local_home)
    assert info is not None

    async def back() -> frames.Deliver:
        peer = await Peer.connect(Path(info.socket))
        await peer.call(frames.DeclareQueue, "q")
        await peer.publish("m")
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(DYING)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        child = 0
        try:
            child = int(process.stdout.readline())
            await peer.call(frames.Consume, 1, "c", "q")
            process.kill()
            delivery = await peer.delivery()
            os.kill(child, 0)  # still there, with the socket
            return delivery
        finally:
            if child:
                os.kill(child, signal.SIGKILL)
            process.kill()
            process.wait()
            process.stdout.close()
            await hang_up_all()

    delivery = asyncio.run(back())
    assert (delivery.id, delivery.redelivered, delivery.deliveries) == ("m", True, 0)


def test_the_socket_of_a_local_broker_is_for_its_user_only(local_home: Path) -> None:
    local.ensure_running(local_home)
    info = read_info(local_home)
    assert info is not None
    status = Path(info.socket).stat()
    assert (status.st_mode & 0o777, status.st_uid) == (0o600, os.getuid())


def test_a_consumer_that_comes_back_settles_what_it_worked_on_and_nobody_runs_it_twice(
    make_broker: Callable[..., BrokerProcess],
) -> None:
    broker = make_broker()

    async def work() -> int:
        peer = await talk(broker)
        await peer.call(frames.Identify, "worker-1")
        await peer.call(frames.DeclareQueue, "q")
        await peer.publish("m")
        await peer.call(frames.Qos, 1, 1)
        await peer.call(frames.Consume, 1, "c", "q", arguments={"x-starts-on-delivery": True})
        stamp = (await peer.delivery()).posted_at
        broker.kill()
        await peer.end()
        await hang_up_all()
        return stamp

    async def finish(stamp: int) -> None:
        other = await talk(broker)
        await other.call(frames.Consume, 1, "c", "q")
        peer = await talk(broker)
        assert await peer.call(frames.Identify, "worker-1") == [stamp]
        result = frames.ResultRecord("m", "SUCCESS", b"1")
        assert await peer.call(frames.Settle, 0, stamp, result) is None
        assert (await peer.call(frames.Settle, 0, stamp, result)).code == 409
        assert await other.call(frames.GetResult, "m") == ["SUCCESS", b"1", True]
        assert not [frame for frame in other.come if isinstance(frame, frames.Deliver)]
        await hang_up_all()

    stamp = asyncio.run(work())
    broker.start()
    asyncio.run(finish(stamp))

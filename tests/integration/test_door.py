"""The door of a broker: floods of strangers, descriptors that run out, and bytes that nobody vouches for."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mplite_tasks_transport import frames, protocol
from mplite_tasks_transport.broker import connection, door
from mplite_tasks_transport.broker.core import Core
from mplite_tasks_transport.broker.journal import MemoryJournal
from mplite_tasks_transport.broker.server import BrokerConfig
from mplite_tasks_transport.client import BrokerClient
from mplite_tasks_transport.dial import dial
from mplite_tasks_transport.errors import BrokerUnreachable, Code, ContentTooLarge, TooManyConnections
from mplite_tasks_transport.handshake import ClientHandshake, Kind
from mplite_tasks_transport.limits import (
    MAX_FRAME_BYTES,
    MAX_HANDSHAKE_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_SMALL_FRAME_BYTES,
    MAX_UNAUTHENTICATED,
)
from mplite_tasks_transport.protocol import FrameReader
from mplite_tasks_transport.tls import TLSOptions
from mplite_tasks_transport.tls import secure as speak_tls
from mplite_tasks_transport.url import BrokerURL

from ..support.brokers import BrokerProcess
from ..support.secure import SecureBroker
from .test_server import in_a_loop
from .wire import Peer, running

MakeBroker = Callable[..., SecureBroker]

SILENT = 2000
KEY = b"a-key-of-sixteen-bytes"


def resident_bytes(pid: int) -> int:
    """Return the memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Return the time that a process has worked."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process hold thousands of sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = SILENT + 500
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"this process may not have {needed} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def silent_sockets(port: int, number: int) -> Iterator[list[socket.socket]]:
    """Hold connections that say nothing."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(("127.0.0.1", port), 20)) for _ in range(number)]


def test_honest_clients_get_in_while_thousands_of_silent_sockets_are_held(
    secure_broker: MakeBroker, many_files: None
) -> None:
    key = Path(secure_broker().file().parent) / "key"
    key.touch(0o600)
    key.write_bytes(KEY)
    broker = secure_broker(("--listen", "mplite://127.0.0.1:0", "--key-file", str(key)))
    plain = next(url for url in broker.urls if not url.is_secure)
    root = broker.user("root")
    for port in (plain.address[1], broker.port):
        broker.connect(root).close()
        before = resident_bytes(broker.pid)
        with silent_sockets(port, SILENT) as sockets:
            for _ in range(10):
                # The promise is a second; the limit leaves room for a machine that has other things to do.
                with BrokerClient.connect(plain, key=KEY, timeout=5) as client:
                    assert client.call(frames.Ping(0))
                broker.connect(root).close()
            for oldest in sockets[:200]:  # they were let go
                with contextlib.suppress(ConnectionResetError):
                    assert oldest.recv(1) == b""
            grown = resident_bytes(broker.pid) - before
            assert grown < 128 * 2**20
    assert "connections without a handshake" in broker.errors
    assert broker.errors.count("connections without a handshake") < 30
    assert broker.stop() == 0


def test_a_burst_of_strangers_does_not_push_out_who_came_before_it_and_was_not_heard_yet(
    broker: BrokerProcess, many_files: None
) -> None:
    host, port = broker.broker_url.address
    with contextlib.ExitStack() as stack:
        os.kill(broker.pid, signal.SIGSTOP)  # everybody waits to be accepted, the honest one first
        try:
            honest = stack.enter_context(socket.create_connection((host, port), 20))
            honest.sendall(ClientHandshake(vhost="/", key=KEY).hello())
            for _ in range(MAX_UNAUTHENTICATED + 40):
                stack.enter_context(socket.create_connection((host, port), 20))
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        assert honest.recv(4096)[4:5] == bytes([Kind.CHALLENGE])


def test_a_broker_without_descriptors_waits_quietly_and_goes_on(secure_broker: MakeBroker) -> None:
    files = 60
    broker = secure_broker(prefix=("bash", "-c", f'ulimit -n {files}; exec "$@"', "-"))
    root = broker.user("root")
    with contextlib.ExitStack() as stack:
        held = []
        with pytest.raises((BrokerUnreachable, OSError)):
            while len(held) < files:
                held.append(
                    stack.enter_context(
                        BrokerClient.connect(BrokerURL.parse("mplites://"), credentials=root, timeout=2)
                    )
                )
        worked, started = cpu_seconds(broker.pid), time.monotonic()
        assert held[0].call(frames.Ping(0)), "who is in is served"
        time.sleep(2)  # it is what the broker does meanwhile that is looked at
        share = (cpu_seconds(broker.pid) - worked) / (time.monotonic() - started)
        assert share < 0.05
        lines = broker.errors.count("No more connections for now")
        assert 1 <= lines <= 2 + time.monotonic() - started + 2
        held.pop().close()
        held.pop().close()
        BrokerClient.connect(BrokerURL.parse("mplites://"), credentials=root, timeout=5).close()
    assert "ulimit -n" in broker.errors
    assert "Traceback" not in broker.errors


def test_the_connections_of_one_address_are_limited_with_a_code(
    secure_broker: MakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "MAX_CONNECTIONS_PER_ADDRESS", 3)

    @in_a_loop
    async def limited() -> None:
        config = BrokerConfig(None, (("127.0.0.1", 0),), MemoryJournal(), KEY)
        async with running(config) as (server, _):
            address = next(iter(server.door._listeners)).getsockname()
            inside = [await Peer.connect(address, KEY) for _ in range(3)]
            with pytest.raises(TooManyConnections, match=r"3 connections from 127\.0\.0\.1") as caught:
                await Peer.connect(address, KEY)
            assert caught.value.reply_code == Code.LIMIT_REACHED
            inside.pop().hang_up()
            while server.door._admitted["127.0.0.1"] > 2:
                await inside[0].call(frames.Ping)
            await Peer.connect(address, KEY)
            monkeypatch.setattr(door, "MAX_CONNECTIONS", 3)
            with pytest.raises(TooManyConnections, match="The broker has 3 connections"):
                await Peer.connect(address, KEY)

    limited()


@pytest.mark.parametrize(
    ("limit", "request_", "text"),
    [
        ("vhost.MAX_QUEUES", lambda n: frames.DeclareQueue(0, f"q{n}"), "queues"),
        ("vhost.MAX_EXCHANGES", lambda n: frames.DeclareExchange(0, f"e{n}"), "exchanges"),
        ("vhost.MAX_BINDINGS", lambda n: frames.BindQueue(0, "q0", "amq.topic", f"k{n}"), "bindings"),
        ("topology.MAX_CONSUMERS", lambda n: frames.Consume(0, 1, f"t{n}", "q0"), "consumers"),
        ("topology.MAX_CHANNELS", lambda n: frames.OpenChannel(0, n + 2), "channels"),
    ],
)
def test_each_limit_of_what_is_declared_is_refused_with_a_code_and_can_be_got_below(
    limit: str, request_: Callable[[int], frames.Request], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = Core()
    session = core.open_session("/")
    for frame in (frames.DeclareQueue(1, "q0"), frames.OpenChannel(2, 1)):
        core.apply(session, frame)
    monkeypatch.setattr(f"mplite_tasks_transport.broker.{limit}", 12)
    session.out.clear()
    for number in range(20):
        frame = request_(number)
        frame.r = 1
        core.apply(session, frame)
    answers = [each for each in session.out if isinstance(each, frames.Failed)]
    assert 5 < len(answers) < 20
    assert {each.code for each in answers} == {Code.LIMIT_REACHED}
    assert all(text in each.text for each in answers)


def test_vhosts_are_limited_with_a_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mplite_tasks_transport.broker.core.MAX_VHOSTS", 2)
    broker = Core()
    for name in ("a", "b"):
        broker.check_vhost(name)
        broker.open_session(name)
    broker.check_vhost("a")
    with pytest.raises(TooManyConnections, match="2 vhosts"):
        broker.check_vhost("c")


def test_a_frame_without_a_payload_may_have_a_mebibyte() -> None:
    big = protocol.encode_request(frames.ForgetResults(1, ["x" * 250] * 5000))[4:]
    assert len(big) > MAX_SMALL_FRAME_BYTES
    with pytest.raises(protocol.ProtocolError, match="without a payload") as caught:
        protocol.decode_request(big)
    assert caught.value.code == Code.FRAME_TOO_LARGE
    for frame in (
        frames.Publish(1, "", "q", "id", 1, bytes(2 * MAX_SMALL_FRAME_BYTES)),
        frames.StoreResult(1, frames.ResultRecord("id", "SUCCESS", bytes(2 * MAX_SMALL_FRAME_BYTES))),
        frames.ViewSet(1, "q", frames.Half.QUEUE, "id", 0, bytes(2 * MAX_SMALL_FRAME_BYTES)),
        frames.Settle(1, 1, 1, frames.ResultRecord("id", "SUCCESS", bytes(2 * MAX_SMALL_FRAME_BYTES))),
    ):
        assert protocol.decode_request(protocol.encode_request(frame)[4:]) == frame


@pytest.mark.parametrize("depth", [500, 100_000, 1_000_000])
def test_nesting_ends_a_connection_and_not_the_broker(depth: int) -> None:
    body = b"\x97\x05\x01\xa1q\xc2\xc3\xc2\xc2" + b"\x81\xa1a" * depth + b"\xc0"
    with pytest.raises(protocol.ProtocolError):
        protocol.decode_request(body)


# Bytes of strangers


def hello_frames() -> list[bytes]:
    hello = ClientHandshake(vhost="/", key=KEY).hello()
    return [hello, struct.pack(">I", 35) + b"\x04" + struct.pack(">H", 32) + bytes(32)]


def test_bytes_of_a_stranger_never_reach_the_message_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    """The codec raises in this broker: whatever a stranger sends, nobody notices."""

    def never(*_: object) -> object:
        raise AssertionError("the codec was asked to read what a stranger sent")

    monkeypatch.setattr("mplite_tasks_transport.broker.server.decode_request", never)
    random_ = random.Random(1)
    recorded = [
        protocol.encode_request(each)
        for each in (frames.Ping(1), frames.DeclareQueue(1, "q"), frames.Publish(1, "", "q", "i", 1, b"x"))
    ]
    crashed: list[object] = []

    @in_a_loop
    async def bombarded() -> None:
        config = BrokerConfig(None, (("127.0.0.1", 0),), MemoryJournal(), KEY)
        async with running(config) as (server, task):
            server.loop.set_exception_handler(lambda _, context: crashed.append(context))
            address = next(iter(server.door._listeners)).getsockname()
            for _ in range(300):
                stranger = await Peer.open(address)
                parts = [*hello_frames()[: random_.randrange(3)], *random_.sample(recorded, 2), random_.randbytes(50)]
                with contextlib.suppress(ConnectionError):
                    stranger.writer.write(b"".join(parts))
                    await stranger.reader.read()
                stranger.hang_up()
            assert not task.done()
            assert not server._inbox

    bombarded()
    assert not crashed


@pytest.mark.parametrize("secure", [False, True])
def test_a_handshake_may_come_one_byte_at_a_time(secure_broker: MakeBroker, secure: bool, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_bytes(KEY)
    broker = secure_broker(("--listen", "mplite://127.0.0.1:0", "--key-file", str(key)))
    port = next(url.address[1] for url in broker.urls if url.is_secure == secure)
    with socket.create_connection(("127.0.0.1", port), 20) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock, binding = raw, b""
        if secure:
            sock, binding = speak_tls(raw, "localhost", TLSOptions(fingerprint=broker.credentials().fingerprint))
        handshake = ClientHandshake(vhost="/", key=KEY, binding=binding)
        reader = FrameReader(MAX_HANDSHAKE_BYTES)
        answer: object = handshake.hello()
        while isinstance(answer, bytes):
            for byte in answer:
                sock.sendall(bytes([byte]))
            bodies: list[bytes] = []
            while not bodies:
                data = sock.recv(16_384)
                assert data
                bodies = reader.feed(data)
            answer = handshake.receive(bodies[0])
        for byte in protocol.encode_request(frames.Ping(1)):
            sock.sendall(bytes([byte]))
        assert FrameReader().feed(sock.recv(16_384))
        sock.close()


@pytest.mark.parametrize(
    "size", [0, 1, MAX_HANDSHAKE_BYTES - 1, MAX_HANDSHAKE_BYTES, MAX_HANDSHAKE_BYTES + 1, 2**32 - 1]
)
def test_each_length_at_its_boundary_closes_or_waits_and_keeps_nothing(broker: BrokerProcess, size: int) -> None:
    before = resident_bytes(broker.pid)
    body = b"\x01" + bytes(min(size, 4096))
    with socket.create_connection(("127.0.0.1", broker.port), 20) as sock:
        sock.sendall(struct.pack(">I", size) + body[:size])
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1000) == b""
    dial(broker.broker_url).sock.close()
    assert resident_bytes(broker.pid) - before < 32 * 2**20


def test_strangers_fill_no_log(broker: BrokerProcess) -> None:
    for _ in range(300):
        with socket.create_connection(("127.0.0.1", broker.port), 20) as sock:
            sock.sendall(struct.pack(">I", 40) + b"\x80\x04cos\nsystem\n(S'true'\ntR.".ljust(40, b"."))
            with contextlib.suppress(ConnectionResetError):
                sock.recv(10)
    assert 1 <= broker.errors.count("Closed a connection from 127.0.0.1") < 30


def test_silent_and_broken_tls_handshakes_end_at_the_deadline(
    secure_broker: MakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = secure_broker()
    with socket.create_connection(("127.0.0.1", broker.port), 20) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(1000):
                pass  # an alert, and the end
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", broker.port), 20) as silent,
        context.wrap_socket(socket.create_connection(("127.0.0.1", broker.port), 20)) as spoken,
    ):
        assert silent.recv(1) == b""  # within HANDSHAKE_SECONDS, though the socket would wait four times as long
        with contextlib.suppress(OSError):
            assert spoken.recv(1) == b""
    assert connection.HANDSHAKE_SECONDS * 2 < 20
    assert MAX_UNAUTHENTICATED > 100
    assert "Traceback" not in broker.errors


@pytest.mark.parametrize("size", [0, MAX_FRAME_BYTES + 1, 2**32 - 1])
def test_a_client_that_announces_a_frame_of_no_legal_length_is_told_and_closed(
    broker: BrokerProcess, size: int
) -> None:
    before = resident_bytes(broker.pid)
    line = dial(broker.broker_url)
    with line.sock as sock:
        sock.settimeout(20)
        sock.sendall(struct.pack(">I", size) + bytes(1000))
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while part := sock.recv(10_000):
                data += part
    if data:  # the system may throw it away, as there was more to read
        (goodbye,) = map(protocol.decode_push, FrameReader().feed(data))
        assert isinstance(goodbye, frames.Goodbye)
        assert goodbye.code == (Code.FRAME_TOO_LARGE if size else Code.BAD_FORMAT)
    assert resident_bytes(broker.pid) - before < 32 * 2**20
    dial(broker.broker_url).sock.close()


def test_a_message_of_the_largest_size_passes_and_one_byte_more_does_not(broker: BrokerProcess) -> None:
    with BrokerClient.connect(broker.broker_url) as client:
        client.call(frames.DeclareQueue(0, "q"))
        client.call(frames.OpenChannel(0, 1))
        client.call(frames.Publish(0, "", "q", "id", 1, bytes(MAX_PAYLOAD_BYTES)))
        assert len(client.call(frames.Get(0, 1, "q"))[-1]) == MAX_PAYLOAD_BYTES
        with pytest.raises(ContentTooLarge) as caught:
            client.call(frames.Publish(0, "", "q", "id2", 1, bytes(MAX_PAYLOAD_BYTES + 1)))
        assert caught.value.reply_code == Code.CONTENT_TOO_LARGE


@pytest.mark.parametrize(
    "frame",
    [
        frames.DeclareQueue(0, "n" * 256),
        frames.DeclareExchange(0, "n" * 256),
        frames.BindQueue(0, "q", "amq.topic", "n" * 256),
        frames.Consume(0, 1, "n" * 256, "q"),
        frames.AcquireLock(0, "n" * 256),
        frames.Identify(0, "é" * 128),
        frames.Publish(0, "", "q", "i" * 256, 1, b""),
        frames.DeclareQueue(0, "deep", arguments={"a": [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}),
    ],
)
def test_names_ids_and_nesting_over_their_limits_are_refused_with_a_code(frame: frames.Request) -> None:
    core = Core()
    session = core.open_session("/")
    for each in (frames.DeclareQueue(1, "q"), frames.OpenChannel(2, 1)):
        core.apply(session, each)
    session.out.clear()
    frame.r = 3
    core.apply(session, frame)
    (answer,) = session.out
    assert isinstance(answer, frames.Failed)
    assert answer.code == Code.PRECONDITION_FAILED


def test_what_an_honest_client_said_gets_nobody_in_when_it_is_said_again(broker: BrokerProcess) -> None:
    handshake = ClientHandshake(vhost="/", key=broker.key.encode())
    said, heard = b"", b""
    with socket.create_connection(("127.0.0.1", broker.port), 20) as honest:
        answer: object = handshake.hello()
        reader = FrameReader(MAX_HANDSHAKE_BYTES)
        while isinstance(answer, bytes):
            said += answer
            honest.sendall(answer)
            bodies: list[bytes] = []
            while not bodies:
                data = honest.recv(4096)
                heard += data
                bodies = reader.feed(data)
            answer = handshake.receive(bodies[0])
    for again in (said, heard, said[: len(said) // 2] + heard):
        with socket.create_connection(("127.0.0.1", broker.port), 20) as stranger:
            stranger.sendall(again + protocol.encode_request(frames.Ping(1)))
            answered = b""
            with contextlib.suppress(ConnectionResetError):
                while data := stranger.recv(4096):
                    answered += data
        kinds = [body[0] for body in FrameReader().feed(answered)]
        assert Kind.WELCOME not in kinds
        assert set(kinds) <= {Kind.CHALLENGE, Kind.REFUSED}
    dial(broker.broker_url).sock.close()

"""The client against a real broker: connecting, pipelining, and the local broker that is there when it is needed."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from mplite_tasks_transport import frames, local
from mplite_tasks_transport.client import WINDOW, BrokerClient
from mplite_tasks_transport.errors import (
    BrokerUnreachable,
    ConnectionLost,
    HandshakeRefused,
    LocalBrokerError,
    NoRoute,
    NotFound,
    ProtocolError,
    TransportError,
)
from mplite_tasks_transport.url import BrokerURL
from tests.support.brokers import BrokerProcess, listener_pid
from tests.support.shared import shared_broker, vhost_url

__all__ = ["shared_broker", "vhost_url"]


@pytest.fixture
def url(vhost_url: str) -> BrokerURL:
    return BrokerURL.parse(vhost_url)


def publish(id: str, queue: str = "q", payload: bytes = b"", **options: object) -> frames.Publish:
    return frames.Publish(0, "", queue, id, 0, payload, **options)  # type: ignore[arg-type]


def test_a_client_says_who_it_talks_to(url: BrokerURL, shared_broker: BrokerProcess) -> None:
    with BrokerClient.connect(url) as client:
        assert client.welcome.pid == shared_broker.pid
        assert client.call(frames.Status(0))["pid"] == shared_broker.pid


@pytest.mark.parametrize("size", [0, 40_000])
def test_pipelined_requests_are_all_answered_in_order_whatever_their_size(url: BrokerURL, size: int) -> None:
    count = WINDOW * 2 + 5 if not size else 500
    with BrokerClient.connect(url) as client:
        client.call(frames.DeclareQueue(0, "q"))
        assert client.call_many(publish(f"id{n}", payload=b"x" * size) for n in range(count)) == [True] * count
        assert client.call(frames.DeclareQueue(0, "q", passive=True))[1] == count


def test_pipelining_does_not_stop_while_deliveries_come_in_that_nobody_reads(url: BrokerURL) -> None:
    size, count = 100_000, 300
    with BrokerClient.connect(url) as client:
        client.call(frames.DeclareQueue(0, "q"))
        client.call(frames.OpenChannel(0, 1))
        client.call(frames.Consume(0, 1, "tag", "q", no_ack=True))
        client.call_many(publish(f"id{n}", payload=b"x" * size) for n in range(count))
        assert [client.drain(10).id for _ in range(count)] == [f"id{n}" for n in range(count)]  # type: ignore[union-attr]


def test_the_first_refusal_of_a_pipeline_is_raised_when_all_is_done(url: BrokerURL) -> None:
    with BrokerClient.connect(url) as client:
        client.call(frames.DeclareQueue(0, "q"))
        with pytest.raises(NoRoute, match="nowhere"):
            client.call_many([publish("1"), publish("2", "nowhere", mandatory=True), publish("3")])
        assert client.call(frames.DeclareQueue(0, "q", passive=True))[1] == 2


def test_a_refused_request_leaves_the_connection_open(url: BrokerURL) -> None:
    with BrokerClient.connect(url) as client:
        with pytest.raises(NotFound, match="nothing"):
            client.call(frames.PurgeQueue(0, "nothing"))
        assert client.call(frames.Ping(0)) > 0


def test_acks_that_were_sent_just_before_the_close_count(url: BrokerURL) -> None:
    with BrokerClient.connect(url) as client:
        client.call(frames.DeclareQueue(0, "q"))
        client.call_many(publish(f"id{n}") for n in range(20))
        client.call(frames.OpenChannel(0, 1))
        client.call(frames.Qos(0, 1, 10))
        client.call(frames.Consume(0, 1, "tag", "q"))
        for _ in range(10):
            client.send(frames.Ack(0, 1, client.drain(5).delivery))  # type: ignore[union-attr]
    with BrokerClient.connect(url) as client:
        assert client.call(frames.DeclareQueue(0, "q", passive=True))[1] == 10


def test_a_wrong_or_missing_key_is_refused_and_the_error_names_the_broker_and_not_the_key(
    shared_broker: BrokerProcess,
) -> None:
    plain = BrokerURL.parse(shared_broker.plain_url)
    with pytest.raises(HandshakeRefused, match=rf"127\.0\.0\.1:{shared_broker.port}.*asks for a key"):
        BrokerClient.connect(plain)
    with pytest.raises(HandshakeRefused, match=rf"127\.0\.0\.1:{shared_broker.port}") as refused:
        BrokerClient.connect(plain, key=b"not-the-right-key-at-all")
    assert "not-the-right" not in str(refused.value)


def test_nobody_at_the_address_is_broker_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(BrokerUnreachable, match=rf"mplite://127\.0\.0\.1:{port}/: Connection refused"):
        BrokerClient.connect(BrokerURL("127.0.0.1", port))


def test_somebody_who_says_nothing_is_broker_unreachable_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = BrokerURL("127.0.0.1", listener.getsockname()[1])
        with pytest.raises(BrokerUnreachable, match="too long"):
            BrokerClient.connect(url, timeout=0.05)


def test_somebody_who_speaks_another_protocol_is_a_protocol_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = BrokerURL("127.0.0.1", listener.getsockname()[1])
        pid = os.fork()
        if not pid:
            try:
                peer, _ = listener.accept()
                peer.recv(1000)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                peer.recv(1000)
            finally:
                os._exit(0)
        with pytest.raises(ProtocolError, match="another service"):
            BrokerClient.connect(url)
        os.waitpid(pid, 0)


def test_the_local_broker_is_started_by_the_first_client_and_once(local_home: Path) -> None:
    with BrokerClient.connect(BrokerURL()) as first, BrokerClient.connect(BrokerURL()) as second:
        assert first.welcome.pid == second.welcome.pid


def test_a_local_broker_that_was_killed_is_started_again_by_the_next_client(local_home: Path) -> None:
    with BrokerClient.connect(BrokerURL()) as client:
        client.call(frames.DeclareQueue(0, "q"))
        client.call(publish("kept"))
        info = local.read_info(local_home)
        assert info is not None
        pid = listener_pid(info.socket)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(TransportError):
            client.drain(10)
    with BrokerClient.connect(BrokerURL()) as client:
        assert client.welcome.pid != pid
        assert client.call(frames.DeclareQueue(0, "q", passive=True))[1] == 1


def test_a_local_broker_is_not_started_when_that_is_not_wanted(local_home: Path) -> None:
    with pytest.raises(LocalBrokerError, match="mplite broker start"):
        BrokerClient.connect(BrokerURL(), autostart=False)


def test_a_vhost_is_a_world_of_its_own(url: BrokerURL, shared_broker: BrokerProcess) -> None:
    with BrokerClient.connect(url) as here, BrokerClient.connect(shared_broker.broker_url) as there:
        here.call(frames.DeclareQueue(0, "mine"))
        with pytest.raises(NotFound):
            there.call(frames.DeclareQueue(0, "mine", passive=True))


def test_a_client_whose_descriptor_somebody_closed_says_that_it_is_lost(url: BrokerURL) -> None:
    client = BrokerClient.connect(url)
    os.close(client.fileno())
    with pytest.raises(ConnectionLost, match="Bad file descriptor"):
        client.call(frames.Status(0))
    assert not client.connected


class InterruptedSocket:
    """Sends some bytes and is interrupted then, as by a Ctrl-C."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.close = sock.close

    def send(self, data: memoryview, flags: int) -> int:
        self.sock.send(data[:3], flags)
        raise KeyboardInterrupt


def test_a_client_that_was_interrupted_in_the_middle_of_a_frame_is_not_used_any_more(url: BrokerURL) -> None:
    client = BrokerClient.connect(url)
    assert client.sock is not None
    client._sock = InterruptedSocket(client.sock)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        client.call(frames.Status(0))
    with pytest.raises(ConnectionLost, match="in the middle of a frame"):
        client.call(frames.Status(0))

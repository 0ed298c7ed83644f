"""The client against scripted bytes: what it does with replies, events and losses, without a broker."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from mplite_tasks_transport import frames
from mplite_tasks_transport.client import BrokerClient
from mplite_tasks_transport.dial import Line
from mplite_tasks_transport.errors import ConnectionLost, ContentTooLarge, NotFound, StaleDelivery
from mplite_tasks_transport.handshake import Welcome
from mplite_tasks_transport.protocol import FrameReader, decode_request, encode_push
from mplite_tasks_transport.url import BrokerURL

URL = BrokerURL("h", 1, key="a-secret-of-enough-bytes")


class Peer:
    """The broker's end of the connection, which a test scripts."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._reader = FrameReader()

    def say(self, *pushes: frames.Push) -> None:
        self.sock.sendall(b"".join(map(encode_push, pushes)))

    def hear(self) -> list[frames.Request]:
        self.sock.settimeout(5)
        return [decode_request(body) for body in self._reader.feed(self.sock.recv(1_000_000))]


@pytest.fixture
def pair() -> Iterator[tuple[BrokerClient, Peer]]:
    ours, theirs = socket.socketpair()
    client = BrokerClient(URL, Line(ours, FrameReader(), [], Welcome(1, 0, "test", 1)))
    yield client, Peer(theirs)
    client.abandon()
    theirs.close()


def delivery(number: int) -> frames.Deliver:
    return frames.Deliver(1, "tag", number, "q", "", "q", f"id{number}", 0, number, number, 0, False, b"")


def test_events_that_come_before_an_answer_are_kept_in_their_order(pair: tuple[BrokerClient, Peer]) -> None:
    client, peer = pair
    peer.say(delivery(1), frames.Ok(1, "clock"), delivery(2))
    assert client.call(frames.Ping(0)) == "clock"
    assert [client.drain(0), client.drain(0)] == [delivery(1), delivery(2)]
    with pytest.raises(TimeoutError):
        client.drain(0)
    with pytest.raises(TimeoutError):
        client.drain(0.01)
    peer.say(delivery(3), delivery(4))
    assert [client.drain(1e12), client.drain(float("inf"))] == [delivery(3), delivery(4)]


def test_a_refusal_is_raised_by_the_call_and_the_connection_goes_on(pair: tuple[BrokerClient, Peer]) -> None:
    client, peer = pair
    peer.say(frames.Failed(1, 404, "no queue 'x'"))
    with pytest.raises(NotFound, match="no queue 'x'"):
        client.call(frames.PurgeQueue(0, "x"))
    peer.say(frames.Ok(2))
    assert client.call(frames.Ping(0)) is None


def test_a_refusal_of_a_frame_without_an_answer_is_raised_by_the_next_drain(pair: tuple[BrokerClient, Peer]) -> None:
    client, peer = pair
    client.send(frames.Ack(0, 1, 1))
    peer.say(frames.Failed(0, 409, "gone"), delivery(1))
    with pytest.raises(StaleDelivery, match="gone"):
        client.drain(1)
    assert client.drain(1) == delivery(1)


def test_an_answer_that_nobody_waits_for_any_more_is_dropped(pair: tuple[BrokerClient, Peer]) -> None:
    client, peer = pair
    with pytest.raises(TimeoutError):
        client.call(frames.WaitResult(0, "id"), timeout=0.01)
    peer.say(frames.Ok(1, "late"), frames.Ok(2, "mine"))
    assert client.call(frames.Ping(0)) == "mine"
    assert not client.events


def test_a_loss_names_the_broker_and_what_it_said_but_not_the_key(pair: tuple[BrokerClient, Peer]) -> None:
    client, peer = pair
    peer.say(delivery(1), frames.Goodbye(320, "The broker is shutting down."))
    peer.sock.close()
    assert client.drain(1) == delivery(1)
    with pytest.raises(ConnectionLost, match=r"mplite://:\*\*@h:1/ was lost: .*The broker is shutting down\.") as lost:
        client.drain(1)
    assert "a-secret" not in str(lost.value)
    assert not client.connected
    with pytest.raises(ConnectionLost, match="cannot be used"):
        client.call(frames.Ping(0))


def test_writing_to_a_broker_that_said_goodbye_tells_why(pair: tuple[BrokerClient, Peer]) -> None:
    client, peer = pair
    peer.say(frames.Goodbye(320, "Maintenance."))
    peer.sock.close()
    with pytest.raises(ConnectionLost, match="Maintenance"):
        client.call(frames.Ping(0))


def test_bytes_that_are_no_frames_end_the_connection(pair: tuple[BrokerClient, Peer]) -> None:
    client, peer = pair
    peer.sock.sendall(b"\0\0\0\2\xc1\xc1")
    with pytest.raises(ConnectionLost, match="Not a frame"):
        client.drain(1)


def test_a_frame_over_the_limit_is_refused_here_and_the_connection_goes_on(pair: tuple[BrokerClient, Peer]) -> None:
    client, peer = pair
    with pytest.raises(ContentTooLarge):
        client.call(frames.Publish(0, "", "q", "id", 0, b"x" * (64 * 1024 * 1024)))
    peer.say(frames.Ok(2, 7))
    assert client.call(frames.Ping(0)) == 7


def test_blocked_and_unblocked_are_known(pair: tuple[BrokerClient, Peer]) -> None:
    client, peer = pair
    peer.say(frames.Blocked("memory"), frames.Ok(1))
    client.call(frames.Ping(0))
    assert client.blocked == "memory"
    peer.say(frames.Unblocked())
    client.wait_until(lambda: client.blocked is None, 1)


def test_a_signal_handler_that_raises_while_waiting_loses_nothing(pair: tuple[BrokerClient, Peer]) -> None:
    client, peer = pair

    class StopNow(Exception):
        pass

    def stop(number: int, frame: object) -> None:
        raise StopNow

    previous = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(StopNow):
            client.drain()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    peer.say(delivery(1))
    assert client.drain(1) == delivery(1)


def test_closing_asks_for_a_last_answer_only_if_something_was_sent_without_one(
    pair: tuple[BrokerClient, Peer],
) -> None:
    client, peer = pair
    client.send(frames.Ack(0, 1, 1))
    peer.say(frames.Ok(1))
    client.close()
    assert [type(frame) for frame in peer.hear()] == [frames.Ack, frames.Ping]
    assert peer.sock.recv(1) == b""


def test_closing_an_idle_connection_says_nothing(pair: tuple[BrokerClient, Peer]) -> None:
    client, peer = pair
    peer.say(frames.Ok(1))
    client.call(frames.Ping(0))
    peer.hear()
    client.close()
    client.close()
    assert peer.sock.recv(1) == b""


def test_a_forked_child_closes_its_copy_and_the_parents_connection_goes_on(pair: tuple[BrokerClient, Peer]) -> None:
    client, peer = pair
    read_end, write_end = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            client.call(frames.Ping(0))
        except ConnectionLost as exc:
            os.write(write_end, str(exc).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as said:
        assert f"belongs to process {os.getpid()}" in said.read()
    os.waitpid(pid, 0)
    peer.say(frames.Ok(1, "alive"))
    assert client.call(frames.Ping(0)) == "alive"
    (heard,) = peer.hear()
    assert isinstance(heard, frames.Ping)


def test_the_end_of_the_parent_is_seen_though_a_child_that_it_forked_lives(pair: tuple[BrokerClient, Peer]) -> None:
    client, peer = pair
    read_end, write_end = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(write_end)
        os.read(read_end, 1)  # lives until the test lets go
        os._exit(0)
    os.close(read_end)
    try:
        client.abandon()
        peer.sock.settimeout(5)
        assert peer.sock.recv(1) == b""
    finally:
        os.close(write_end)
        os.waitpid(pid, 0)


def test_the_representation_shows_the_state_and_not_the_key(pair: tuple[BrokerClient, Peer]) -> None:
    client, _ = pair
    assert repr(client) == "<BrokerClient mplite://:**@h:1/ connected, 0 events, 0 unanswered>"
    client.close()
    assert "closed" in repr(client)

"""How a thread waits for messages and for the request to stop at once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from mplite_tasks.worker.stopping import StopIdle
from mplite_tasks.worker.threads import StopRequest, StopThread


class FakeConnection:
    """A Kombu connection whose one event is a byte on a socket."""

    def __init__(self, sock: socket.socket | None) -> None:
        self.connection = self
        if sock is not None:
            sock.setblocking(False)
            self.sock = sock
        self.drains = 0
        self.waits = threading.Event()

    def drain_events(self, timeout: float | None) -> None:
        self.drains += 1
        try:
            self.sock.recv(1)
        except (BlockingIOError, AttributeError):
            self.waits.set()
            raise TimeoutError from None


@pytest.fixture
def request_() -> Iterator[StopRequest]:
    request = StopRequest()
    yield request
    request.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_a_waiting_thread_sleeps_until_there_is_an_event(
    request_: StopRequest, pair: tuple[socket.socket, socket.socket]
) -> None:
    connection = FakeConnection(pair[0])
    thread = threading.Thread(target=StopThread(request_).drain, args=(connection,))
    thread.start()
    connection.waits.wait(20)
    pair[1].send(b"x")
    thread.join(20)
    assert not thread.is_alive()
    assert connection.drains == 2


def test_a_stop_wakes_every_waiting_thread_and_comes_before_further_events(request_: StopRequest) -> None:
    stopped: list[str] = []

    def wait(connection: FakeConnection) -> None:
        try:
            StopThread(request_).drain(connection)  # type: ignore[arg-type]  # what it needs of one
        except StopIdle:
            stopped.append("stopped")

    pairs = [socket.socketpair() for _ in range(3)]
    connections = [FakeConnection(one) for one, _ in pairs]
    threads = [threading.Thread(target=wait, args=(connection,)) for connection in connections]
    for thread, connection in zip(threads, connections, strict=True):
        thread.start()
        connection.waits.wait(20)
    request_.make()
    for thread in threads:
        thread.join(20)
    assert stopped == ["stopped"] * 3
    for one, other in pairs:
        one.close()
        other.close()


def test_a_transport_without_a_socket_is_asked_again_and_again(request_: StopRequest) -> None:
    connection = FakeConnection(None)
    connection.waits.wait(0)

    def stop_after_some() -> None:
        connection.waits.wait(20)
        request_.make()

    thread = threading.Thread(target=stop_after_some)
    thread.start()
    with pytest.raises(StopIdle):
        StopThread(request_).drain(connection)  # type: ignore[arg-type]  # what it needs of one
    thread.join(20)


def test_a_sleep_is_interrupted_while_idle_and_not_while_something_is_settled(request_: StopRequest) -> None:
    stop = StopThread(request_)
    request_.make()
    stop.sleep(0.001)
    with pytest.raises(StopIdle), stop.idle():
        stop.sleep(60)


def test_a_stop_may_be_requested_more_than_once_and_after_the_end() -> None:
    request = StopRequest()
    request.make()
    first = request.made_at
    request.close()
    request.make()
    assert request.made_at == first
    late = StopRequest()
    late.close()
    late.make()

"""Kombu's event loop (the one that Celery's worker runs on) over ``mplite://``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kombu import Connection, Consumer, Message, Producer, Queue
from kombu.asynchronous import Hub

from tests.support.brokers import BrokerProcess
from tests.support.shared import connection, shared_broker, vhost_url

__all__ = ["connection", "shared_broker", "vhost_url"]


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    yield made
    made.close()


@pytest.fixture
def queue(connection: Connection) -> Any:
    declared = Queue("q")(connection.default_channel)
    declared.declare()
    return declared


def run(hub: Hub, enough: Callable[[], bool], seconds: float = 10.0) -> None:
    """Run the loop, turn by turn, until it is enough."""
    deadline = time.monotonic() + seconds
    while not enough():
        assert time.monotonic() < deadline, "it never was enough"
        hub.run_once()


class Waits:
    """Counts the waits of a hub that nothing ended; each would take up to a second, and is cut short here."""

    def __init__(self, hub: Hub) -> None:
        self.idle = 0
        poll = hub.poller.poll

        def counted(timeout: float) -> Any:
            events = poll(min(timeout, 0.1))
            self.idle += not events
            return events

        hub.poller.poll = counted


def consume(connection: Connection, queue: Any, on_message: Callable[[Message], object], prefetch: int = 0) -> Consumer:
    consumer = Consumer(connection.default_channel, [queue], on_message=on_message, prefetch_count=prefetch)
    consumer.consume()
    return consumer


def test_deliveries_are_handled_as_they_come(connection: Connection, queue: Any, hub: Hub, vhost_url: str) -> None:
    got: list[Message] = []

    def receive(message: Message) -> None:
        message.ack()
        got.append(message)

    consume(connection, queue, receive, prefetch=1)
    connection.register_with_event_loop(hub)
    with Connection(vhost_url) as other:
        producer = Producer(other)
        for number in range(50):
            producer.publish(number, routing_key="q")
        run(hub, lambda: len(got) == 50)
    assert [message.decode() for message in got] == list(range(50))


def test_deliveries_that_were_read_before_the_loop_was_told_of_the_connection_are_handled_without_a_wait(
    connection: Connection, queue: Any, hub: Hub
) -> None:
    waits = Waits(hub)
    idle_before: list[int] = []
    for number in range(10):
        Producer(connection).publish(number, routing_key="q")
    consume(connection, queue, lambda _: idle_before.append(waits.idle))
    connection.default_channel.queue_declare("q", passive=True)  # its answer comes behind the deliveries
    assert connection.connection.broker.events
    connection.register_with_event_loop(hub)
    run(hub, lambda: len(idle_before) == 10)
    assert idle_before == [0] * 10


@pytest.mark.parametrize("where", ["callback", "timer", "soon", "outside"])
def test_deliveries_that_were_read_while_a_call_waited_are_handled_without_a_wait(
    connection: Connection, queue: Any, hub: Hub, where: str
) -> None:
    waits = Waits(hub)
    idle_at_call: list[int] = []
    idle_before: list[int] = []
    channel = connection.default_channel

    def slurp() -> None:
        for number in range(5):
            Producer(channel).publish(number, routing_key="q")
        # Its answer comes behind the deliveries: all are read, and no descriptor tells of them.
        channel.queue_declare("q", passive=True)
        idle_at_call.append(waits.idle)

    def receive(message: Message) -> None:
        if message.decode() == "first":
            slurp()
        else:
            idle_before.append(waits.idle)

    consume(connection, queue, receive)
    connection.register_with_event_loop(hub)
    if where == "callback":
        Producer(channel).publish("first", routing_key="q")
    elif where == "timer":
        hub.call_later(0.001, slurp)
    elif where == "soon":
        hub.call_soon(slurp)
    else:
        hub.run_once()
        slurp()
    run(hub, lambda: len(idle_before) == 5)
    assert idle_before == idle_at_call * 5


def test_a_lost_connection_is_raised_in_the_loop_and_a_new_one_can_take_its_place(
    make_broker: Callable[..., BrokerProcess], hub: Hub
) -> None:
    process = make_broker()
    connection = Connection(process.url)
    queue = Queue("q")(connection.default_channel)
    queue.declare()
    consume(connection, queue, lambda _: None)
    connection.register_with_event_loop(hub)
    process.kill()
    hub.propagate_errors = connection.connection_errors
    with pytest.raises(connection.connection_errors, match="was lost"):
        run(hub, lambda: False)
    connection.collect()
    hub.reset()
    assert not hub.on_tick
    process.start()

    got: list[Message] = []
    queue = Queue("q")(connection.default_channel)
    consume(connection, queue, got.append)
    connection.register_with_event_loop(hub)
    Producer(connection).publish("x", routing_key="q")
    run(hub, lambda: bool(got))
    connection.close()


def test_a_loss_that_a_callback_noticed_and_swallowed_is_raised_in_the_loop(
    make_broker: Callable[..., BrokerProcess], hub: Hub
) -> None:
    process = make_broker()
    connection = Connection(process.url)
    channel = connection.default_channel
    connection.register_with_event_loop(hub)

    def swallow() -> None:
        with pytest.raises(connection.connection_errors):
            while True:
                channel.basic_ack(1)
                channel.queue_declare("q")

    process.kill()
    swallow()
    with pytest.raises(connection.connection_errors, match="cannot be used"):
        run(hub, lambda: False)
    assert not hub.on_tick
    connection.collect()


def test_a_closed_connection_leaves_the_loop(connection: Connection, hub: Hub) -> None:
    connection.connect()
    connection.register_with_event_loop(hub)
    assert hub.readers
    connection.close()
    assert not hub.readers
    assert not hub.on_tick


def test_a_connection_can_be_taken_out_of_the_loop(connection: Connection, hub: Hub) -> None:
    connection.connect()
    connection.register_with_event_loop(hub)
    connection.transport.unregister_from_event_loop(connection.connection, hub)
    connection.transport.unregister_from_event_loop(connection.connection, hub)
    assert not hub.readers
    assert connection.connected

"""Kombu's own API over ``mplite://``, against a real broker."""

from __future__ import annotations

import random
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from amqp.exceptions import ConsumerCancelled
from amqp.exceptions import NotFound as AMQPNotFound
from kombu import Connection, Consumer, Exchange, Message, Producer, Queue, eventloop
from kombu.exceptions import BatchPublishError
from kombu.pools import producers
from kombu.simple import SimpleQueue

from mplite_tasks_transport.errors import (
    ContentTooLarge,
    FeatureNotSupported,
    NoRoute,
    PreconditionFailed,
    StaleDelivery,
)
from tests.support.shared import connection, shared_broker, vhost_url

__all__ = ["connection", "shared_broker", "vhost_url"]


@pytest.fixture
def channel(connection: Connection) -> Any:
    return connection.default_channel


@pytest.fixture
def queue(channel: Any) -> Any:
    declared = Queue("q", durable=True)(channel)
    declared.declare()
    return declared


@pytest.fixture
def producer(channel: Any) -> Any:
    return Producer(channel)


@contextmanager
def receiving(
    channel: Any, *queues: Any, prefetch: int = 1, ack: bool = True, **options: Any
) -> Iterator[list[Message]]:
    """Consume into a list."""
    got: list[Message] = []

    def receive(message: Message) -> None:
        got.append(message)
        if ack:
            message.ack()

    # Given here, the prefetch is set before the consumers start; set later, it would come after the first deliveries.
    with Consumer(channel, queues, on_message=receive, prefetch_count=prefetch, **options):
        yield got


def drain(connection: Connection, enough: Callable[[], bool]) -> None:
    while not enough():
        connection.drain_events(timeout=10)


def nothing_comes(connection: Connection) -> bool:
    with pytest.raises(socket.timeout):
        connection.drain_events(timeout=0.05)
    return True


# Order


def test_a_consumer_of_several_queues_gets_the_best_message_of_all_of_them(
    connection: Connection, channel: Any, producer: Any
) -> None:
    queues = [Queue(f"q{n}")(channel) for n in range(4)]
    for each in queues:
        each.declare()
    rng = random.Random(7)
    sent = []
    for number in range(200):
        priority, queue = rng.choice([-(2**31), -3, 0, 5, 2**31 - 1, rng.randint(-9, 9)]), rng.choice(queues)
        producer.publish(number, routing_key=queue.name, priority=priority)
        sent.append((-priority, number))
    with receiving(channel, *queues) as got:
        drain(connection, lambda: len(got) == len(sent))
    assert [message.decode() for message in got] == [number for _, number in sorted(sent)]


def test_an_urgent_message_is_the_next_one_after_those_already_delivered(
    connection: Connection, channel: Any, queue: Any, producer: Any
) -> None:
    for number in range(5):
        producer.publish(number, routing_key="q")
    with receiving(channel, queue) as got:
        drain(connection, lambda: len(got) == 1)
        queue.queue_declare(passive=True)  # when this is answered, the ack was taken and the second one sent
        producer.publish("urgent", routing_key="q", priority=9)
        drain(connection, lambda: len(got) == 6)
    assert [message.decode() for message in got] == [0, 1, "urgent", 2, 3, 4]


def test_a_requeued_message_is_back_at_its_old_place(
    connection: Connection, channel: Any, queue: Any, producer: Any
) -> None:
    for number in range(3):
        producer.publish(number, routing_key="q")
    first = queue.get()
    assert (first.decode(), first.delivery_info["redelivered"]) == (0, False)
    first.requeue()
    again = [queue.get(), queue.get(), queue.get()]
    assert [message.decode() for message in again] == [0, 1, 2]
    assert again[0].delivery_info["redelivered"]
    assert again[0].delivery_info["posted_at"] == first.delivery_info["posted_at"]


def test_messages_of_a_closed_channel_are_back_at_their_old_place(
    connection: Connection, queue: Any, producer: Any
) -> None:
    for number in range(3):
        producer.publish(number, routing_key="q")
    other = connection.channel()
    with receiving(other, queue, prefetch=0, ack=False) as got:
        drain(connection, lambda: len(got) == 3)
        other.close()
    assert [queue.get().decode() for _ in range(3)] == [0, 1, 2]
    assert queue.get() is None


# A message, there and back


def test_a_message_comes_back_as_it_was_sent_with_what_the_broker_knows_of_it(
    connection: Connection, channel: Any, queue: Any, producer: Any
) -> None:
    producer.publish(
        {"a": [1]},
        routing_key="q",
        priority=-7,
        serializer="mplite-json",
        compression="gzip",
        headers={"h": {"deep": [1, None, True]}},
        correlation_id="c",
        reply_to="r",
        mplite_id="me",
    )
    with receiving(channel, queue, accept=["mplite-json"]) as got:
        drain(connection, lambda: bool(got))
    (message,) = got
    assert message.decode() == {"a": [1]}
    assert message.content_type == "application/x-mplite-json"
    assert message.headers["h"] == {"deep": [1, None, True]}
    assert message.properties["correlation_id"] == "c"
    assert message.properties["reply_to"] == "r"
    assert message.properties["priority"] == -7
    assert message.properties["delivery_mode"] == 2
    assert "mplite_id" not in message.properties
    info = message.delivery_info
    assert (info["exchange"], info["routing_key"], info["queue"]) == ("", "q", "q")
    assert (info["priority"], info["message_id"], info["deliveries"], info["redelivered"]) == (-7, "me", 0, False)
    assert info["delivered_at"] > info["posted_at"] > 1_700_000_000_000_000
    assert (info["delivery_tag"], info["consumer_tag"]) == (message.delivery_tag, message.delivery_info["consumer_tag"])


@pytest.mark.parametrize("body", [b"", b"\0\xff", "text", b"x" * 3_000_000])
def test_any_body_comes_back(queue: Any, producer: Any, body: bytes | str) -> None:
    producer.publish(body, routing_key="q", content_type="application/data", content_encoding="utf-8")
    message = queue.get()
    assert message.body == (body.encode() if isinstance(body, str) else body)


def test_a_payload_that_is_not_one_of_ours_goes_to_on_decode_error(
    connection: Connection, channel: Any, queue: Any
) -> None:
    from mplite_tasks_transport import frames

    connection.connection.broker.call(frames.Publish(0, "", "q", "id", 0, b"\xc1"))
    seen: list[tuple[Message, Exception]] = []
    with Consumer(channel, [queue], callbacks=[lambda *_: None], on_decode_error=lambda *args: seen.append(args)):
        drain(connection, lambda: bool(seen))
    assert seen[0][0].body == b"\xc1"
    assert "not [body, properties]" in str(seen[0][1])


def test_a_message_that_is_too_large_is_refused_and_the_channel_goes_on(queue: Any, producer: Any) -> None:
    with pytest.raises(ContentTooLarge):
        producer.publish(b"x" * (64 * 1024 * 1024), routing_key="q", content_type="application/data")
    producer.publish("small", routing_key="q")
    assert queue.get().decode() == "small"


def test_a_delayed_message_comes_when_it_is_due_and_an_expired_one_never(
    connection: Connection, channel: Any, queue: Any, producer: Any
) -> None:
    producer.publish("late", routing_key="q", mplite_delay=0.3)
    producer.publish("never", routing_key="q", expiration=0.01)
    producer.publish("now", routing_key="q", priority=-1)
    assert queue.get() is not None  # whichever
    with receiving(channel, queue) as got:
        drain(connection, lambda: any(message.decode() == "late" for message in got))
        assert nothing_comes(connection)
    info = got[-1].delivery_info
    assert info["delivered_at"] - info["posted_at"] >= 300_000


# Acks and credit


def test_the_credit_is_the_channels_and_not_each_consumers(connection: Connection, channel: Any, producer: Any) -> None:
    queues = [Queue(f"q{n}")(channel) for n in range(3)]
    for each in queues:
        each.declare()
        producer.publish(each.name, routing_key=each.name)
    with receiving(channel, *queues, ack=False) as got:
        drain(connection, lambda: bool(got))
        assert nothing_comes(connection)
        channel.basic_qos(0, 2, False)
        drain(connection, lambda: len(got) == 2)
        assert nothing_comes(connection)
        got[0].ack()
        drain(connection, lambda: len(got) == 3)


def test_ack_of_several_at_once(connection: Connection, channel: Any, queue: Any, producer: Any) -> None:
    for number in range(4):
        producer.publish(number, routing_key="q")
    with receiving(channel, queue, prefetch=0, ack=False) as got:
        drain(connection, lambda: len(got) == 4)
        got[2].ack(multiple=True)
        channel.basic_recover(requeue=True)
        drain(connection, lambda: len(got) == 5)
    assert got[4].decode() == 3


def test_a_second_ack_of_the_same_delivery_is_refused_when_events_are_drained(
    connection: Connection, channel: Any, queue: Any, producer: Any
) -> None:
    producer.publish("x", routing_key="q")
    message = queue.get()
    channel.basic_ack(message.delivery_tag)
    channel.basic_ack(message.delivery_tag)
    with pytest.raises(StaleDelivery, match="settled before"):
        connection.drain_events(timeout=5)
    channel.basic_ack(4711)
    with pytest.raises(PreconditionFailed, match="4711"):
        connection.drain_events(timeout=5)
    assert connection.connected


def test_a_consumer_without_acks_gets_everything_and_its_messages_may_be_acked_in_vain(
    connection: Connection, channel: Any, queue: Any, producer: Any
) -> None:
    for number in range(10):
        producer.publish(number, routing_key="q")
    with receiving(channel, queue, no_ack=True) as got:
        drain(connection, lambda: len(got) == 10)
        assert nothing_comes(connection)
    assert queue.queue_declare(passive=True).message_count == 0


def test_rejected_messages_go_to_the_dead_letters(channel: Any, producer: Any) -> None:
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    queue, dead = Queue("q", queue_arguments=arguments)(channel), Queue("dead")(channel)
    queue.declare()
    dead.declare()
    producer.publish("x", routing_key="q")
    queue.get().reject()
    assert dead.get().decode() == "x"
    assert queue.get() is None


def test_what_was_sent_to_a_cancelled_consumer_and_not_seen_goes_back_at_once(
    connection: Connection, channel: Any, queue: Any, producer: Any
) -> None:
    for number in range(10):
        producer.publish(number, routing_key="q")
    with receiving(channel, queue, prefetch=0) as got:
        drain(connection, lambda: bool(got))
    assert len(got) == 1
    assert queue.queue_declare(passive=True).message_count == 9
    assert nothing_comes(connection)
    assert [queue.get().decode() for _ in range(9)] == list(range(1, 10))


def test_what_was_sent_to_a_cancelled_consumer_without_acks_still_comes(
    connection: Connection, channel: Any, queue: Any, producer: Any
) -> None:
    for number in range(10):
        producer.publish(number, routing_key="q")
    with receiving(channel, queue, no_ack=True) as got:
        drain(connection, lambda: bool(got))
    drain(connection, lambda: len(got) == 10)


def test_recover_delivers_again_what_was_not_acked_and_only_once(
    connection: Connection, channel: Any, queue: Any, producer: Any
) -> None:
    for number in range(5):
        producer.publish(number, routing_key="q")
    with receiving(channel, queue, prefetch=0, ack=False) as got:
        drain(connection, lambda: bool(got))
        channel.basic_recover()
        drain(connection, lambda: len(got) == 6)
        assert nothing_comes(connection)
        assert [message.decode() for message in got] == [0, 0, 1, 2, 3, 4]
        for message in got[1:]:
            message.ack()
    assert queue.queue_declare(passive=True).message_count == 0


# Declarations


def test_a_passive_declaration_of_a_missing_queue_is_kombus_channel_error_404(
    connection: Connection, channel: Any
) -> None:
    with pytest.raises(connection.channel_errors) as failed:
        channel.queue_declare("missing", passive=True)
    assert isinstance(failed.value, AMQPNotFound)
    assert failed.value.reply_code == 404
    assert "missing" in str(failed.value)
    assert channel.queue_declare("missing").queue == "missing"


def test_declarations_answer_name_messages_and_consumers(
    connection: Connection, channel: Any, queue: Any, producer: Any
) -> None:
    producer.publish("x", routing_key="q")
    with receiving(connection.channel(), queue, ack=False):
        declared = queue.queue_declare(passive=True)
        assert declared == (declared.queue, declared.message_count, declared.consumer_count) == ("q", 0, 1)
    assert queue.queue_declare(passive=True) == ("q", 1, 0)
    unnamed = Queue("", durable=False)(channel)
    unnamed.declare()
    assert unnamed.name


def test_purge_and_delete_say_how_many_messages_are_gone(channel: Any, queue: Any, producer: Any) -> None:
    for _ in range(3):
        producer.publish("x", routing_key="q")
    assert queue.purge() == 3
    producer.publish("x", routing_key="q")
    assert queue.delete() == 1


def test_queue_options_become_rabbitmqs_arguments(channel: Any) -> None:
    assert channel.prepare_queue_arguments({}, message_ttl=1.5, expires=2, max_priority=9) == {
        "x-message-ttl": 1500,
        "x-expires": 2000,
        "x-max-priority": 9,
    }


def test_a_direct_exchange_routes_by_key_and_unbinding_ends_that(channel: Any, producer: Any) -> None:
    exchange = Exchange("ex", type="direct")
    red, blue = Queue("red", exchange, routing_key="r")(channel), Queue("blue", exchange, routing_key="b")(channel)
    red.declare()
    blue.declare()
    producer.publish("x", exchange="ex", routing_key="r")
    assert (red.get().decode(), blue.get()) == ("x", None)
    red.queue_unbind()
    producer.publish("x", exchange="ex", routing_key="r")
    assert red.get() is None
    exchange(channel).delete()
    with pytest.raises(AMQPNotFound, match="ex"):
        channel.exchange_declare("ex", passive=True)


def test_binding_an_exchange_to_an_exchange_says_what_to_do_instead(channel: Any) -> None:
    with pytest.raises(FeatureNotSupported, match="Bind the queues to both"):
        channel.exchange_bind("a", "b")
    with pytest.raises(FeatureNotSupported, match="Bind the queues to both"):
        channel.exchange_unbind("a", "b")


def test_what_rabbitmq_refuses_is_refused_here_with_the_alternative(channel: Any, producer: Any) -> None:
    channel.flow(True)
    with pytest.raises(FeatureNotSupported, match="cancel its consumers"):
        channel.flow(False)
    with pytest.raises(FeatureNotSupported, match="prefetch_count"):
        channel.basic_qos(1000, 1)
    with pytest.raises(FeatureNotSupported, match="expiration="):
        producer.publish("x", routing_key="q", immediate=True)


def test_the_end_of_a_queue_ends_its_consumers(connection: Connection, channel: Any, queue: Any) -> None:
    ended: list[str] = []
    channel.basic_consume("q", consumer_tag="told", on_cancel=ended.append, callback=ended.append)
    channel.basic_consume("q", consumer_tag="untold", callback=ended.append)
    connection.channel().queue_delete("q")
    raised = []
    while not (ended and raised):
        try:
            connection.drain_events(timeout=10)
        except ConsumerCancelled as exc:
            raised.append(exc)
    assert ended == ["told"]
    assert "untold" in str(raised[0])
    assert isinstance(raised[0], connection.connection_errors)


def test_a_consumer_of_a_missing_queue_is_refused_at_once_or_when_events_are_drained(
    connection: Connection, channel: Any
) -> None:
    with pytest.raises(AMQPNotFound):
        channel.basic_consume("missing")
    channel.basic_consume("missing", nowait=True)
    with pytest.raises(AMQPNotFound):
        connection.drain_events(timeout=5)


# Publishing


@pytest.mark.parametrize("options", [{}, {"confirm_publish": False}])
def test_a_mandatory_message_without_a_queue_is_returned(vhost_url: str, options: dict[str, bool]) -> None:
    with Connection(vhost_url, transport_options=options) as connection:
        returned: list[tuple[Any, ...]] = []
        producer = Producer(connection, on_return=lambda *args: returned.append(args))
        producer.publish("lost", routing_key="nowhere", mandatory=True)
        producer.publish("dropped", routing_key="nowhere")
        if not returned:
            connection.drain_events(timeout=5)
        ((error, exchange, routing_key, message),) = returned
        assert (exchange, routing_key, message.body) == ("", "nowhere", b"lost")
        assert isinstance(error, NoRoute)
        with pytest.raises(NoRoute, match="nowhere"):  # nobody listens on this channel
            Producer(connection.channel()).publish("lost", routing_key="nowhere", mandatory=True)
            connection.drain_events(timeout=5)
            raise error


def test_publishes_without_confirms_arrive_in_order(vhost_url: str) -> None:
    with Connection(vhost_url, transport_options={"confirm_publish": False}) as connection:
        queue = Queue("q")(connection.default_channel)
        queue.declare()
        producer = Producer(connection)
        for number in range(500):
            producer.publish(number, routing_key="q")
    with Connection(vhost_url) as connection:
        queue = Queue("q")(connection.default_channel)
        assert [queue.get(no_ack=True).decode() for _ in range(500)] == list(range(500))


def test_a_batch_is_confirmed_when_its_block_ends(connection: Connection, queue: Any, producer: Any) -> None:
    assert producer.supports_batch_publish
    with producer.batch(max_size=100):
        for number in range(99):
            producer.publish(number, routing_key="q")
        assert queue.queue_declare(passive=True).message_count == 0
        producer.publish(99, routing_key="q")
        assert queue.queue_declare(passive=True).message_count == 100
        producer.publish(100, routing_key="q")
    assert queue.queue_declare(passive=True).message_count == 101


def test_a_batch_that_is_left_by_an_exception_sends_nothing_more(queue: Any, producer: Any) -> None:
    with pytest.raises(RuntimeError, match="changed my mind"), producer.batch():
        producer.publish("x", routing_key="q")
        raise RuntimeError("changed my mind")
    assert queue.get() is None


def test_a_batch_that_the_broker_refuses_in_part_says_so(queue: Any, producer: Any) -> None:
    with pytest.raises(BatchPublishError, match="nowhere"), producer.batch():
        producer.publish("x", routing_key="q")
        producer.publish("x", routing_key="nowhere", mandatory=True)
    assert queue.get() is not None


def test_a_publish_with_an_id_that_the_queue_holds_is_kept_once(queue: Any, producer: Any) -> None:
    for _ in range(3):
        producer.publish("x", routing_key="q", mplite_id="same")
    assert queue.queue_declare(passive=True).message_count == 1


def test_one_mapping_of_properties_for_many_messages_makes_many_messages(channel: Any, queue: Any) -> None:
    shared = {"delivery_mode": 2}
    for _ in range(3):
        channel.basic_publish(channel.prepare_message(b"same", properties=shared), routing_key="q")
    assert queue.queue_declare(passive=True).message_count == 3


# The rest of Kombu


def test_simple_queues_and_buffers(connection: Connection) -> None:
    for make in (connection.SimpleQueue, connection.SimpleBuffer):
        name = uuid.uuid4().hex
        simple: SimpleQueue = make(name)
        with simple:
            simple.put({"n": 1})
            simple.put({"n": 2}, priority=5)
            assert len(simple) == 2
            assert [simple.get(timeout=5).payload["n"], simple.get(timeout=5).payload["n"]] == [2, 1]
            with pytest.raises(simple.Empty):
                simple.get(timeout=0.01)
            with pytest.raises(simple.Empty):
                simple.get(block=False)


def test_the_event_loop_helper_ends_with_its_limit(
    connection: Connection, channel: Any, queue: Any, producer: Any
) -> None:
    for number in range(3):
        producer.publish(number, routing_key="q")
    with receiving(channel, queue) as got:
        for _ in eventloop(connection, limit=3, timeout=5):
            pass
    assert len(got) == 3


def test_producer_pools_work(vhost_url: str) -> None:
    connection = Connection(vhost_url)
    with producers[connection].acquire(block=True) as producer:
        queue = Queue("q")(producer.channel)
        queue.declare()
        producer.publish("x", routing_key="q", retry=True)
        assert queue.get(no_ack=True).decode() == "x"
    producers[connection].force_close_all()


def test_a_drain_without_a_timeout_of_its_own_waits_no_longer_than_told(connection: Connection) -> None:
    connection.connect()
    for timeout in (0, 0.01):
        with pytest.raises(socket.timeout):
            connection.drain_events(timeout=timeout)


def test_many_channels_of_one_connection_do_not_mix(connection: Connection, producer: Any) -> None:
    channels = [connection.channel() for _ in range(20)]
    assert len({channel.channel_id for channel in channels}) == 20
    received: dict[int, list[int]] = {}
    for number, channel in enumerate(channels):
        queue = Queue(f"q{number}")(channel)
        queue.declare()
        received[number] = []
        channel.basic_consume(
            queue.name, callback=lambda message, to=received[number]: (to.append(message.decode()), message.ack())
        )
        producer.publish(number, routing_key=queue.name)
    drain(connection, lambda: all(received.values()))
    assert received == {number: [number] for number in range(20)}
    for channel in channels:
        channel.close()
        channel.close()
    assert connection.channel().channel_id in {channel.channel_id for channel in channels}


def test_the_driver_says_what_it_is(connection: Connection) -> None:
    from mplite_tasks_transport import __version__

    transport = connection.transport
    assert (transport.driver_type, transport.driver_name, transport.driver_version()) == (
        "mplite",
        "mplite",
        __version__,
    )
    assert connection.is_evented
    assert not connection.supports_heartbeats
    assert connection.qos_semantics_matches_spec
    assert connection.get_heartbeat_interval() == 0
    connection.heartbeat_check()
    for kind in ("direct", "topic", "fanout", "headers"):
        assert connection.supports_exchange_type(kind)

"""``BrokerFeatures`` over our own broker, and what is left of them over any other Kombu transport."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from kombu import Connection, Consumer, Message, Producer, Queue

from mplite_tasks_transport import (
    Feature,
    FeatureNotSupported,
    NoRoute,
    NotFound,
    Outcome,
    Publication,
    StaleDelivery,
    features_for,
)
from mplite_tasks_transport.features import GenericFeatures, MPLiteFeatures
from tests.support.brokers import BrokerProcess
from tests.support.proxy import Proxy
from tests.support.shared import connection, shared_broker, vhost_url

__all__ = ["connection", "shared_broker", "vhost_url"]


@pytest.fixture
def features(connection: Connection) -> MPLiteFeatures:
    found = features_for(connection)
    assert isinstance(found, MPLiteFeatures)
    return found


@pytest.fixture
def queue(connection: Connection) -> Any:
    return declared(connection)


def declared(connection: Connection, name: str = "q") -> Any:
    queue = Queue(name, durable=True)(connection.default_channel)
    queue.declare()
    return queue


def publication(id: str, queue: str = "q", **options: Any) -> Publication:
    return Publication(queue, id, id.encode(), "text/plain", "utf-8", **options)


def waiting(queue: Any) -> int:
    return int(queue.queue_declare(passive=True).message_count)


def consume(connection: Connection, features: MPLiteFeatures, prefetch: int = 1) -> list[Message]:
    """Start a consumer of queue q, and return the list that its messages come to."""
    got: list[Message] = []
    queue = Queue("q", durable=True, consumer_arguments=features.consumer_arguments())
    Consumer(connection.default_channel, [queue], on_message=got.append, prefetch_count=prefetch).consume()
    return got


def drain(connection: Connection, got: list[Message], count: int) -> None:
    while len(got) < count:
        connection.drain_events(timeout=10)


# Our own broker


def test_everything_is_supported(features: MPLiteFeatures) -> None:
    assert features.supported == frozenset(Feature)


def test_publish_options_say_the_id_and_the_time_to_the_broker(
    connection: Connection, features: MPLiteFeatures, queue: Any
) -> None:
    producer = Producer(connection)
    for _ in range(2):
        producer.publish("late", routing_key="q", **features.publish_options(id="late", delay=3600, ttl=7200))
    producer.publish("later", routing_key="q", **features.publish_options(id="later", eta=time.time() + 3600))
    assert waiting(queue) == 0
    assert features.cancel("q", "late")
    assert not features.cancel("q", "late")
    assert features.cancel("q", "later")
    with pytest.raises(ValueError, match="not both"):
        features.publish_options(id="x", delay=1, eta=1)


def test_many_publications_are_confirmed_together_and_kept_once_if_repeated(
    features: MPLiteFeatures, queue: Any
) -> None:
    many = [publication(f"id{n}", priority=n % 3, headers={"n": n}) for n in range(1000)]
    features.publish_many(many)
    features.publish_many(many)
    assert features.queue_length("q") == 1000
    message = queue.get()
    assert (message.body, message.headers, message.content_type) == (b"id2", {"n": 2}, "text/plain")
    facts = features.facts(message)
    assert (facts.id, facts.queue, facts.priority, facts.deliveries, facts.redelivered) == ("id2", "q", 2, 0, False)
    assert facts.posted_at is not None
    assert facts.delivered_at is not None
    assert facts.delivered_at > facts.posted_at
    with pytest.raises(NoRoute, match="nowhere"):
        features.publish_many([publication("x", "nowhere")])
    with pytest.raises(NotFound):
        features.queue_length("nowhere")


def test_a_waiting_message_has_a_position_that_its_priority_changes(features: MPLiteFeatures, queue: Any) -> None:
    features.publish_many([publication(f"id{n}") for n in range(5)])
    assert [features.position("q", f"id{n}") for n in range(5)] == [0, 1, 2, 3, 4]
    assert features.reprioritise("q", "id3", 7)
    assert features.position("q", "id3") == 0
    assert features.position("q", "gone") is None
    assert not features.reprioritise("q", "gone", 7)
    with pytest.raises(ValueError, match="2147483648"):
        features.reprioritise("q", "id3", 2**31)
    assert queue.get().body == b"id3"


def test_settling_acks_keeps_the_outcome_and_publishes_in_one_step(
    connection: Connection, features: MPLiteFeatures, queue: Any
) -> None:
    declared(connection, "next")
    features.publish_many([publication("job"), publication("second")])
    got = consume(connection, features)
    drain(connection, got, 1)
    assert features.outcome("job") == Outcome("job", "STARTED", b"", False)
    features.settle(got[0], outcome=Outcome("job", "SUCCESS", b"42"), publish=[publication("after", "next")])
    assert got[0].acknowledged
    features.flush()
    assert features.outcome("job") == Outcome("job", "SUCCESS", b"42")
    assert features.queue_length("next") == 1
    drain(connection, got, 2)
    assert got[1].body == b"second"


def test_settling_is_refused_as_a_whole_if_what_follows_has_no_queue(
    connection: Connection, features: MPLiteFeatures, queue: Any
) -> None:
    features.publish_many([publication("job")])
    message = queue.get()
    features.settle(message, outcome=Outcome("job", "SUCCESS"), publish=[publication("after", "nowhere")])
    with pytest.raises(NoRoute, match="nowhere"):
        features.flush()
    features.settle(message, outcome=Outcome("job", "FAILURE"))
    features.flush()
    assert features.outcome("job") == Outcome("job", "FAILURE")


def test_settling_without_credit_brings_no_next_message_until_it_is_given(
    connection: Connection, features: MPLiteFeatures, queue: Any
) -> None:
    features.publish_many([publication("one"), publication("two")])
    got = consume(connection, features)
    drain(connection, got, 1)
    features.settle(got[0], credit=False)
    features.flush()
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.05)
    features.give_credit(got[0])
    drain(connection, got, 2)


def test_a_second_settle_is_stale_does_nothing_and_is_told_by_flush_or_drain(
    connection: Connection, features: MPLiteFeatures, queue: Any
) -> None:
    features.publish_many([publication("job")])
    got = consume(connection, features)
    drain(connection, got, 1)
    features.settle(got[0], outcome=Outcome("job", "SUCCESS", b"first"))
    features.settle(got[0], outcome=Outcome("job", "SUCCESS", b"second"))
    with pytest.raises(StaleDelivery):
        features.flush()
    features.flush()
    features.settle(got[0])
    with pytest.raises(StaleDelivery):
        connection.drain_events(timeout=5)
    outcome = features.outcome("job")
    assert outcome is not None
    assert outcome.value == b"first"


def test_a_message_that_its_consumer_has_not_started_with_counts_no_delivery_and_one_that_died_does(
    connection: Connection, features: MPLiteFeatures, queue: Any, vhost_url: str
) -> None:
    features.publish_many([publication("job")])
    for deliveries, begin in ((0, False), (0, True), (1, True), (2, False)):
        other = Connection(vhost_url)
        got: list[Message] = []
        Consumer(other.default_channel, [Queue("q", durable=True)], on_message=got.append).consume()
        drain(other, got, 1)
        assert features_for(other).facts(got[0]).deliveries == deliveries
        if begin:
            features_for(other).started(got[0])
        other.collect()  # ends as a death does, without closing its channel


def test_outcomes_are_kept_replaced_expired_and_forgotten(features: MPLiteFeatures) -> None:
    assert features.outcome("id") is None
    features.store_outcome(Outcome("id", "RETRY", b"1", final=False))
    features.store_outcome(Outcome("id", "FAILURE", b"2"))
    assert features.outcome("id") == Outcome("id", "FAILURE", b"2")
    assert features.forget(["id", "unknown"]) == 1
    assert features.outcome("id") is None
    features.store_outcome(Outcome("brief", "SUCCESS"), ttl=0.01)
    deadline = time.monotonic() + 10
    while features.outcome("brief") is not None:
        assert time.monotonic() < deadline


def test_a_waiter_is_told_of_the_final_outcome_and_only_of_that(features: MPLiteFeatures, vhost_url: str) -> None:
    assert features.wait_outcome("id", timeout=0.01) is None

    def work() -> None:
        with Connection(vhost_url) as other:
            theirs = features_for(other)
            theirs.store_outcome(Outcome("id", "RETRY", final=False))
            theirs.store_outcome(Outcome("id", "SUCCESS", b"7"))

    worker = threading.Thread(target=work)
    worker.start()
    assert features.wait_outcome("id", timeout=10) == Outcome("id", "SUCCESS", b"7")
    worker.join()
    assert features.wait_outcome("id") == Outcome("id", "SUCCESS", b"7")


def test_deliveries_that_come_while_waiting_for_an_outcome_are_not_lost(
    connection: Connection, features: MPLiteFeatures, queue: Any
) -> None:
    got = consume(connection, features)
    features.publish_many([publication("job")])
    assert features.wait_outcome("id", timeout=0.05) is None
    drain(connection, got, 1)


def test_a_named_lock_has_one_holder_and_ends_with_its_connection(features: MPLiteFeatures, vhost_url: str) -> None:
    other = Connection(vhost_url)
    theirs = features_for(other)
    assert theirs.acquire_lock("leader")
    assert not features.acquire_lock("leader")
    theirs.release_lock("leader")
    assert features.acquire_lock("leader")
    features.release_lock("leader")
    assert theirs.acquire_lock("leader")
    other.close()
    deadline = time.monotonic() + 10
    while not features.acquire_lock("leader"):
        assert time.monotonic() < deadline


# The death of the broker, and of the connection


@pytest.fixture
def consumer(broker: BrokerProcess) -> Iterator[tuple[Connection, MPLiteFeatures, list[Message], str]]:
    """A consumer with an identity that has started with one message."""
    with Connection(broker.url) as connection:
        features = features_for(connection)
        assert isinstance(features, MPLiteFeatures)
        declared(connection)
        features.publish_many([publication("job"), publication("second")])
        identity = uuid.uuid4().hex
        features.identify(identity)
        got = consume(connection, features)
        drain(connection, got, 1)
        yield connection, features, got, identity


def reconnect(connection: Connection) -> None:
    connection.collect()
    connection.ensure_connection(max_retries=20, interval_start=0, interval_step=0.05)


def test_a_job_that_ran_while_the_broker_died_is_settled_afterwards_and_does_not_run_again(
    broker: BrokerProcess, consumer: tuple[Connection, MPLiteFeatures, list[Message], str]
) -> None:
    connection, features, got, identity = consumer
    broker.kill()
    with pytest.raises(connection.connection_errors):
        features.settle(got[0], outcome=Outcome("job", "SUCCESS", b"1"))
        features.flush()
    broker.start()
    reconnect(connection)
    posted_at = features.facts(got[0]).posted_at
    assert posted_at is not None
    features.identify(identity, keep=[posted_at])
    assert features.queue_length("q") == 1
    with contextlib.suppress(StaleDelivery):  # identify has sent it, if it was in doubt
        features.settle(got[0], outcome=Outcome("job", "SUCCESS", b"1"))
    assert features.outcome("job") == Outcome("job", "SUCCESS", b"1")
    assert [message.body for message in iter(declared(connection).get, None)] == [b"second"]


def test_a_settle_that_was_in_doubt_when_the_broker_died_is_done_once_by_identify(
    broker: BrokerProcess, consumer: tuple[Connection, MPLiteFeatures, list[Message], str]
) -> None:
    connection, features, got, identity = consumer
    for round in range(2):
        # Whether the broker reads and commits it before it dies is a race; either way it is done once.
        features.settle(got[-1], outcome=Outcome(f"done{round}", "SUCCESS", b"1"))
        broker.kill()
        broker.start()
        reconnect(connection)
        features.identify(identity)
        features.flush()
        assert features.outcome(f"done{round}") == Outcome(f"done{round}", "SUCCESS", b"1")
        if not round:
            got = consume(connection, features)
            drain(connection, got, 1)
            assert got[0].body == b"second"
    assert features.queue_length("q") == 0
    assert declared(connection).get() is None


def test_what_a_consumer_does_not_keep_goes_back_to_its_place(
    broker: BrokerProcess, consumer: tuple[Connection, MPLiteFeatures, list[Message], str]
) -> None:
    connection, features, got, identity = consumer
    broker.kill()
    broker.start()
    reconnect(connection)
    features.identify(identity)
    assert [message.body for message in iter(declared(connection).get, None)] == [b"job", b"second"]
    with pytest.raises(StaleDelivery):
        features.settle(got[0])


def test_a_message_of_a_cut_connection_went_back_and_its_late_settle_is_stale(broker: BrokerProcess) -> None:
    with Proxy(broker.port) as proxy, Connection(f"mplite://:{broker.key}@127.0.0.1:{proxy.port}/") as connection:
        features = features_for(connection)
        declared(connection)
        features.publish_many([publication("job")])
        message = Queue("q")(connection.default_channel).get()
        proxy.cut()
        with pytest.raises(connection.connection_errors):
            connection.drain_events(timeout=10)
        reconnect(connection)
        with pytest.raises(StaleDelivery):
            features.settle(message, outcome=Outcome("job", "SUCCESS"))
        assert features.outcome("job") is None


# Any other transport


@pytest.fixture
def generic() -> Iterator[tuple[Connection, GenericFeatures]]:
    with Connection("memory://" + uuid.uuid4().hex) as connection:
        found = features_for(connection)
        assert isinstance(found, GenericFeatures)
        declared(connection).purge()  # the memory transport has one memory for all
        yield connection, found
        connection.default_channel.queue_delete("q")


def test_another_transport_settles_by_publishing_and_then_acking(generic: tuple[Connection, GenericFeatures]) -> None:
    connection, features = generic
    features.identify("me")
    features.publish_many([publication("one", headers={"h": 1})])
    message = Queue("q")(connection.default_channel).get()
    features.started(message)
    facts = features.facts(message)
    assert (facts.id, facts.posted_at, facts.queue) == ("one", None, None)
    assert message.headers == {"h": 1}
    features.settle(message, publish=[publication("two")])
    features.give_credit(message)
    features.flush()
    assert message.acknowledged
    assert features.queue_length("q") == 1
    Producer(connection).publish("x", routing_key="q", **features.publish_options(id="three", ttl=5))
    with pytest.raises(connection.channel_errors):
        features.queue_length("missing")


def test_what_another_transport_cannot_do_is_refused_before_anything_is_done_and_names_the_alternative(
    generic: tuple[Connection, GenericFeatures],
) -> None:
    connection, features = generic
    assert features.supported == frozenset()
    features.publish_many([publication("one")])
    message = Queue("q")(connection.default_channel).get()
    refused = [
        lambda: features.publish_options(id="x", delay=1),
        lambda: features.publish_many([publication("x"), publication("y", delay=1)]),
        lambda: features.settle(message, outcome=Outcome("one", "SUCCESS")),
        lambda: features.cancel("q", "x"),
        lambda: features.reprioritise("q", "x", 1),
        lambda: features.position("q", "x"),
        lambda: features.store_outcome(Outcome("x", "SUCCESS")),
        lambda: features.outcome("x"),
        lambda: features.wait_outcome("x"),
        lambda: features.forget(["x"]),
        lambda: features.acquire_lock("x"),
        lambda: features.release_lock("x"),
    ]
    for attempt in refused:
        with pytest.raises(FeatureNotSupported, match=r"memory does not support .*mplite://"):
            attempt()
    assert not message.acknowledged
    assert features.queue_length("q") == 0
    message.ack()

"""A broker at its memory limit: publishers wait, consumers go on, and nothing is lost or doubled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kombu import Connection, Producer, Queue

from tests.support.brokers import BrokerProcess

BODY = b"x" * 200_000


@pytest.fixture
def full(make_broker: Callable[..., BrokerProcess]) -> Iterator[tuple[BrokerProcess, int]]:
    """A broker that was filled until publishers wait, and how many messages it has confirmed."""
    process = make_broker(options=("--memory-limit", "4M"))
    with Connection(process.url) as connection:
        Queue("q", durable=True)(connection.default_channel).declare()
        producer, confirmed = Producer(connection), 0
        with pytest.raises(TimeoutError):
            while confirmed < 1000:
                publish(producer, f"id{confirmed}", timeout=0.5)
                confirmed += 1
        assert 10 < confirmed < 40
        assert connection.connection.broker.blocked
        yield process, confirmed


def publish(producer: Any, id: str, **options: Any) -> None:
    producer.publish(
        BODY, routing_key="q", content_type="application/data", content_encoding="binary", mplite_id=id, **options
    )


def drained(url: str, count: int) -> list[str]:
    """Take and ack messages until there were so many."""
    ids: list[str] = []
    with Connection(url) as connection:
        queue = Queue("q")(connection.default_channel)
        while len(ids) < count:
            message = queue.get()
            if message is not None:
                ids.append(message.delivery_info["message_id"])
                message.ack()
    return ids


def test_a_publisher_waits_for_memory_and_goes_on_when_consumers_have_made_room(
    full: tuple[BrokerProcess, int],
) -> None:
    process, confirmed = full
    ids: list[str] = []
    with Connection(process.url) as connection:
        connection.connect()
        consumer = threading.Thread(target=lambda: ids.extend(drained(process.url, confirmed + 2)))
        consumer.start()
        publish(Producer(connection), "late")
        consumer.join(30)
    # The publish that ran out of time was parked in the broker, and is in the queue as well.
    assert sorted(ids) == sorted([f"id{number}" for number in range(confirmed + 1)] + ["late"])


def test_a_publisher_without_confirms_waits_too_once_it_knows(full: tuple[BrokerProcess, int]) -> None:
    process, _ = full
    with Connection(process.url, transport_options={"confirm_publish": False}) as connection:
        producer = Producer(connection)
        with pytest.raises(TimeoutError):
            for number in range(1000):
                publish(producer, f"more{number}", timeout=0.2)
                connection.default_channel.queue_declare("q", passive=True)

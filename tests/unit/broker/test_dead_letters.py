"""Where messages go that are rejected, expire, or kill their consumers, and what is told of them."""

from __future__ import annotations

from typing import Any

import pytest

from mplite_tasks_transport import frames
from mplite_tasks_transport.limits import MAX_PAYLOAD_BYTES
from mplite_tasks_transport.payload import decode_payload

from .bench import Bench, Client, letter


def deaths(bench: Bench, queue: str = "dead") -> list[dict[str, Any]]:
    _, payload = bench.queue(queue).take()
    history = decode_payload(payload).properties["headers"]["x-death"]
    assert isinstance(history, list)
    return history


@pytest.fixture
def dying(bench: Bench, producer: Client) -> Client:
    producer.declare("dead")
    producer.declare(
        "mortal",
        arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead", "x-delivery-limit": 2},
    )
    client = bench.client()
    client.consume("mortal")
    return client


def test_a_rejected_message_goes_to_the_dead_letters_with_its_history(
    bench: Bench, producer: Client, dying: Client
) -> None:
    producer.publish("m", 3, "mortal", payload=letter({"mine": 1}, expiration="500"))
    dying.reject(1)
    assert bench.waiting("dead") == ["m"]
    entry, payload = bench.queue("dead").take()
    assert entry.priority == 3
    properties = decode_payload(payload).properties
    assert "expiration" not in properties
    assert properties["headers"] == {
        "mine": 1,
        "x-death": [
            {
                "queue": "mortal",
                "reason": "rejected",
                "exchange": "",
                "routing-keys": ["mortal"],
                "count": 1,
                "deliveries": 0,
            }
        ],
        "x-first-death-queue": "mortal",
        "x-first-death-reason": "rejected",
    }


def test_the_history_has_the_newest_death_first_and_counts_repetitions(bench: Bench, producer: Client) -> None:
    producer.declare("dead")
    producer.declare("x", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "y"})
    producer.declare("y", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "x"})
    producer.publish("m", queue="x", payload=letter())
    client = bench.client()
    for queue in ("x", "y", "x"):
        taken = frames.Deliver(*client.request(frames.Get, 1, queue))
        client.reject(taken.delivery)
    assert [(d["queue"], d["count"]) for d in deaths(bench, "y")] == [("x", 2), ("y", 1)]


@pytest.mark.parametrize(
    "history", ["x", [1], [{"queue": "mortal", "reason": "rejected", "count": "many"}], {"a": 1}, [[]]]
)
def test_a_history_that_makes_no_sense_does_no_harm(
    bench: Bench, producer: Client, dying: Client, history: Any
) -> None:
    producer.publish("m", queue="mortal", payload=letter({"x-death": history}))
    assert dying.reject(1) is None
    assert deaths(bench)[0]["count"] == 1


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff\xff", b"\x92\xc4\x00\x81\xa1a\xa2\xff\xff", b"\x92\xc4\x00\x81\xa1a" + b"\x91" * 100_000 + b"\xc0"],
)
def test_a_payload_that_cannot_be_read_dies_as_it_is(
    bench: Bench, producer: Client, dying: Client, payload: bytes
) -> None:
    producer.publish("m", queue="mortal", payload=payload)
    assert dying.reject(1) is None
    assert bench.queue("dead").take()[1] == payload


def test_a_history_never_makes_a_message_too_large_to_be_delivered(
    bench: Bench, producer: Client, dying: Client
) -> None:
    payload = letter(body=bytes(MAX_PAYLOAD_BYTES - 100))
    assert producer.publish("m", queue="mortal", payload=payload) is True
    dying.reject(1)
    assert bench.queue("dead").take()[1] == payload


def test_an_expired_message_goes_to_the_dead_letters(bench: Bench, producer: Client) -> None:
    producer.declare("dead")
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead", "x-message-ttl": 1}
    producer.declare("brief", arguments=arguments)
    producer.publish("m", queue="brief", payload=letter())
    bench.step(1000)
    assert deaths(bench)[0]["reason"] == "expired"


def test_only_deaths_of_consumers_that_had_started_count_towards_the_limit(bench: Bench, producer: Client) -> None:
    producer.declare("dead")
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead", "x-delivery-limit": 2}
    producer.declare("mortal", arguments=arguments)
    producer.publish("m", queue="mortal", payload=letter())
    for _ in range(3):  # prefetched and never run
        client = bench.client()
        client.consume("mortal")
        client.close()
    for _ in range(3):  # started, and closed in good order
        client = bench.client()
        client.consume("mortal")
        client.request(frames.Started, 1, 1)
        client.request(frames.CloseChannel, 1)
        client.close()
    for died in range(2):
        bench = bench.crashed()  # restarts of the broker don't count, and lose no count
        client = bench.client()
        client.consume("mortal", arguments={"x-starts-on-delivery": True})
        assert client.next().deliveries == died
        client.close()
    (death,) = deaths(bench)
    assert (death["reason"], death["deliveries"]) == ("delivery_limit", 2)


def test_dead_letters_without_a_place_to_go_are_dropped(bench: Bench, producer: Client) -> None:
    producer.declare("mortal", arguments={"x-dead-letter-exchange": "gone", "x-dead-letter-routing-key": 7})
    producer.publish("m", queue="mortal")
    client = bench.client()
    client.consume("mortal")
    assert client.reject(1) is None
    assert bench.memory.held == 0
    assert not bench.kept.messages

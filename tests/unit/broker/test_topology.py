"""Queues, channels and consumers: declarations, what is exclusive, what deletes itself, and the limits."""

from __future__ import annotations

from typing import Any

import pytest

from mplite_tasks_transport import frames
from mplite_tasks_transport.limits import MAX_ARGUMENT_DEPTH, MAX_CHANNELS

from .bench import SECOND, Bench, Client


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def client(bench: Bench) -> Client:
    return bench.client()


def nested(levels: int) -> dict[str, Any]:
    value: Any = 1
    for level in range(levels - 1):
        value = [value] if level % 2 else {"k": value}
    return {"k": value}


def test_every_request_of_the_protocol_has_a_handler(bench: Bench) -> None:
    assert set(bench.core._handlers) == set(frames.Request.__args__)


def test_a_declaration_answers_the_name_and_the_numbers_of_messages_and_consumers(client: Client) -> None:
    assert client.declare() == ["q", 0, 0]
    client.publish("m")
    client.publish("n", delay=SECOND)
    assert client.declare() == ["q", 1, 0]
    client.consume()
    assert client.declare(passive=True) == ["q", 0, 1]
    assert client.declare("missing", passive=True).code == 404


def test_an_empty_name_is_picked(client: Client) -> None:
    first, second = client.declare("")[0], client.declare("")[0]
    assert first != second
    assert first.startswith("amq.gen-")


@pytest.mark.parametrize(
    "fields", [{"durable": False}, {"exclusive": True}, {"auto_delete": True}, {"arguments": {"x-max": 1}}]
)
def test_a_declaration_with_other_properties_is_refused_and_changes_nothing(
    bench: Bench, client: Client, fields: dict[str, Any]
) -> None:
    client.declare()
    before = bench.queue()
    assert client.declare(**fields).code == 406
    assert bench.queue() is before
    assert client.declare() == ["q", 0, 0]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (nested(MAX_ARGUMENT_DEPTH), None),
        (nested(MAX_ARGUMENT_DEPTH + 1), 406),
        ({"k": {1: "a", "b": 2}}, 406),
        ({"k": [{"l": {(1,): 2}}]}, 406),
    ],
)
def test_arguments_that_a_journal_could_not_keep_are_refused(
    client: Client, arguments: dict[str, Any], code: int | None
) -> None:
    answers = [
        client.declare(arguments=arguments),
        client.request(frames.DeclareExchange, "x", arguments=arguments),
    ]
    client.declare("other")
    answers.append(client.request(frames.BindQueue, "other", "amq.topic", "k", arguments))
    assert [getattr(answer, "code", None) for answer in answers] == [code] * 3


def test_names_have_at_most_255_bytes(client: Client) -> None:
    assert client.declare("ä" * 128).code == 406
    assert client.declare("ä" * 127)[0] == "ä" * 127
    client.declare()
    assert client.consume(tag="t" * 256).code == 406
    assert client.request(frames.AcquireLock, "l" * 256).code == 406
    assert client.request(frames.BindQueue, "q", "amq.topic", "k" * 256).code == 406


def test_an_exclusive_queue_belongs_to_its_connection_and_ends_with_it(bench: Bench, client: Client) -> None:
    other = bench.client()
    client.declare(exclusive=True)
    client.declare(exclusive=True)
    for answer in (
        other.declare(exclusive=True),
        other.declare(passive=True),
        other.consume(),
        other.request(frames.Get, 1, "q"),
        other.request(frames.PurgeQueue, "q"),
        other.request(frames.DeleteQueue, "q"),
        other.request(frames.BindQueue, "q", "amq.topic", "k"),
        other.request(frames.CancelMessage, "q", "m"),
    ):
        assert answer.code == 405
    assert other.publish("m") is True, "anybody may publish to it"
    assert not bench.kept.queues
    client.close()
    assert "q" not in bench.core.vhosts["/"].queues
    assert bench.memory.held == 0


def test_an_auto_delete_queue_ends_with_its_last_consumer(bench: Bench, client: Client) -> None:
    other = bench.client()
    client.declare(auto_delete=True)
    client.publish("m")
    client.publish("n")
    client.qos(1)
    client.consume()
    other.consume()
    client.request(frames.CancelConsumer, 1, "on q")
    assert "q" in bench.core.vhosts["/"].queues
    other.close()
    assert "q" not in bench.core.vhosts["/"].queues
    assert not bench.kept.queues
    assert client.ack(1) is None, "what is held of a deleted queue can be settled"
    assert bench.memory.held == 0
    assert not bench.kept.messages


def test_what_comes_back_to_a_deleted_queue_is_gone(bench: Bench, client: Client) -> None:
    client.declare()
    client.publish("m")
    client.consume()
    client.request(frames.DeleteQueue, "q")
    client.declare()
    assert client.reject(1, requeue=True) is None
    assert bench.waiting() == []
    assert bench.memory.held == 0


def test_consumers_are_told_when_their_queue_is_deleted(bench: Bench, client: Client) -> None:
    other = bench.client()
    client.declare()
    client.publish("m", delay=SECOND)
    for n in range(2):
        other.consume(tag=f"t{n}")
    client.publish("n")
    assert client.request(frames.DeleteQueue, "q", if_unused=True).code == 406
    assert client.request(frames.DeleteQueue, "q", if_empty=True).code == 406
    assert client.request(frames.DeleteQueue, "q") == 0
    assert sorted((p.channel, p.consumer) for p in other.pushes) == [(1, "t0"), (1, "t1")]
    assert client.request(frames.DeleteQueue, "q") == 0, "a queue that is not there is no error"
    bench.step(SECOND)
    assert client.declare() == ["q", 0, 0]
    other.consume(tag="t0")
    client.publish("fresh")
    assert other.taken()[-1] == "fresh"


def test_a_consumer_tag_is_unique_in_its_channel(client: Client) -> None:
    client.declare()
    client.consume(tag="t")
    assert client.consume(tag="t").code == 406
    client.request(frames.OpenChannel, 2)
    assert client.consume(tag="t", channel=2) == "t"
    assert client.request(frames.CancelConsumer, 1, "missing") is None


def test_an_exclusive_consumer_is_the_only_one(bench: Bench, client: Client) -> None:
    other = bench.client()
    client.declare()
    other.consume()
    assert client.consume(exclusive=True).code == 403
    other.request(frames.CancelConsumer, 1, "on q")
    assert client.consume(exclusive=True) == "on q"
    assert other.consume().code == 403
    client.request(frames.CancelConsumer, 1, "on q")
    assert other.consume() == "on q"


def test_channel_numbers_are_one_or_more_and_free_and_limited(client: Client) -> None:
    assert client.request(frames.OpenChannel, 0).code == 406
    assert client.request(frames.OpenChannel, 1).code == 406
    for number in range(2, MAX_CHANNELS + 1):
        client.ask(frames.OpenChannel, number)
    assert client.request(frames.OpenChannel, MAX_CHANNELS + 1).code == 506
    assert client.request(frames.CloseChannel, 7) is None
    assert client.request(frames.CloseChannel, 7).code == 504
    assert client.request(frames.OpenChannel, 7) is None
    client.request(frames.CloseChannel, 9)
    assert client.consume(channel=9).code == 504
    assert client.qos(-1).code == 406


def test_a_restart_keeps_durable_queues_with_their_properties_and_numbers_new_ones_on(
    bench: Bench, client: Client
) -> None:
    client.declare("kept", arguments={"x-message-ttl": 5000}, auto_delete=True)
    client.declare("lost", durable=False)
    client.publish("transient", queue="kept", persistent=False)
    client.publish("persistent", queue="kept")
    after = bench.crashed()
    again = after.client()
    assert again.declare("kept", arguments={"x-message-ttl": 5000}, auto_delete=True) == ["kept", 1, 0]
    assert again.declare("lost", passive=True).code == 404
    again.declare("new")
    assert after.queue("new").number > after.queue("kept").number


def test_status_counts_what_is_there(bench: Bench, client: Client) -> None:
    client.declare()
    client.qos(1)
    client.consume()
    for n in range(3):
        client.publish(f"m{n}")
    client.publish("d", delay=SECOND)
    status = client.request(frames.Status)
    assert status["queues"] == {"q": {"waiting": 2, "delayed": 1, "held": 1, "consumers": 1}}
    assert status["memory"]["held"] == bench.memory.held > 0
    assert client.request(frames.Ping) == bench.time


def test_a_named_lock_belongs_to_a_connection_and_ends_with_it(bench: Bench, client: Client) -> None:
    other = bench.client()
    assert client.request(frames.AcquireLock, "l") is True
    assert client.request(frames.AcquireLock, "l") is True
    assert other.request(frames.AcquireLock, "l") is False
    assert other.request(frames.ReleaseLock, "l").code == 405
    assert client.request(frames.ReleaseLock, "l") is None
    assert client.request(frames.ReleaseLock, "l").code == 405
    assert other.request(frames.AcquireLock, "l") is True
    other.close()
    assert client.request(frames.AcquireLock, "l") is True
    assert bench.client("other").request(frames.AcquireLock, "l") is True, "a vhost has locks of its own"

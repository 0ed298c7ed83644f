"""The life of a message: arrival, repetition, delay, expiry, settling, and the limits."""

from __future__ import annotations

from typing import Any

import pytest

from mplite_tasks_transport import frames
from mplite_tasks_transport.frames import Publish, ResultRecord
from mplite_tasks_transport.limits import (
    DEDUPLICATION_SECONDS,
    MAX_ERROR_CHARS,
    MAX_MICROSECONDS,
    MAX_PAYLOAD_BYTES,
    MAX_PRIORITY,
    MIN_PRIORITY,
)

from .bench import SECOND, Bench, Client

# Repetitions


def test_an_id_that_waits_is_confirmed_again_and_kept_once(bench: Bench, producer: Client) -> None:
    assert producer.publish("m", 1) is True
    assert producer.publish("m", 5) is True
    assert bench.waiting() == ["m"]
    assert bench.queue().find("m").priority == 1  # type: ignore[union-attr]


def test_an_id_that_is_held_or_delayed_is_kept_once(bench: Bench, producer: Client, consumer: Client) -> None:
    producer.publish("held")
    producer.publish("delayed", delay=SECOND)
    assert producer.publish("held") is True
    assert producer.publish("delayed") is True
    consumer.ack(1)
    assert consumer.taken() == ["held"]
    bench.step(SECOND)
    assert consumer.taken() == ["delayed"]


def test_an_id_that_was_settled_lately_is_confirmed_and_changes_nothing(producer: Client, consumer: Client) -> None:
    producer.publish("m")
    consumer.ack(1)
    assert consumer.taken() == ["m"]
    assert producer.publish("m") is True
    assert consumer.taken() == []


def test_an_id_can_be_used_again_when_the_window_has_passed(bench: Bench, producer: Client, consumer: Client) -> None:
    for _ in range(3):  # such as a job that runs every hour, in a queue where nothing else happens
        producer.publish("hourly")
        delivery = consumer.next()
        consumer.ack(delivery.delivery)
        bench.step(3600 * SECOND)


def test_the_window_begins_when_a_long_job_is_settled(bench: Bench, producer: Client, consumer: Client) -> None:
    producer.publish("m")
    bench.step(3600 * SECOND)
    consumer.ack(1)
    bench.step(int(DEDUPLICATION_SECONDS * SECOND))
    producer.publish("m")
    assert consumer.taken() == ["m"]


def test_queues_know_only_their_own_ids(bench: Bench, producer: Client) -> None:
    producer.declare("other")
    producer.publish("m")
    producer.publish("m", queue="other")
    assert bench.waiting("other") == ["m"]


def test_a_follow_up_may_have_the_id_of_what_it_follows(bench: Bench, producer: Client, consumer: Client) -> None:
    producer.publish("m", 1)
    consumer.request(frames.Settle, 1, 1, publish=[Publish(0, "", "q", "m", 7, b"again")])
    first, second = consumer.deliveries
    assert (second.id, second.priority, second.payload, second.redelivered) == ("m", 7, b"again", False)
    assert second.posted_at > first.posted_at


def test_a_follow_up_whose_id_is_taken_gets_one_of_its_own(bench: Bench, producer: Client, consumer: Client) -> None:
    producer.publish("a", 1)
    producer.publish("b")
    consumer.request(frames.Settle, 1, 1, publish=[Publish(0, "", "q", "b", 0, b"2"), Publish(0, "", "q", "c", 0, b"")])
    consumer.qos(0)
    ids = consumer.taken()
    assert ids[:2] == ["a", "b"]
    assert ids[2].startswith("b~")
    assert ids[3] == "c"


# Limits


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"priority": MAX_PRIORITY + 1}, 406),
        ({"priority": MIN_PRIORITY - 1}, 406),
        ({"id": ""}, 406),
        ({"id": "x" * 256}, 406),
        ({"delay": -1}, 406),
        ({"ttl": -1}, 406),
        ({"due": MAX_MICROSECONDS + 1}, 406),
        ({"delay": 2**63 - 1}, 406),
        ({"ttl": 2**64 - 1}, 406),
        ({"queue": "ä" * 128}, 406),
        ({"payload": bytes(MAX_PAYLOAD_BYTES + 1)}, 311),
        ({"exchange": "missing"}, 404),
        ({"queue": "missing", "mandatory": True}, 312),
    ],
)
def test_a_message_beyond_the_limits_is_refused_and_nothing_is_kept(
    bench: Bench, producer: Client, fields: dict[str, Any], code: int
) -> None:
    answer = producer.publish(fields.pop("id", "m"), **fields)
    assert isinstance(answer, frames.Failed)
    assert answer.code == code
    assert bench.memory.held == 0
    assert not bench.kept.messages


@pytest.mark.parametrize("priority", [MIN_PRIORITY, -1, 0, MAX_PRIORITY])
def test_a_message_at_the_limits_is_taken(bench: Bench, producer: Client, priority: int) -> None:
    assert producer.publish("x" * 255, priority, delay=MAX_MICROSECONDS, ttl=MAX_MICROSECONDS) is True
    (kept,) = bench.kept.messages.values()
    assert kept.expires < 2**63


def test_a_message_that_no_queue_takes_is_answered_false(producer: Client) -> None:
    assert producer.publish("m", queue="missing") is False


def test_a_mandatory_message_that_asked_for_no_answer_comes_back(bench: Bench, producer: Client) -> None:
    bench.core.apply(producer.session, Publish(0, "", "missing", "m", 0, b"body", mandatory=True))
    bench.turn()
    (returned,) = producer.pushes
    assert isinstance(returned, frames.Returned)
    assert (returned.code, returned.routing_key, returned.payload) == (312, "missing", b"body")


def test_the_text_of_an_error_is_limited_whatever_it_quotes(producer: Client) -> None:
    answer = producer.request(frames.DeclareQueue, "\0" * 100_000, passive=True)
    assert answer.code == 404
    assert len(answer.text) <= MAX_ERROR_CHARS


@pytest.mark.parametrize(
    "record",
    [
        ResultRecord("", "SUCCESS", b""),
        ResultRecord("x" * 256, "SUCCESS", b""),
        ResultRecord("x", "S" * 256, b""),
        ResultRecord("x", "SUCCESS", b"", ttl=0),
        ResultRecord("x", "SUCCESS", b"", ttl=2**63),
        ResultRecord("x", "SUCCESS", bytes(MAX_PAYLOAD_BYTES + 1)),
    ],
)
def test_a_settle_with_a_result_beyond_the_limits_changes_nothing(
    bench: Bench, producer: Client, consumer: Client, record: ResultRecord
) -> None:
    producer.publish("m")
    assert isinstance(consumer.request(frames.Settle, 1, 1, record), frames.Failed)
    assert isinstance(consumer.request(frames.StoreResult, record), frames.Failed)
    assert "m" in bench.queue().held
    assert not bench.kept.results


@pytest.mark.parametrize(
    ("follow_up", "code"),
    [
        (Publish(0, "missing", "q", "n", 0, b""), 404),
        (Publish(0, "", "missing", "n", 0, b"", mandatory=True), 312),
        (Publish(0, "", "q", "n", 2**31, b""), 406),
    ],
)
def test_a_settle_with_a_follow_up_that_cannot_be_published_changes_nothing(
    bench: Bench, producer: Client, consumer: Client, follow_up: Publish, code: int
) -> None:
    producer.publish("m")
    fine = Publish(0, "", "q", "fine", 0, b"")
    answer = consumer.request(frames.Settle, 1, 1, ResultRecord("m", "SUCCESS", b""), [fine, follow_up])
    assert answer.code == code
    assert list(bench.queue().held) == ["m"]
    assert bench.waiting() == []
    assert not bench.kept.results
    assert consumer.request(frames.Settle, 1, 1, ResultRecord("m", "SUCCESS", b""), [fine]) is None


# The index


def test_a_waiting_message_can_be_cancelled_and_a_held_one_cannot(
    bench: Bench, producer: Client, consumer: Client
) -> None:
    for id in ("held", "waiting"):
        producer.publish(id)
    producer.publish("delayed", delay=SECOND)
    assert [producer.request(frames.CancelMessage, "q", id) for id in ("held", "waiting", "delayed", "missing")] == [
        *(False, True, True, False)
    ]
    bench.step(2 * SECOND)
    consumer.ack(1)
    assert consumer.taken() == ["held"]
    assert bench.memory.held == 0
    assert not bench.kept.messages


def test_a_message_with_another_priority_keeps_its_stamp(bench: Bench, producer: Client) -> None:
    for id, priority in (("a", 1), ("b", 1), ("c", 2)):
        producer.publish(id, priority)
    producer.publish("d", 0, delay=SECOND)
    assert producer.request(frames.Reprioritise, "q", "a", 2) is True
    assert producer.request(frames.Reprioritise, "q", "d", 9) is True
    assert producer.request(frames.Reprioritise, "q", "missing", 9) is False
    assert producer.request(frames.Reprioritise, "q", "a", 2**31).code == 406
    assert bench.waiting() == ["a", "c", "b"]
    bench.step(SECOND)
    assert bench.waiting() == ["d", "a", "c", "b"]
    assert bench.crashed().waiting() == ["d", "a", "c", "b"]


def test_the_position_is_the_number_of_messages_that_run_before(bench: Bench, producer: Client) -> None:
    for id, priority in (("a", 1), ("b", 1), ("c", 2)):
        producer.publish(id, priority)
    producer.publish("d", delay=SECOND)
    assert [producer.request(frames.Position, "q", id) for id in "abcd"] == [1, 2, 0, None]


# Time


def test_a_delayed_message_becomes_ready_when_it_is_due(bench: Bench, producer: Client, consumer: Client) -> None:
    producer.publish("delay", delay=5)
    producer.publish("due", due=bench.time + 10)
    producer.publish("past", due=bench.time - 10)
    consumer.qos(0)
    assert consumer.taken() == ["past"]
    bench.step(4)
    assert consumer.taken() == []
    bench.step(1)
    assert consumer.taken() == ["delay"]
    bench.step(5)
    assert consumer.taken() == ["due"]


def test_a_message_expires_while_it_waits_and_never_while_it_is_held(bench: Bench, producer: Client) -> None:
    for id in ("held", "waiting"):
        producer.publish(id, ttl=10)
    producer.publish("delayed", ttl=10, delay=10)
    consumer = bench.client()
    consumer.qos(1)
    consumer.consume()
    assert consumer.taken() == ["held"]
    bench.step(10)
    assert bench.waiting() == ["delayed"]
    consumer.reject(1, requeue=True)
    assert consumer.taken() == ["delayed"], "what was held has expired when it came back"
    consumer.ack(2)
    assert bench.memory.held == 0
    assert not bench.kept.messages


def test_a_queue_has_a_time_to_live_for_all_its_messages(bench: Bench, producer: Client) -> None:
    producer.declare("brief", arguments={"x-message-ttl": 1})
    producer.publish("m", queue="brief")
    producer.publish("own", queue="brief", ttl=SECOND)
    bench.step(999)
    assert bench.waiting("brief") == ["m", "own"]
    bench.step(1)
    assert bench.waiting("brief") == []


def test_what_is_settled_leaves_nothing_on_the_agenda(bench: Bench, producer: Client) -> None:
    consumer = bench.client()
    consumer.consume()
    for n in range(50):
        producer.publish(f"m{n}", ttl=3600 * SECOND)
        consumer.reject(2 * n + 1, requeue=True)
        consumer.ack(2 * n + 2)
    producer.request(frames.StoreResult, ResultRecord("r", "RETRY", b"", final=False))
    producer.request(frames.StoreResult, ResultRecord("r", "SUCCESS", b""))
    producer.request(frames.ForgetResults, ["r"])
    assert len(bench.core.services.agenda) == 0
    assert bench.core.next_due() is None


def test_a_message_that_expired_while_the_broker_was_away_is_not_delivered(bench: Bench, producer: Client) -> None:
    producer.publish("m", ttl=10)
    bench.time += 20
    after = bench.crashed()
    consumer = after.client()
    consumer.consume()
    assert consumer.taken() == []
    assert after.memory.held == 0


# Settling


def test_a_requeued_message_returns_to_its_old_place(bench: Bench, producer: Client, consumer: Client) -> None:
    for n in range(3):
        producer.publish(f"m{n}", 1)
    consumer.reject(1, requeue=True)
    first, second = consumer.deliveries
    assert (first.id, second.id) == ("m0", "m0")
    assert (first.redelivered, second.redelivered) == (False, True)
    assert first.posted_at == second.posted_at


def test_recover_puts_everything_back_and_returns_the_credit(bench: Bench, producer: Client) -> None:
    consumer = bench.client()
    consumer.qos(2)
    consumer.consume()
    for n in range(3):
        producer.publish(f"m{n}")
    consumer.request(frames.Recover, 1)
    assert consumer.taken() == ["m0", "m1", "m0", "m1"]
    consumer.ack(0, multiple=True)
    assert consumer.taken() == ["m2"]


def test_multiple_settles_up_to_a_tag_and_zero_settles_all(bench: Bench, producer: Client) -> None:
    consumer = bench.client()
    consumer.consume()
    for n in range(6):
        producer.publish(f"m{n}")
    consumer.ack(2, multiple=True)
    assert list(bench.queue().held) == ["m2", "m3", "m4", "m5"]
    consumer.reject(3, multiple=True)
    assert list(bench.queue().held) == ["m3", "m4", "m5"]
    consumer.ack(0, multiple=True)
    assert bench.memory.held == 0


def test_a_delivery_is_settled_once(producer: Client, consumer: Client) -> None:
    producer.publish("m")
    assert consumer.ack(1) is None
    assert consumer.ack(1).code == 409
    assert consumer.reject(1).code == 409
    assert consumer.request(frames.Settle, 1, 1).code == 409
    assert consumer.ack(2).code == 406
    assert consumer.ack(1, channel=7).code == 504


def test_what_a_closed_channel_or_a_dead_session_held_returns_to_its_old_place(bench: Bench, producer: Client) -> None:
    for n in range(4):
        producer.publish(f"m{n}")
    consumer = bench.client()
    consumer.qos(2)
    consumer.consume()
    consumer.request(frames.OpenChannel, 2)
    consumer.request(frames.Get, 2, "q")
    consumer.request(frames.CloseChannel, 1)
    assert bench.waiting() == ["m0", "m1", "m3"]
    consumer.close()
    assert bench.waiting() == ["m0", "m1", "m2", "m3"]


def test_a_cancelled_consumer_keeps_what_it_holds(bench: Bench, producer: Client, consumer: Client) -> None:
    producer.publish("m")
    consumer.request(frames.CancelConsumer, 1, "on q")
    producer.publish("n")
    assert consumer.ack(1) is None
    assert consumer.taken() == ["m"]
    assert bench.waiting() == ["n"]


# Purge


def test_a_purge_drops_what_waits_and_what_is_delayed_but_nothing_that_is_held(
    bench: Bench, producer: Client, consumer: Client
) -> None:
    for n in range(3):
        producer.publish(f"m{n}")
    producer.publish("d", delay=SECOND)
    assert producer.request(frames.PurgeQueue, "q") == 3
    assert list(bench.queue().held) == ["m0"]
    consumer.ack(1)
    bench.step(SECOND)
    assert consumer.taken() == ["m0"]
    assert bench.memory.held == 0
    assert not bench.kept.messages

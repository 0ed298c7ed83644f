"""The memory watermark, and results: kept, waited for, expired and forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from mplite_tasks_transport import frames
from mplite_tasks_transport.broker import memory
from mplite_tasks_transport.broker.memory import ENTRY_BYTES
from mplite_tasks_transport.frames import Blocked, Publish, ResultRecord, Unblocked

from .bench import SECOND, Bench, Client

MESSAGE = 1000 + ENTRY_BYTES
PAYLOAD = bytes(1000)


def full(messages: int = 3) -> tuple[Bench, Client]:
    """Return a bench whose memory has just been filled over its limit."""
    bench = Bench(memory_limit=messages * MESSAGE)
    producer = bench.client()
    producer.declare()
    for n in range(messages + 1):
        assert producer.publish(f"m{n}", payload=PAYLOAD) is True
    return bench, producer


def publish(client: Client, id: str) -> int:
    return client.ask(Publish, "", "q", id, 0, PAYLOAD)


# The watermark


def test_publishes_over_the_watermark_wait_in_order_and_their_connections_are_told() -> None:
    bench, first = full()
    second = bench.client()
    requests = [(first, publish(first, "w0")), (second, publish(second, "w1")), (first, publish(first, "w2"))]
    bench.turn()
    assert not any(number in client.answers for client, number in requests)
    assert [type(push) for push in first.pushes] == [Blocked]
    assert [type(push) for push in second.pushes] == [Blocked]
    assert "watermark" in first.pushes[0].reason
    assert bench.waiting() == ["m0", "m1", "m2", "m3"]
    consumer = bench.client()
    consumer.consume()
    consumer.ack(0, multiple=True)
    assert [client.answer(number) for client, number in requests] == [True] * 3
    assert consumer.taken() == ["m0", "m1", "m2", "m3", "w0", "w1", "w2"]
    assert [type(push) for push in first.pushes] == [Blocked, Unblocked]
    assert [type(push) for push in second.pushes] == [Blocked, Unblocked]


def test_everything_else_goes_on_at_the_watermark() -> None:
    bench, producer = full()
    publish(producer, "parked")
    assert producer.declare("other") == ["other", 0, 0]
    assert producer.request(frames.Reprioritise, "q", "m3", 5) is True
    consumer = bench.client()
    consumer.qos(1)
    consumer.consume()
    assert consumer.taken() == ["m3"]
    follow_up = Publish(0, "", "q", "retry", 9, PAYLOAD)
    assert consumer.request(frames.Settle, 1, 1, ResultRecord("m3", "RETRY", b"", False), [follow_up]) is None
    assert consumer.taken() == ["retry"], "a retry does not wait behind the publishes of others"


def test_publishes_go_on_at_nine_tenths_and_not_before() -> None:
    bench, producer = full(20)
    number = publish(producer, "parked")
    bench.turn()
    for expected in (True, True, False):
        consumer = bench.client()
        consumer.request(frames.Get, 1, "q", no_ack=True)
        assert bench.memory.blocked is expected
    assert producer.answer(number) is True


def test_publishes_go_on_when_deliveries_without_acks_made_room() -> None:
    bench, producer = full()
    numbers = [publish(producer, f"w{n}") for n in range(10)]
    bench.turn()
    consumer = bench.client()
    consumer.consume(no_ack=True)
    assert [producer.answer(number) for number in numbers] == [True] * 10
    assert len(consumer.taken()) == 14
    assert bench.memory.held == 0


def test_publishes_go_on_when_what_waited_has_expired() -> None:
    bench = Bench(memory_limit=1)
    producer = bench.client()
    producer.declare()
    producer.publish("brief", ttl=10)
    number = publish(producer, "parked")
    bench.turn()
    assert number not in producer.answers
    bench.step(10)
    assert producer.answer(number) is True


def test_a_publisher_that_died_while_its_publishes_waited_does_no_harm() -> None:
    bench, producer = full()
    publish(producer, "parked")
    bench.turn()
    producer.close()
    consumer = bench.client()
    consumer.consume(no_ack=True)
    assert consumer.taken() == ["m0", "m1", "m2", "m3", "parked"]
    assert bench.memory.held == 0


def test_the_default_limit_is_a_share_of_what_there_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    group = tmp_path / "memory.max"
    group.write_text("1000\n")
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (tmp_path / "missing", group))
    assert memory.available_bytes() == 1000
    assert memory.Memory().limit == 400
    group.write_text("max\n")
    assert memory.available_bytes() > 1000


# Results


def test_a_wait_is_answered_when_the_final_result_comes() -> None:
    bench = Bench()
    waiter, worker = bench.client(), bench.client()
    number = waiter.ask(frames.WaitResult, "t")
    worker.request(frames.StoreResult, ResultRecord("t", "RETRY", b"1", final=False))
    assert number not in waiter.answers
    assert worker.request(frames.GetResult, "t") == ["RETRY", b"1", False]
    worker.request(frames.StoreResult, ResultRecord("t", "SUCCESS", b"2"))
    assert waiter.answer(number) == ["SUCCESS", b"2"]
    assert waiter.request(frames.WaitResult, "t") == ["SUCCESS", b"2"]
    assert worker.request(frames.GetResult, "t") == ["SUCCESS", b"2", True]


def test_a_wait_that_was_taken_back_is_never_answered() -> None:
    bench = Bench()
    waiter, other = bench.client(), bench.client()
    number, kept = waiter.ask(frames.WaitResult, "t"), other.ask(frames.WaitResult, "t")
    assert waiter.request(frames.StopWaiting, number) is None
    assert waiter.request(frames.StopWaiting, 12345) is None
    waiter.request(frames.StoreResult, ResultRecord("t", "SUCCESS", b""))
    assert number not in waiter.answers
    assert other.answer(kept) == ["SUCCESS", b""]


def test_nothing_is_left_of_the_waits_of_a_closed_session() -> None:
    bench = Bench()
    waiter, worker = bench.client(), bench.client()
    waiter.ask(frames.WaitResult, "t")
    waiter.close()
    assert worker.request(frames.StoreResult, ResultRecord("t", "SUCCESS", b"")) is None
    assert bench.core.vhosts["/"].results._waiting == {}


def test_a_result_expires_and_one_that_replaced_it_lives_on() -> None:
    bench = Bench()
    client = bench.client()
    client.request(frames.StoreResult, ResultRecord("t", "RETRY", b"xxx", final=False, ttl=10))
    bench.step(5)
    client.request(frames.StoreResult, ResultRecord("t", "SUCCESS", b"y", ttl=10))
    bench.step(5)
    assert client.request(frames.GetResult, "t") == ["SUCCESS", b"y", True]
    assert bench.memory.held == 1 + ENTRY_BYTES
    bench.step(5)
    assert client.request(frames.GetResult, "t") is None
    assert bench.memory.held == 0
    assert not bench.kept.results


def test_results_can_be_forgotten() -> None:
    bench = Bench()
    client = bench.client()
    for id in "abc":
        client.request(frames.StoreResult, ResultRecord(id, "SUCCESS", b""))
    assert client.request(frames.ForgetResults, ["a", "c", "missing", "a"]) == 2
    assert list(bench.kept.results) == [("/", "b")]
    assert client.request(frames.GetResult, "a") is None


def test_a_task_is_started_while_a_consumer_that_began_with_it_holds_it() -> None:
    bench = Bench()
    client = bench.client()
    client.declare()
    client.publish("t")
    client.consume()
    assert client.request(frames.GetResult, "t") is None
    client.request(frames.Started, 1, 1)
    assert client.request(frames.GetResult, "t") == ["STARTED", b"", False]
    client.request(frames.Settle, 1, 1, ResultRecord("t", "SUCCESS", b"1"))
    assert client.request(frames.GetResult, "t") == ["SUCCESS", b"1", True]


def test_a_restart_keeps_results_until_they_expire() -> None:
    bench = Bench()
    client = bench.client()
    client.request(frames.StoreResult, ResultRecord("t", "SUCCESS", b"1", ttl=10 * SECOND))
    bench.time += 9 * SECOND
    after = bench.crashed()
    again = after.client()
    assert again.request(frames.WaitResult, "t") == ["SUCCESS", b"1"]
    after.step(SECOND)
    assert again.request(frames.GetResult, "t") is None
    assert after.memory.held == 0

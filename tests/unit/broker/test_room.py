"""Room in a queue: publishes that wait for some, and requests that wait until nothing is left."""

from __future__ import annotations

import pytest

from mplite_tasks_transport import frames

from .bench import SECOND, Bench, Client


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.client().declare(arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    return made


def line_up(client: Client, id: str, priority: int = 0, payload: bytes = b"x") -> int:
    number = client.ask(frames.Publish, "", "q", id, priority, payload, wait=True)
    client.bench.turn()
    return number


def drained(client: Client, queue: str = "q") -> int:
    number = client.ask(frames.WaitDrained, queue)
    client.bench.turn()
    return number


def test_a_full_queue_refuses_who_does_not_wait(bench: Bench) -> None:
    client = bench.client()
    assert client.publish("a") is True
    assert client.publish("b").code == 506
    assert client.publish("a") is True, "a repetition needs no room"
    client.consume(no_ack=True)
    client.request(frames.CancelConsumer, 1, "on q")
    client.publish("b")
    assert client.publish("a") is True, "nor does one whose first is done"


def test_publishes_that_wait_are_let_in_in_their_order_as_room_comes(bench: Bench) -> None:
    client = bench.client()
    client.publish("a")
    waiting = [(id, line_up(client, id, n)) for n, id in enumerate("bcd")]
    for id, number in waiting:
        assert number not in client.answers
        client.request(frames.CancelMessage, "q", bench.waiting()[0])
        assert bench.waiting() == [id]
        assert client.answer(number) is True


def test_a_message_that_a_consumer_has_takes_no_room(bench: Bench) -> None:
    client = bench.client()
    client.publish("a")
    number = line_up(client, "b")
    client.qos(1)
    client.consume()
    assert client.answer(number) is True
    assert bench.waiting() == ["b"]


def test_a_consumer_drains_a_bounded_queue_and_everybody_who_waits_to_publish(bench: Bench) -> None:
    client = bench.client()
    numbers = [line_up(client, f"id{n}") for n in range(5)]
    client.consume(no_ack=True)
    assert client.taken() == [f"id{n}" for n in range(5)]
    assert [client.answer(number) for number in numbers] == [True] * 5


def test_a_publish_that_is_taken_back_is_never_done(bench: Bench) -> None:
    client = bench.client()
    client.publish("a")
    number = line_up(client, "b")
    client.request(frames.StopWaiting, number)
    client.request(frames.CancelMessage, "q", "a")
    assert bench.waiting() == []
    assert number not in client.answers


def test_a_publish_goes_with_its_connection(bench: Bench) -> None:
    client, dying = bench.client(), bench.client()
    client.publish("a")
    line_up(dying, "b")
    number = line_up(client, "c")
    dying.close()
    client.request(frames.CancelMessage, "q", "a")
    assert bench.waiting() == ["c"]
    assert client.answer(number) is True


def test_what_waits_for_room_is_counted_in_the_memory_and_only_once(bench: Bench) -> None:
    client, dying = bench.client(), bench.client()
    client.publish("a", payload=b"x" * 100)
    full = bench.memory.held
    line_up(dying, "b", payload=b"x" * 5000)
    assert bench.memory.held > full + 5000
    dying.close()
    assert bench.memory.held == full
    line_up(client, "c", payload=b"x" * 100)
    client.request(frames.CancelMessage, "q", "a")
    assert bench.memory.held == full
    number = line_up(client, "d", payload=b"x" * 100)
    client.request(frames.StopWaiting, number)
    assert bench.memory.held == full


def test_who_waits_at_a_queue_that_is_deleted_is_told(bench: Bench) -> None:
    client = bench.client()
    client.publish("a")
    numbers = [line_up(client, "b"), drained(client)]
    client.request(frames.DeleteQueue, "q")
    assert [client.answer(number).code for number in numbers] == [404, 404]
    assert client.session.waits == {}
    assert bench.memory.held == 0


def test_a_queue_is_drained_when_nothing_waits_is_delayed_or_held(bench: Bench) -> None:
    client = bench.client()
    client.declare("r")
    assert client.request(frames.WaitDrained, "r") is None
    client.publish("now", queue="r")
    client.publish("later", queue="r", delay=SECOND)
    number = drained(client, "r")
    client.qos(1)
    client.consume("r")
    client.ack(client.next().delivery)
    assert number not in client.answers, "a message is not due yet"
    bench.step(SECOND)
    delivery = client.next().delivery
    assert number not in client.answers, "a message is held"
    client.ack(delivery)
    assert client.answer(number) is None


def test_a_message_of_which_one_half_was_popped_is_not_done(bench: Bench) -> None:
    client, other = bench.client(), bench.client()
    client.publish("a")
    number = drained(client)
    other.request(frames.ViewPop, "q", frames.Half.INDEX, "a")
    assert number not in client.answers
    other.request(frames.ViewPop, "q", frames.Half.QUEUE, "a")
    assert client.answer(number) is None


def test_waiting_for_the_end_can_be_taken_back(bench: Bench) -> None:
    client = bench.client()
    client.publish("a")
    number = drained(client)
    client.request(frames.StopWaiting, number)
    client.request(frames.CancelMessage, "q", "a")
    assert number not in client.answers
    dying = bench.client()
    client.publish("b")
    drained(dying)
    dying.close()
    assert client.request(frames.CancelMessage, "q", "b") is True


@pytest.mark.parametrize("taken_back", [True, False])
def test_a_publish_that_waits_for_memory_is_taken_back_as_one_that_waits_for_room_is(taken_back: bool) -> None:
    bench = Bench(memory_limit=10_000)
    client, other = bench.client(), bench.client()
    client.declare()
    client.publish("big", payload=b"x" * 10_000)
    number = line_up(client, "b")
    kept = other.ask(frames.Publish, "", "q", "c", 0, b"x")
    bench.turn()
    if taken_back:
        client.request(frames.StopWaiting, number)
    assert number not in client.answers
    assert client.session.parked_bytes == (0 if taken_back else 2)
    other.request(frames.CancelMessage, "q", "big")
    assert bench.waiting() == (["c"] if taken_back else ["b", "c"])
    assert other.answer(kept) is True
    assert (number in client.answers) is not taken_back
    assert [type(push) for push in client.pushes] == [frames.Blocked, frames.Unblocked]
    assert client.session.waits == {}

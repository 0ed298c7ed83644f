"""The lock of a queue: who has it, what it stops, and how it ends."""

from __future__ import annotations

import pytest

from mplite_tasks_transport import frames
from mplite_tasks_transport.frames import Half
from mplite_tasks_transport.limits import MAX_LOCK_LEASE_SECONDS

from .bench import SECOND, Bench, Client


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.client().declare()
    return made


def take(client: Client, wait: int = 0, lease: int = 30 * SECOND) -> object:
    return client.request(frames.AcquireQueueLock, "q", wait, lease)


def ask(client: Client, wait: int = -1, lease: int = 30 * SECOND) -> int:
    """Ask for the lock and let a turn go by; the answer may come later."""
    number = client.ask(frames.AcquireQueueLock, "q", wait, lease)
    client.bench.turn()
    return number


def release(client: Client) -> object:
    return client.request(frames.ReleaseQueueLock, "q")


def code(answer: object) -> int:
    assert isinstance(answer, frames.Failed), f"it was not refused, but answered {answer}"
    return answer.code


def test_one_connection_has_the_lock_and_the_next_gets_it_in_the_order_of_asking(bench: Bench) -> None:
    first, second, third = bench.client(), bench.client(), bench.client()
    assert take(first) is True
    assert take(second) is False
    waits = [(each, ask(each)) for each in (second, third)]
    assert not any(number in each.answers for each, number in waits)
    release(first)
    assert second.answer(waits[0][1]) is True
    assert waits[1][1] not in third.answers
    release(second)
    assert third.answer(waits[1][1]) is True


def test_waiting_for_the_lock_ends_at_its_time(bench: Bench) -> None:
    holder, client = bench.client(), bench.client()
    take(holder)
    number = ask(client, wait=SECOND)
    bench.step(SECOND - 1)
    assert number not in client.answers
    bench.step(1)
    assert client.answer(number) is False
    release(holder)
    assert take(holder) is True, "who gave up does not get it later"


def test_waiting_can_be_taken_back(bench: Bench) -> None:
    holder, client = bench.client(), bench.client()
    take(holder)
    number = ask(client, wait=SECOND)
    client.request(frames.StopWaiting, number)
    release(holder)
    bench.step(SECOND)
    assert number not in client.answers
    assert bench.queue().lock.holder is None


def test_nothing_is_matched_while_somebody_has_the_lock_and_publishes_and_acks_go_on(bench: Bench) -> None:
    holder, client = bench.client(), bench.client()
    client.publish("a")
    client.publish("b")
    client.qos(1)
    client.consume()
    delivery = client.next().delivery
    take(holder)
    assert client.publish("urgent", 9) is True
    assert client.ack(delivery) is None
    assert client.taken() == []
    assert client.request(frames.Get, 1, "q") is None
    release(holder)
    assert client.taken() == ["urgent"]


def test_a_channel_of_two_queues_gets_from_the_one_that_is_not_locked(bench: Bench) -> None:
    holder, client = bench.client(), bench.client()
    client.declare("r")
    take(holder)
    client.publish("better", 9)
    client.publish("worse", 1, "r")
    client.qos(1)
    client.consume("q")
    client.consume("r")
    assert client.taken() == ["worse"]


def test_ordinary_consumers_have_their_turn_between_two_holders(bench: Bench) -> None:
    first, second, consumer = bench.client(), bench.client(), bench.client()
    take(first)
    number = ask(second)
    consumer.qos(1)
    consumer.consume()
    consumer.publish("a")
    consumer.publish("b")
    release(first)
    assert consumer.taken() == ["a"]
    assert second.answer(number) is True


def test_the_lock_of_a_dead_connection_is_free_at_once(bench: Bench) -> None:
    holder, client = bench.client(), bench.client()
    take(holder)
    number = ask(client)
    holder.close()
    assert client.answer(number) is True


def test_a_connection_that_died_waiting_never_gets_it(bench: Bench) -> None:
    holder, dying, client = bench.client(), bench.client(), bench.client()
    take(holder)
    ask(dying)
    number = ask(client)
    dying.close()
    release(holder)
    assert client.answer(number) is True


def test_a_waiting_request_without_an_id_of_its_own_is_refused(bench: Bench) -> None:
    holder, client = bench.client(), bench.client()
    take(holder)
    for kind in (frames.AcquireQueueLock, frames.WaitDrained):
        bench.core.apply(client.session, kind(0, "q"))
        bench.turn()
        assert client.pushes.pop().code == 406
    ask(client)
    bench.core.apply(client.session, frames.AcquireQueueLock(client._requests, "q"))
    bench.turn()
    assert client.answer(client._requests).code == 406
    client.close()
    release(holder)
    assert bench.queue().lock.holder is None, "nobody who is gone was given the lock"


def test_the_lease_ends_and_the_next_request_of_the_holder_is_refused_once(bench: Bench) -> None:
    client = bench.client()
    requests = (
        (frames.ReleaseQueueLock, "q"),
        (frames.AcquireQueueLock, "q", 0),
        (frames.ViewCount, "q"),
        (frames.ViewList, "q", Half.INDEX),
        (frames.ViewGet, "q", Half.INDEX, "a"),
        (frames.ViewPop, "q", Half.INDEX, "a"),
        (frames.ViewSet, "q", Half.INDEX, "a", 1),
        (frames.ViewClear, "q"),
    )
    for kind, *fields in requests:
        assert take(client, lease=SECOND) is True
        bench.step(SECOND - 1)
        assert bench.queue().lock.holder is client.session
        bench.step(1)
        assert bench.queue().lock.holder is None
        assert code(client.request(kind, *fields)) == 409, f"{kind.__name__} did not tell that the lock is lost"
        assert client.request(frames.ViewCount, "q") == 0


def test_what_was_reserved_under_a_lease_that_ended_is_back_at_its_place(bench: Bench) -> None:
    client, other = bench.client(), bench.client()
    client.publish("a")
    client.publish("b")
    take(client, lease=SECOND)
    client.request(frames.ViewPop, "q", Half.INDEX, "a")
    bench.step(SECOND)
    assert bench.waiting() == ["a", "b"]
    other.consume()
    assert other.taken() == ["a", "b"]
    assert code(client.request(frames.ViewPop, "q", Half.QUEUE, "a")) == 409
    assert client.request(frames.ViewPop, "q", Half.QUEUE, "a") is None


def test_a_lock_that_was_given_back_in_time_is_not_revoked_later(bench: Bench) -> None:
    first, second = bench.client(), bench.client()
    take(first, lease=SECOND)
    release(first)
    take(second, lease=10 * SECOND)
    bench.step(2 * SECOND)
    assert bench.queue().lock.holder is second.session
    assert first.request(frames.ViewCount, "q") == 0


def test_release_by_somebody_else_is_refused(bench: Bench) -> None:
    holder, client = bench.client(), bench.client()
    assert code(release(client)) == 405
    take(holder)
    assert code(release(client)) == 405
    assert bench.queue().lock.holder is holder.session


def test_the_holder_does_not_get_it_twice(bench: Bench) -> None:
    holder = bench.client()
    take(holder)
    assert take(holder) is False
    assert code(take(holder, wait=-1)) == 405


def test_others_change_and_take_nothing_while_somebody_has_the_lock_but_may_publish_by_hand(bench: Bench) -> None:
    holder, client = bench.client(), bench.client()
    client.publish("a")
    take(holder)
    assert code(client.request(frames.ViewPop, "q", Half.INDEX, "a")) == 405
    assert code(client.request(frames.ViewSet, "q", Half.INDEX, "a", 1)) == 405
    assert code(client.request(frames.ViewClear, "q")) == 405
    assert client.request(frames.ViewSet, "q", Half.INDEX, "b", 1) is None
    assert client.request(frames.ViewSet, "q", Half.QUEUE, "b", 0, b"x") is True
    assert client.request(frames.ViewGet, "q", Half.QUEUE, "a") == [b"x"]
    assert bench.waiting() == ["b", "a"]


def test_who_waits_for_the_lock_of_a_queue_that_is_deleted_is_told(bench: Bench) -> None:
    holder, client = bench.client(), bench.client()
    take(holder)
    number = ask(client, wait=SECOND)
    holder.request(frames.DeleteQueue, "q")
    assert code(client.answer(number)) == 404
    bench.step(2 * SECOND)
    assert holder.session.queue_locks == set()


@pytest.mark.parametrize("lease", [0, -1, int(MAX_LOCK_LEASE_SECONDS * SECOND) + 1])
def test_a_lease_outside_its_limits_is_refused(bench: Bench, lease: int) -> None:
    assert code(take(bench.client(), lease=lease)) == 406

"""Who works on which message, across connections and the death of the broker."""

from __future__ import annotations

from mplite_tasks_transport import frames
from mplite_tasks_transport.broker.session import Process
from mplite_tasks_transport.frames import Publish, ResultRecord

from .bench import SECOND, Bench, Client

PROCESS = Process(4711, 99)
STARTS = {"x-starts-on-delivery": True}


def working(bench: Bench, identity: str = "w", process: Process = PROCESS) -> Client:
    """Return a consumer that has started with one message."""
    client = bench.client(process=process)
    assert client.request(frames.Identify, identity) == []
    client.qos(1)
    client.consume(arguments=STARTS)
    return client


def bench_with(*ids: str) -> tuple[Bench, Client]:
    bench = Bench()
    producer = bench.client()
    producer.declare()
    for id in ids:
        producer.publish(id)
    return bench, producer


def test_a_restarted_broker_keeps_a_started_message_for_the_process_that_works_on_it() -> None:
    bench, _ = bench_with("a", "b")
    stamp = working(bench).next().posted_at
    after = bench.crashed()
    assert after.waiting() == ["b"]
    (absent,) = after.core.absentees()
    assert absent.process == PROCESS
    stranger = after.client()
    stranger.consume()
    assert stranger.taken() == ["b"]
    back = after.client(process=PROCESS)
    assert back.request(frames.Identify, "w") == [stamp]
    assert after.core.absentees() == []
    assert back.request(frames.Settle, 0, stamp, ResultRecord("a", "SUCCESS", b"1")) is None
    assert back.request(frames.Settle, 0, stamp).code == 409, "a second settle is told that the first had come through"
    assert list(after.kept.messages) == [next(iter(stranger.session.held())).entry.stamp]
    assert after.kept.results["/", "a"].value == b"1"


def test_a_settle_that_was_committed_before_the_crash_is_stale() -> None:
    bench, _ = bench_with("a")
    client = working(bench)
    stamp = client.next().posted_at
    client.request(frames.Settle, 1, 1)
    after = bench.crashed()
    back = after.client(process=PROCESS)
    assert back.request(frames.Identify, "w") == []
    assert back.request(frames.Settle, 0, stamp).code == 409


def test_a_message_that_was_only_prefetched_is_delivered_again_after_a_crash() -> None:
    bench, _ = bench_with("a", "b")
    client = bench.client(process=PROCESS)
    client.request(frames.Identify, "w")
    client.consume()
    client.request(frames.Started, 1, 2)
    after = bench.crashed()
    assert after.waiting() == ["a"]
    other = after.client()
    other.consume()
    assert other.next().redelivered


def test_acks_and_rejects_by_stamp_work_too() -> None:
    for frame, waiting in (
        (frames.Ack(0, 0, 0), []),
        (frames.Reject(0, 0, 0), []),
        (frames.Reject(0, 0, 0, requeue=True), ["a"]),
    ):
        bench, _ = bench_with("a")
        working(bench)
        after = bench.crashed()
        back = after.client(process=PROCESS)
        (frame.delivery,) = back.request(frames.Identify, "w")
        after.core.apply(back.session, frame)
        after.turn()
        assert after.waiting() == waiting
        assert back.session.resumed == {}
        assert after.crashed().waiting() == waiting, "and the next broker knows it"


def test_what_a_process_held_goes_back_and_counts_when_it_ended_without_coming_back() -> None:
    bench, _ = bench_with("a", "b")
    working(bench)
    after = bench.crashed()
    (absent,) = after.core.absentees()
    after.core.give_up(absent)
    after.turn()
    assert after.waiting() == ["a", "b"]
    assert after.queue().find("a").deliveries == 1  # type: ignore[union-attr]
    assert not after.kept.holders
    after.core.give_up(absent)
    assert after.crashed().queue().find("a").deliveries == 1  # type: ignore[union-attr]


def test_giving_up_does_nothing_to_a_process_that_has_come_back() -> None:
    bench, _ = bench_with("a")
    working(bench)
    after = bench.crashed()
    (absent,) = after.core.absentees()
    back = after.client(process=PROCESS)
    (stamp,) = back.request(frames.Identify, "w")
    after.core.give_up(absent)
    after.turn()
    assert back.request(frames.Ack, 0, stamp) is None


def test_two_crashes_in_a_row_lose_nothing() -> None:
    bench, _ = bench_with("a")
    stamp = working(bench).next().posted_at
    second = bench.crashed()
    back = second.client(process=PROCESS)
    assert back.request(frames.Identify, "w") == [stamp]
    third = second.crashed()
    assert third.waiting() == []
    again = third.client(process=PROCESS)
    assert again.request(frames.Identify, "w") == [stamp]
    fourth = third.crashed().crashed()  # nobody came back in between
    last = fourth.client(process=PROCESS)
    assert last.request(frames.Identify, "w") == [stamp]
    last.close()
    assert fourth.waiting() == ["a"]
    assert not fourth.kept.holders


def test_a_new_connection_takes_over_from_one_whose_end_was_not_noticed() -> None:
    bench, _ = bench_with("a", "b", "c")
    old = bench.client(process=PROCESS)
    old.request(frames.Identify, "w")
    old.qos(2)
    old.consume()
    old.request(frames.Started, 1, 1)
    stamp = old.deliveries[0].posted_at
    new = bench.client(process=PROCESS)
    assert new.request(frames.Identify, "w") == [stamp]
    assert old.ack(1).code == 409
    old.close()
    assert bench.waiting() == ["b", "c"], "only what was started moves; the rest goes back"
    assert bench.kept.holders["w"].stamps == [stamp]
    assert new.request(frames.Settle, 0, stamp, publish=[Publish(0, "", "q", "a", 0, b"")]) is None
    assert bench.waiting() == ["b", "c", "a"]


def test_naming_oneself_twice_changes_nothing_and_a_new_name_replaces_the_old_one() -> None:
    bench, _ = bench_with("a")
    client = working(bench)
    stamp = client.next().posted_at
    assert client.request(frames.Identify, "w") == []
    assert bench.kept.holders["w"].stamps == [stamp]
    assert client.request(frames.Identify, "v") == []
    assert list(bench.kept.holders) == ["v"]
    assert bench.kept.holders["v"].stamps == [stamp]
    client.close()
    assert not bench.kept.holders
    assert bench.core.services.holders == {}


def test_the_journal_says_what_is_held_at_the_end_of_every_turn() -> None:
    bench, _ = bench_with("a")
    client = working(bench)
    client.next()
    client.reject(1, requeue=True)
    second = client.next()
    assert bench.kept.holders["w"].stamps == [second.posted_at]
    client.request(frames.CloseChannel, 1)
    assert bench.kept.holders["w"].stamps == []
    assert bench.crashed().waiting() == ["a"]


def test_a_started_message_of_a_queue_that_is_not_kept_needs_no_record() -> None:
    bench = Bench()
    producer = bench.client()
    producer.declare(durable=False)
    producer.publish("a")
    client = working(bench)
    assert client.taken() == ["a"]
    assert bench.kept.holders["w"].stamps == []


def test_a_started_message_stays_with_its_process_when_the_wall_clock_was_set_back() -> None:
    bench, producer = bench_with()
    producer.publish("a", delay=10 * SECOND, ttl=60 * SECOND)
    client = working(bench)
    bench.step(10 * SECOND)
    stamp = client.next().posted_at
    bench.time -= 8 * SECOND
    after = bench.crashed()
    after.step(9 * SECOND)
    assert after.waiting() == []
    back = after.client(process=PROCESS)
    assert back.request(frames.Identify, "w") == [stamp]
    back.request(frames.Reject, 0, stamp, requeue=True)
    assert after.waiting() == ["a"]
    after.step(60 * SECOND)
    assert after.waiting() == [], "it expires as if the clock had never been touched"

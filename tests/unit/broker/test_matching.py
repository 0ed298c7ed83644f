"""Which message goes to whom: order over queues, credit, rotation, slow readers and locks."""

from __future__ import annotations

import random

from mplite_tasks_transport import frames
from mplite_tasks_transport.broker.core import TURN_SLICE
from mplite_tasks_transport.limits import MAX_PRIORITY, MIN_PRIORITY, OUTPUT_HIGH_BYTES

from .bench import SECOND, Bench, Client


def bench_with(*queues: str) -> tuple[Bench, Client]:
    bench = Bench()
    producer = bench.client()
    for name in queues or ("q",):
        producer.declare(name)
    return bench, producer


def test_the_highest_priority_runs_first_and_equal_ones_in_the_order_of_arrival() -> None:
    bench, producer = bench_with()
    for id, priority in (("low", -5), ("first", 3), ("second", 3), ("top", MAX_PRIORITY), ("bottom", MIN_PRIORITY)):
        producer.publish(id, priority)
    consumer = bench.client()
    consumer.consume()
    assert consumer.taken() == ["top", "first", "second", "low", "bottom"]


def test_a_channel_gets_the_best_message_of_all_its_queues() -> None:
    bench, producer = bench_with("a", "b", "c")
    placed = [("a", 1), ("b", 5), ("c", 3), ("a", 4), ("b", 1), ("c", 9), ("a", 5), ("c", 1)]
    for n, (queue, priority) in enumerate(placed):
        producer.publish(f"m{n}", priority, queue)
    consumer = bench.client()
    consumer.qos(1)
    for queue in ("a", "b", "c"):
        consumer.ask(frames.Consume, 1, queue, queue)
    bench.turn()
    order = []
    while consumer.deliveries:
        delivery = consumer.next()
        order.append(int(delivery.id[1:]))
        consumer.ack(delivery.delivery)
    assert order == sorted(range(len(placed)), key=lambda n: (-placed[n][1], n))


def test_an_urgent_message_and_credit_of_one_turn_meet_before_anything_else_is_handed_out() -> None:
    bench, producer = bench_with()
    consumer = bench.client()
    consumer.qos(1)
    consumer.consume()
    producer.publish("running", 0)
    producer.publish("ordinary", 0)
    held = consumer.next()
    consumer.ask(frames.Ack, 1, held.delivery)
    producer.ask(frames.Publish, "", "q", "urgent", 9, b"")
    bench.turn()
    assert consumer.taken() == ["urgent"]


def test_channels_that_wait_are_served_first_come_first_served() -> None:
    bench, producer = bench_with()
    consumers = [bench.client() for _ in range(3)]
    for consumer in consumers:
        consumer.qos(1)
        consumer.consume()
    for n in range(3):
        producer.publish(f"m{n}")
    assert [consumer.taken() for consumer in consumers] == [["m0"], ["m1"], ["m2"]]
    for consumer in (consumers[2], consumers[0], consumers[1]):
        consumer.ack(1)
    for n in range(3):
        producer.publish(f"n{n}")
    assert [consumer.taken() for consumer in consumers] == [["n1"], ["n2"], ["n0"]]


def test_channels_with_credit_left_take_turns() -> None:
    bench, producer = bench_with()
    first, second = bench.client(), bench.client()
    for consumer in (first, second):
        consumer.qos(10)
        consumer.consume()
    for n in range(6):
        producer.ask(frames.Publish, "", "q", f"m{n}", 0, b"")
    bench.turn()
    assert first.taken() == ["m0", "m2", "m4"]
    assert second.taken() == ["m1", "m3", "m5"]


def test_consumers_of_one_channel_on_one_queue_take_turns() -> None:
    bench, producer = bench_with()
    consumer = bench.client()
    consumer.consume(tag="one")
    consumer.consume(tag="two")
    for n in range(4):
        producer.publish(f"m{n}")
    assert [frame.consumer for frame in consumer.deliveries] == ["one", "two", "one", "two"]


def test_a_channel_without_credit_does_not_keep_others_from_a_queue_that_it_consumes_without_acks() -> None:
    bench, producer = bench_with("acked", "plain")
    first, second = bench.client(), bench.client()
    first.qos(1)
    first.consume("acked")
    producer.publish("a", queue="acked")
    for consumer in (first, second):
        consumer.consume("plain", no_ack=True)
    assert first.taken() == ["a"]
    for n in range(4):
        producer.publish(f"m{n}", queue="plain")
    assert (first.taken(), second.taken()) == (["m0", "m2"], ["m1", "m3"])


def test_prefetch_counts_over_all_queues_of_the_channel_and_zero_is_no_limit() -> None:
    bench, producer = bench_with("a", "b")
    for n in range(10):
        producer.publish(f"m{n}", queue="ab"[n % 2])
    consumer = bench.client()
    consumer.qos(3)
    for queue in "ab":
        consumer.ask(frames.Consume, 1, queue, queue)
    bench.turn()
    assert consumer.taken() == ["m0", "m1", "m2"]
    consumer.qos(5)
    assert consumer.taken() == ["m3", "m4"]
    consumer.qos(1)
    consumer.ack(5, multiple=True)
    assert consumer.taken() == ["m5"]
    consumer.qos(0)
    assert consumer.taken() == ["m6", "m7", "m8", "m9"]


def test_credit_is_a_verb_of_its_own() -> None:
    bench, producer = bench_with()
    for n in range(4):
        producer.publish(f"m{n}")
    consumer = bench.client()
    consumer.qos(1)
    consumer.consume()
    consumer.ack(1, credit=False)
    assert consumer.taken() == ["m0"]
    consumer.request(frames.Credit, 1)
    assert consumer.taken() == ["m1"]
    consumer.request(frames.Settle, 1, 2, credit=False)
    assert consumer.taken() == []
    consumer.request(frames.Credit, 1, 5)
    assert consumer.taken() == ["m2"], "credit that was never used is not given"


def test_a_consumer_without_acks_uses_no_credit_and_its_messages_are_gone() -> None:
    bench, producer = bench_with()
    consumer = bench.client()
    consumer.qos(1)
    consumer.consume(no_ack=True)
    for n in range(3):
        producer.publish(f"m{n}")
    assert consumer.taken() == ["m0", "m1", "m2"]
    assert bench.memory.held == 0
    assert not bench.kept.messages
    assert consumer.ack(1).code == 409


def test_one_request_takes_the_best_message_of_a_queue_without_credit() -> None:
    bench, producer = bench_with()
    consumer = bench.client()
    assert consumer.request(frames.Get, 1, "q") is None
    producer.publish("low", 1)
    producer.publish("high", 2)
    taken = frames.Deliver(*consumer.request(frames.Get, 1, "q"))
    assert (taken.id, taken.priority, taken.delivery) == ("high", 2, 1)
    assert consumer.ack(taken.delivery) is None
    assert frames.Deliver(*consumer.request(frames.Get, 1, "q", no_ack=True)).id == "low"
    assert consumer.request(frames.Get, 1, "q") is None
    assert bench.memory.held == 0


def test_a_slow_reader_gets_no_more_than_its_output_holds_and_goes_on_when_it_has_read() -> None:
    bench, producer = bench_with()
    megabyte = bytes(1_000_000)
    for n in range(12):
        producer.publish(f"m{n}", payload=megabyte)
    slow = bench.client()
    slow.consume()
    got = slow.taken()
    assert len(got) == OUTPUT_HIGH_BYTES // 1_000_000 + 1
    quick = bench.client()
    quick.qos(1)
    quick.consume()
    assert quick.taken() == [f"m{len(got)}"], "a slow reader does not hold up the others"
    bench.core.resume_output(slow.session)
    bench.turn()
    assert len(slow.taken()) == len(got)
    bench.core.pause_output(slow.session)
    quick.close()
    assert slow.taken() == []
    bench.core.resume_output(slow.session)
    bench.turn()
    assert slow.taken()[0] == f"m{len(got)}"


def test_a_lock_stops_the_matching_of_its_queue_only() -> None:
    bench, producer = bench_with("locked", "open")
    holder, consumer = bench.client(), bench.client()
    consumer.consume("locked")
    consumer.consume("open")
    bench.queue("locked").lock.holder = holder.session
    producer.publish("l", 9, "locked")
    producer.publish("o", 0, "open")
    assert consumer.taken() == ["o"]
    assert consumer.request(frames.Get, 1, "locked") is None
    bench.queue("locked").lock.holder = None
    bench.core.services.stirred[bench.queue("locked")] = None
    bench.turn()
    assert consumer.taken() == ["l"]


def test_one_turn_hands_out_a_slice_and_says_that_there_is_more() -> None:
    bench, producer = bench_with()
    for n in range(TURN_SLICE + 10):
        producer.ask(frames.Publish, "", "q", f"m{n}", 0, b"")
    bench.turn()
    consumer = bench.client()
    consumer.ask(frames.Consume, 1, "c", "q")
    assert bench.core.finish_turn()
    consumer.read()
    assert len(consumer.taken()) == TURN_SLICE
    assert not bench.core.finish_turn()
    consumer.read()
    assert len(consumer.taken()) == 10


def test_messages_that_come_due_together_are_handed_out_in_order_however_many_they_are() -> None:
    bench, producer = bench_with()
    consumer = bench.client()
    consumer.qos(1)
    consumer.consume()
    for n in range(TURN_SLICE * 2):
        producer.ask(frames.Publish, "", "q", f"m{n}", n, b"", delay=SECOND + n)
    bench.turn()
    bench.step(2 * SECOND)
    assert consumer.taken() == [f"m{TURN_SLICE * 2 - 1}"]


def test_stamps_of_arrival_and_delivery_come_from_one_clock() -> None:
    bench, producer = bench_with()
    producer.publish("a")
    producer.publish("b")
    consumer = bench.client()
    consumer.consume()
    stamps = [(d.posted_at, d.delivered_at) for d in consumer.deliveries]
    assert len({stamp for pair in stamps for stamp in pair}) == 4
    assert stamps[0][0] < stamps[1][0] < stamps[0][1] < stamps[1][1]


def test_ten_thousand_random_priorities_run_in_exact_order_through_one_consumer_and_through_four() -> None:
    for count in (1, 4):
        bench, producer = bench_with("a", "b")
        chosen = random.Random(count)
        expected = []
        for n in range(10_000):
            priority = chosen.randint(MIN_PRIORITY, MAX_PRIORITY)
            expected.append((-priority, n, str(n)))
            producer.ask(frames.Publish, "", chosen.choice("ab"), str(n), priority, b"")
        bench.turn()
        expected.sort()
        consumers = [bench.client() for _ in range(count)]
        for consumer in consumers:
            consumer.ask(frames.Qos, 1, 1)
            for queue in "ab":
                consumer.ask(frames.Consume, 1, queue, queue)
        bench.turn()
        handed_out: list[frames.Deliver] = []
        while any(consumer.deliveries for consumer in consumers):
            for consumer in consumers:
                if consumer.deliveries:
                    delivery = consumer.next()
                    handed_out.append(delivery)
                    consumer.ask(frames.Ack, 1, delivery.delivery)
            bench.turn()
        handed_out.sort(key=lambda d: d.delivered_at)
        assert [d.id for d in handed_out] == [id for _, _, id in expected]

"""A message that is sent again with the same id is kept once, also by a broker that was started again meanwhile."""

from __future__ import annotations

from mplite_tasks_transport import frames

from .bench import SECOND, Bench


def settled(bench: Bench, *ids: str) -> None:
    """Publish messages, and let somebody consume and ack them."""
    client = bench.client()
    client.declare()
    for id in ids:
        client.publish(id)
    client.consume()
    for delivery in list(client.deliveries):
        client.ack(delivery.delivery)
    client.close()


def test_an_id_that_was_settled_before_a_crash_is_known_after_it() -> None:
    bench = Bench()
    settled(bench, "a", "b")
    client = bench.crashed().client()
    assert client.publish("a") is True
    assert client.publish("c") is True
    assert client.bench.waiting() == ["c"]


def test_an_id_is_known_after_several_crashes_and_forgotten_in_the_end() -> None:
    bench = Bench()
    settled(bench, "a")
    for _ in range(3):
        bench.step(30 * SECOND)
        bench = bench.crashed()
    client = bench.client()
    client.publish("a")
    assert bench.waiting() == []
    bench.step(300 * SECOND)
    client.publish("a")
    assert bench.waiting() == ["a"]


def test_the_journal_forgets_what_the_broker_has_forgotten() -> None:
    bench = Bench()
    for number in range(20):
        settled(bench, f"id{number}")
        bench.step(60 * SECOND)
    assert 2 <= len(bench.kept.recent) <= 5


def test_the_ids_of_a_turn_are_one_record() -> None:
    bench = Bench()
    client = bench.client()
    client.declare()
    for id in "abc":
        client.publish(id)
    client.request(frames.PurgeQueue, "q")
    assert [record.ids for record in bench.kept.recent] == [["a", "b", "c"]]


def test_nothing_is_kept_of_messages_that_the_journal_never_had() -> None:
    bench = Bench()
    client = bench.client()
    client.declare()
    client.publish("a", persistent=False)
    client.request(frames.PurgeQueue, "q")
    assert bench.kept.recent == []


def test_a_queue_that_is_deleted_takes_its_ids_along() -> None:
    bench = Bench()
    settled(bench, "a")
    client = bench.client()
    client.publish("b")
    client.request(frames.DeleteQueue, "q")
    assert bench.kept.recent == []
    client.declare()
    client.publish("a")
    assert bench.crashed().waiting() == ["a"]

"""The two dicts by hand: what each request changes, what stays invisible, and what a death puts back."""

from __future__ import annotations

from typing import Any

import pytest

from mplite_tasks_transport import frames
from mplite_tasks_transport.frames import Half
from mplite_tasks_transport.limits import MAX_PAYLOAD_BYTES

from .bench import SECOND, Bench, Client

INDEX, QUEUE = Half.INDEX, Half.QUEUE


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.client().declare()
    return made


def put(client: Client, id: str, half: Half, value: int | bytes, **fields: Any) -> Any:
    named = {"priority": value} if half is INDEX else {"payload": value}
    return client.request(frames.ViewSet, "q", half, id, **named, **fields)


def pop(client: Client, id: str, half: Half) -> Any:
    return client.request(frames.ViewPop, "q", half, id)


def get(client: Client, id: str, half: Half) -> Any:
    return client.request(frames.ViewGet, "q", half, id)


def listed(client: Client, half: Half, most: int = 1000) -> list[Any]:
    items: list[Any] = []
    after = None
    while True:
        part, after = client.request(frames.ViewList, "q", half, after, most)
        items += [[id, list(value) if half is INDEX else value] for id, value in part]
        if after is None:
            return items
        after = tuple(after)


def test_the_dicts_are_read_in_the_order_in_which_the_messages_run(bench: Bench) -> None:
    client = bench.client()
    for id, priority in (("low", 1), ("high", 9), ("also high", 9)):
        client.publish(id, priority, payload=id.encode())
    assert [id for id, _ in listed(client, INDEX)] == ["high", "also high", "low"]
    assert [value[0] for _, value in listed(client, INDEX)] == [9, 9, 1]
    assert listed(client, QUEUE) == [["high", b"high"], ["also high", b"also high"], ["low", b"low"]]
    assert client.request(frames.ViewCount, "q") == 3


@pytest.mark.parametrize("half", [INDEX, QUEUE])
@pytest.mark.parametrize("most", [1, 2, 3, 1000])
def test_a_dict_is_read_in_parts_without_a_gap_or_a_repetition(bench: Bench, half: Half, most: int) -> None:
    client = bench.client()
    for n in range(7):
        client.publish(f"id{n}", n % 2)
    assert [id for id, _ in listed(client, half, most)] == bench.waiting()


def test_a_part_goes_on_behind_an_entry_that_is_gone(bench: Bench) -> None:
    client = bench.client()
    for id in "abc":
        client.publish(id)
    _, after = client.request(frames.ViewList, "q", INDEX, None, 2)
    client.request(frames.CancelMessage, "q", "b")
    assert [id for id, _ in client.request(frames.ViewList, "q", INDEX, tuple(after))[0]] == ["c"]


def test_an_answer_fits_a_frame_however_large_the_payloads_are(bench: Bench) -> None:
    client = bench.client()
    for n in range(3):
        client.publish(f"id{n}", payload=b"x" * 700_000)
    part, after = client.request(frames.ViewList, "q", QUEUE)
    assert (len(part), after is not None) == (1, True)
    assert len(listed(client, QUEUE)) == 3
    assert len(client.request(frames.ViewList, "q", INDEX)[0]) == 3


@pytest.mark.parametrize(("first", "second"), [(INDEX, QUEUE), (QUEUE, INDEX)])
def test_two_halves_in_either_order_are_one_publish_and_one_half_is_seen_by_its_writer_only(
    bench: Bench, first: Half, second: Half
) -> None:
    values: dict[Half, int | bytes] = {INDEX: 7, QUEUE: b"data"}
    writer, other = bench.client(), bench.client()
    other.consume()
    assert put(writer, "a", first, values[first]) is None, "it is staged"
    assert get(writer, "a", first) == ([[7, 0]] if first is INDEX else [b"data"])
    assert get(writer, "a", second) is None
    assert get(other, "a", first) is None
    assert writer.request(frames.ViewCount, "q") == 0
    assert other.taken() == []
    assert put(writer, "a", second, values[second]) is True
    delivery = other.next()
    assert (delivery.id, delivery.priority, delivery.payload) == ("a", 7, b"data")
    assert [message.id for message in bench.kept.messages.values()] == ["a"], "it is in the journal"


def test_halves_of_two_connections_do_not_meet(bench: Bench) -> None:
    one, other = bench.client(), bench.client()
    put(one, "a", INDEX, 1)
    put(other, "a", QUEUE, b"x")
    assert bench.waiting() == []


def test_a_half_goes_with_its_connection_and_its_memory_too(bench: Bench) -> None:
    before = bench.memory.held
    writer = bench.client()
    put(writer, "a", QUEUE, b"x" * 1000)
    assert bench.memory.held > before + 1000
    writer.close()
    assert bench.memory.held == before
    other = bench.client()
    put(other, "a", INDEX, 1)
    assert bench.waiting() == []


def test_a_half_that_is_popped_again_was_never_there(bench: Bench) -> None:
    writer, before = bench.client(), bench.memory.held
    put(writer, "a", QUEUE, b"x")
    assert pop(writer, "a", INDEX) is None
    assert pop(writer, "a", QUEUE) == [b"x"]
    put(writer, "a", INDEX, 1)
    assert bench.waiting() == []
    assert pop(writer, "a", INDEX) == [[1, 0]]
    assert bench.memory.held == before


def test_writing_what_waits_changes_it_and_its_stamp_stays(bench: Bench) -> None:
    client = bench.client()
    client.publish("a", 1)
    client.publish("b", 2)
    stamp = get(client, "a", INDEX)[0][1]
    assert put(client, "a", INDEX, 3) is True
    assert put(client, "a", QUEUE, b"new") is True
    assert bench.waiting() == ["a", "b"]
    assert get(client, "a", INDEX) == [[3, stamp]]
    kept = bench.kept.messages[stamp]
    assert (kept.priority, kept.payload) == (3, b"new")


def test_if_absent_leaves_what_is_there(bench: Bench) -> None:
    client = bench.client()
    client.publish("a", 1, payload=b"old")
    assert put(client, "a", INDEX, 3, if_absent=True) is False
    assert put(client, "a", QUEUE, b"new", if_absent=True) is False
    assert (get(client, "a", INDEX)[0][0], get(client, "a", QUEUE)) == (1, [b"old"])
    assert put(client, "b", INDEX, 3, if_absent=True) is None
    assert put(client, "b", INDEX, 4, if_absent=True) is False
    assert put(client, "b", QUEUE, b"b", if_absent=True) is True
    assert bench.waiting() == ["b", "a"]


@pytest.mark.parametrize(("first", "second"), [(INDEX, QUEUE), (QUEUE, INDEX)])
def test_the_first_pop_reserves_and_the_second_takes(bench: Bench, first: Half, second: Half) -> None:
    client, other = bench.client(), bench.client()
    client.publish("a", 5, payload=b"data")
    stamp = get(client, "a", INDEX)[0][1]
    values = {INDEX: [[5, stamp]], QUEUE: [b"data"]}
    other.qos(1)
    assert pop(client, "a", first) == values[first]
    other.consume()
    assert other.taken() == []
    assert pop(other, "a", second) is None
    assert get(client, "a", first) is None
    assert pop(client, "a", first) is None
    assert get(client, "a", second) == values[second]
    assert list(bench.kept.messages) == [stamp]
    assert pop(client, "a", second) == values[second]
    assert not bench.kept.messages
    assert bench.queue().held == {}
    assert client.request(frames.ViewCount, "q") == 0


@pytest.mark.parametrize("half", [INDEX, QUEUE])
def test_a_death_between_the_pops_puts_the_message_back_at_its_place(bench: Bench, half: Half) -> None:
    client = bench.client()
    for id in "abc":
        client.publish(id)
    dying = bench.client()
    pop(dying, "b", half)
    assert bench.waiting() == ["a", "c"]
    dying.close()
    assert bench.waiting() == ["a", "b", "c"]


def test_a_crash_of_the_broker_between_the_pops_puts_the_message_back(bench: Bench) -> None:
    client = bench.client()
    client.publish("a")
    pop(client, "a", INDEX)
    assert bench.crashed().waiting() == ["a"]


def test_a_half_that_was_popped_can_be_written_again_and_the_message_waits_again(bench: Bench) -> None:
    client = bench.client()
    client.publish("a", 1)
    client.publish("b", 2)
    pop(client, "a", INDEX)
    assert put(client, "a", QUEUE, b"other").code == 406
    assert put(client, "a", INDEX, 3) is True
    assert bench.waiting() == ["a", "b"]
    pop(client, "a", QUEUE)
    assert put(client, "a", QUEUE, b"new") is True
    assert get(client, "a", QUEUE) == [b"new"]


def test_what_a_consumer_has_can_not_be_written(bench: Bench) -> None:
    consumer, client = bench.client(), bench.client()
    consumer.consume()
    client.publish("a")
    assert put(client, "a", INDEX, 3).code == 406
    assert get(client, "a", INDEX) is None
    assert pop(client, "a", INDEX) is None


def test_an_id_that_was_taken_can_be_written_anew_at_once(bench: Bench) -> None:
    client = bench.client()
    client.publish("a")
    pop(client, "a", INDEX)
    pop(client, "a", QUEUE)
    put(client, "a", INDEX, 1)
    put(client, "a", QUEUE, b"again")
    assert bench.waiting() == ["a"]


def test_clear_drops_what_waits_and_what_this_connection_staged_and_nothing_else(bench: Bench) -> None:
    client, consumer = bench.client(), bench.client()
    consumer.qos(1)
    consumer.consume()
    for id in "abc":
        client.publish(id)
    client.publish("later", delay=SECOND)
    put(client, "half", INDEX, 1)
    assert client.request(frames.ViewClear, "q") == 2
    assert get(client, "half", INDEX) is None
    assert [message.id for message in bench.kept.messages.values()] == ["a", "later"]
    bench.step(SECOND)
    assert bench.waiting() == ["later"]


def test_a_message_that_is_not_due_is_in_neither_dict(bench: Bench) -> None:
    client = bench.client()
    client.publish("later", delay=SECOND)
    assert get(client, "later", INDEX) is None
    assert pop(client, "later", QUEUE) is None
    assert listed(client, INDEX) == []
    bench.step(SECOND)
    assert [id for id, _ in listed(client, INDEX)] == ["later"]


def test_an_expired_message_that_was_reserved_expires_when_it_is_back(bench: Bench) -> None:
    client, dying = bench.client(), bench.client()
    client.publish("a", ttl=SECOND)
    pop(dying, "a", INDEX)
    bench.step(2 * SECOND)
    dying.close()
    bench.step(1)
    assert bench.waiting() == []


@pytest.mark.parametrize(
    ("id", "half", "value", "code"),
    [
        ("", INDEX, 1, 406),
        ("x" * 256, INDEX, 1, 406),
        ("a", INDEX, 2**31, 406),
        ("a", QUEUE, b"x" * (MAX_PAYLOAD_BYTES + 1), 311),
    ],
)
def test_what_could_not_be_handed_out_is_refused(
    bench: Bench, id: str, half: Half, value: int | bytes, code: int
) -> None:
    assert put(bench.client(), id, half, value).code == code


def test_a_full_queue_takes_no_message_by_hand_and_the_refused_half_is_not_kept() -> None:
    bench = Bench()
    client = bench.client()
    client.declare(arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    client.publish("a")
    put(client, "b", INDEX, 1)
    assert put(client, "b", QUEUE, b"x").code == 506
    assert get(client, "b", QUEUE) is None
    client.request(frames.CancelMessage, "q", "a")
    assert put(client, "b", QUEUE, b"x") is True
    assert bench.waiting() == ["b"]


def test_a_broker_over_its_watermark_takes_no_payload_by_hand() -> None:
    bench = Bench(memory_limit=10_000)
    client = bench.client()
    client.declare()
    client.publish("big", payload=b"x" * 10_000)
    assert put(client, "a", QUEUE, b"x").code == 506
    assert put(client, "a", INDEX, 1) is None


def test_a_queue_that_is_deleted_takes_what_was_half_done_with_it(bench: Bench) -> None:
    client, other = bench.client(), bench.client()
    client.publish("a")
    pop(client, "a", INDEX)
    put(client, "b", INDEX, 1)
    other.request(frames.DeleteQueue, "q")
    assert pop(client, "a", QUEUE).code == 404
    client.declare()
    assert pop(client, "a", QUEUE) is None
    put(client, "b", QUEUE, b"x")
    assert bench.waiting() == []
    client.close()
    assert not bench.kept.messages
    assert bench.memory.held == 0

"""The promises of the journal port, kept by every journal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mplite_tasks_transport.broker.journal import Durability, Journal
from mplite_tasks_transport.broker.journal.port import (
    DropBinding,
    DropExchange,
    DropHolder,
    DropMessage,
    DropQueue,
    DropResult,
    KeepBinding,
    KeepExchange,
    KeepHolder,
    KeepMessage,
    KeepQueue,
    KeepResult,
    Record,
)
from mplite_tasks_transport.errors import JournalError

from ..support.journals import BASE, Confirmations, keep, message, open_journal, queue

Open = Callable[[], Journal]

EVERYTHING: list[Record] = [
    KeepExchange("/", "logs", "topic", False, {"alternate-exchange": "rest"}),
    KeepExchange("proj", "logs", "fanout", True, {}),
    KeepQueue(1, "/", "q", False, {"x-max-priority": 9, "nested": {"list": [1, None, True, 1.5, "é", b"\0"]}}),
    KeepQueue(2, "proj", "", True, {}),
    KeepBinding("/", "logs", 1, "a.#", {}),
    KeepBinding("/", "logs", 1, "a.#", {"x-match": "all", "b": 1}),
    KeepBinding("/", "logs", 2, "a.#", {}),
    KeepMessage(BASE + 1, 2, "é\0x", 2**31 - 1, 0, 0, 0, "", "q", b""),
    KeepMessage(BASE + 2, 1, "i" * 255, -(2**31), BASE + 9, BASE + 10, 4, "logs", "a.b", bytes(range(256)) * 40),
    KeepHolder("a", 12, 34, [BASE + 1, BASE + 2]),
    KeepHolder("b", 0, 0, []),
    KeepResult("/", "r", "SUCCESS", b"\0\1", True, BASE + 5),
    KeepResult("proj", "r", "RETRY", b"", False, 2**63 - 1),
]


@pytest.fixture(params=list(Durability))
def durability(request: pytest.FixtureRequest) -> Durability:
    level: Durability = request.param
    return level


@pytest.fixture
def reopen(durability: Durability, tmp_path: Path) -> Open:
    """Open the journal of this test, again and again."""
    return lambda: open_journal(durability, tmp_path / "journal.sqlite")


@pytest.fixture
def lasting(durability: Durability) -> None:
    """The test is about what outlives a journal."""
    if durability is Durability.MEMORY:
        pytest.skip("this durability promises to keep nothing")


def loaded(reopen: Open) -> list[Record]:
    journal = reopen()
    try:
        return list(journal.load())
    finally:
        journal.close()


def test_a_journal_says_its_durability(reopen: Open, durability: Durability) -> None:
    journal = reopen()

    assert journal.durability is durability
    journal.close()


def test_a_new_journal_is_empty(reopen: Open) -> None:
    journal = reopen()

    assert list(journal.load()) == []
    assert journal.last_stamp() == 0
    journal.close()


def test_turns_are_numbered_from_one_and_all_become_durable(reopen: Open) -> None:
    journal = reopen()
    confirmations = Confirmations(journal)

    numbers = [journal.append([queue()], BASE), journal.append([], BASE), journal.append([message(1)], BASE + 1)]

    assert numbers == [1, 2, 3]
    confirmations.wait_for(3)
    assert confirmations.durable == sorted(set(confirmations.durable))
    journal.close()


def test_what_needs_no_waiting_is_confirmed_during_the_call(reopen: Open, durability: Durability) -> None:
    if durability is Durability.FSYNC:
        pytest.skip("this durability waits for the disk")
    journal = reopen()
    confirmations = Confirmations(journal)

    journal.append([queue()], BASE)

    assert confirmations.durable == [1]
    journal.close()


def test_closing_finishes_what_was_appended_and_may_be_repeated(reopen: Open) -> None:
    journal = reopen()
    confirmations = Confirmations(journal)
    for offset in range(50):
        journal.append([message(offset)], BASE + offset)

    journal.close()
    journal.close()

    assert confirmations.durable[-1] == 50


@pytest.mark.usefixtures("lasting")
def test_every_kind_of_record_comes_back_as_it_was(reopen: Open) -> None:
    keep(reopen(), EVERYTHING)

    assert loaded(reopen) == EVERYTHING


@pytest.mark.usefixtures("lasting")
def test_records_are_loaded_in_the_order_of_the_port_and_messages_by_stamp(reopen: Open) -> None:
    keep(reopen(), *[[record] for record in reversed(EVERYTHING)])

    assert loaded(reopen) == EVERYTHING


@pytest.mark.usefixtures("lasting")
def test_a_record_replaces_the_one_with_its_key(reopen: Open) -> None:
    first: list[Record] = [
        KeepExchange("/", "x", "direct", False, {}),
        KeepQueue(1, "/", "q", False, {}),
        KeepMessage(BASE, 1, "id", 0, 0, 0, 0, "", "q", b"1"),
        KeepHolder("h", 1, 1, [1]),
        KeepResult("/", "r", "RETRY", b"1", False, 1),
    ]
    second: list[Record] = [
        KeepExchange("/", "x", "topic", True, {"a": 1}),
        KeepQueue(1, "/", "q", True, {"a": 1}),
        KeepMessage(BASE, 2, "other", 5, 1, 2, 3, "x", "r", b"2"),
        KeepHolder("h", 2, 2, []),
        KeepResult("/", "r", "SUCCESS", b"2", True, 2),
    ]

    keep(reopen(), first, second)

    assert loaded(reopen) == second


@pytest.mark.usefixtures("lasting")
def test_what_is_dropped_does_not_come_back(reopen: Open) -> None:
    keep(
        reopen(),
        EVERYTHING,
        [
            DropMessage(BASE + 1),
            DropBinding("/", "logs", 1, "a.#", {"b": 1, "x-match": "all"}),  # the order of arguments means nothing
            DropResult("/", "r"),
            DropHolder("a"),
        ],
    )

    assert loaded(reopen) == [record for index, record in enumerate(EVERYTHING) if index not in {5, 7, 9, 11}]


@pytest.mark.usefixtures("lasting")
def test_dropping_what_is_not_there_changes_nothing(reopen: Open) -> None:
    drops: list[Record] = [
        DropMessage(BASE + 7),
        DropQueue(7),
        DropExchange("/", "none"),
        DropBinding("/", "logs", 1, "b", {}),
        DropResult("/", "none"),
        DropHolder("none"),
    ]

    keep(reopen(), EVERYTHING, drops)

    assert loaded(reopen) == EVERYTHING


@pytest.mark.usefixtures("lasting")
def test_an_exchange_goes_with_its_bindings(reopen: Open) -> None:
    keep(reopen(), EVERYTHING, [DropExchange("/", "logs")])

    assert loaded(reopen) == [EVERYTHING[1], *EVERYTHING[2:4], *EVERYTHING[7:]]


@pytest.mark.usefixtures("lasting")
@pytest.mark.parametrize("load_first", [True, False])
@pytest.mark.parametrize("same_turn", [True, False])
def test_a_queue_goes_with_its_messages_and_bindings(reopen: Open, load_first: bool, same_turn: bool) -> None:
    keep(reopen(), [queue(1), queue(2, "other"), *(message(n, 1 + n % 2) for n in range(20))])
    journal = reopen()
    if load_first:
        assert len(list(journal.load())) == 22
    late: list[Record] = [message(100, 1), message(101, 2), KeepBinding("/", "x", 1, "", {})]

    keep(journal, *([[*late, DropQueue(1)]] if same_turn else [late, [DropQueue(1)]]))

    assert loaded(reopen) == [queue(2, "other"), *(message(n, 2) for n in range(1, 20, 2)), message(101, 2)]


@pytest.mark.usefixtures("lasting")
def test_a_dropped_queue_leaves_the_messages_of_others_that_came_while_it_lived(reopen: Open) -> None:
    keep(
        reopen(),
        [queue(1), message(1), queue(2, "brief"), message(2, 2), message(3), message(4, 2), message(5)],
        [DropQueue(2)],
        [message(6)],
    )

    assert loaded(reopen) == [queue(1), *(message(n) for n in (1, 3, 5, 6))]


@pytest.mark.usefixtures("lasting")
def test_the_last_stamp_is_known_after_all_messages_are_gone(reopen: Open) -> None:
    journal = reopen()
    confirmations = Confirmations(journal)
    journal.append([queue(), message(5)], BASE + 5)
    confirmations.wait_for(journal.append([DropMessage(BASE + 5)], BASE + 8))
    journal.close()

    journal = reopen()

    assert journal.last_stamp() == BASE + 8
    journal.close()


@pytest.mark.usefixtures("lasting")
def test_a_closed_journal_takes_nothing_more(reopen: Open) -> None:
    journal = reopen()
    journal.close()

    with pytest.raises(JournalError, match="is closed"):
        journal.append([message(1)], BASE)


@pytest.mark.usefixtures("lasting")
@pytest.mark.parametrize(
    "record",
    [KeepMessage(BASE, 1, "id", 0, 2**63, 0, 0, "", "q", b""), KeepResult("/", "r", "S", b"", True, 2**63)],
)
def test_a_time_beyond_what_can_be_kept_is_refused_with_its_whole_turn(reopen: Open, record: Record) -> None:
    journal = reopen()

    with pytest.raises(JournalError, match="9223372036854775808"):
        journal.append([queue(), record], BASE)

    keep(journal, [queue(2)])
    assert loaded(reopen) == [queue(2)]

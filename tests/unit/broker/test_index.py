"""The priority index, the clock, the recent ids and the agenda, against plain lists."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from mplite_tasks_transport.broker.agenda import Agenda
from mplite_tasks_transport.broker.clock import Clock
from mplite_tasks_transport.broker.index import Entry, PriorityIndex
from mplite_tasks_transport.broker.recent import RecentIds
from mplite_tasks_transport.limits import MAX_PRIORITY, MIN_PRIORITY

priorities = st.integers(MIN_PRIORITY, MAX_PRIORITY) | st.integers(-2, 2)


class IndexMachine(RuleBasedStateMachine):
    """The index and a list that is sorted anew each time agree after any sequence of operations."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.index = PriorityIndex()
        self.model: list[Entry] = []
        self.stamp = 0

    def ordered(self) -> list[Entry]:
        return sorted(self.model, key=lambda e: (-e.priority, e.stamp))

    @rule(target=ids, priority=priorities)
    def add(self, priority: int) -> str:
        self.stamp += 1
        entry = Entry(f"m{self.stamp}", priority, self.stamp)
        self.index.add(entry)
        self.model.append(entry)
        return entry.id

    @rule(id=ids)
    def remove(self, id: str) -> None:
        expected = next((e for e in self.model if e.id == id), None)
        assert self.index.remove(id) is expected
        if expected is not None:
            self.model.remove(expected)

    @rule(id=ids, priority=priorities)
    def change(self, id: str, priority: int) -> None:
        entry = self.index.remove(id)
        if entry is not None:
            entry.priority = priority
            self.index.add(entry)

    @rule()
    def pop(self) -> None:
        if not self.model:
            assert self.index.best_key() is None
            return
        best = self.ordered()[0]
        assert self.index.best_key() == best.key
        assert self.index.pop_best() is best
        self.model.remove(best)

    @rule(id=ids)
    def rank(self, id: str) -> None:
        order = [e.id for e in self.ordered()]
        assert self.index.rank(id) == (order.index(id) if id in order else None)

    @rule()
    def clear(self) -> None:
        assert sorted(e.id for e in self.index.clear()) == sorted(e.id for e in self.model)
        self.model.clear()

    @invariant()
    def agree(self) -> None:
        assert list(self.index) == self.ordered()
        assert len(self.index) == len(self.model)


TestIndex = IndexMachine.TestCase
TestIndex.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_a_hundred_thousand_random_priorities_come_out_in_exact_order() -> None:
    chosen = random.Random(7)
    index = PriorityIndex()
    entries = [Entry(str(n), chosen.randint(MIN_PRIORITY, MAX_PRIORITY), n) for n in range(100_000)]
    for entry in entries:
        index.add(entry)
    expected = sorted(entries, key=lambda e: (-e.priority, e.stamp))
    assert [index.pop_best() for _ in entries] == expected


def test_popping_from_an_empty_index_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        PriorityIndex().pop_best()


def test_a_delayed_message_takes_its_place_among_those_that_arrive_when_it_comes_due() -> None:
    index = PriorityIndex()
    index.add(Entry("delayed", 0, stamp=1, due=50))
    index.add(Entry("before", 0, stamp=40))
    index.add(Entry("after", 0, stamp=60))
    assert [entry.id for entry in index] == ["before", "delayed", "after"]


@given(st.lists(st.integers(0, 1000), max_size=50))
def test_stamps_always_rise_whatever_the_wall_clock_does(times: list[int]) -> None:
    clock = Clock(last=500, now=iter(times).__next__)
    stamps = [clock.stamp() for _ in times]
    assert stamps == sorted(set(stamps))
    assert all(stamp > 500 for stamp in stamps)


def test_the_clock_follows_the_wall_clock_once_that_has_caught_up() -> None:
    times = iter([100, 90, 95, 200])
    clock = Clock(now=lambda: next(times))
    assert [clock.stamp() for _ in range(4)] == [100, 101, 102, 200]


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abcdef")), max_size=60))
def test_a_recent_id_is_remembered_for_the_span_and_forgotten_after_twice_the_span(
    steps: list[tuple[int, str]],
) -> None:
    recent = RecentIds(seconds=0.000_050)
    added: dict[str, int] = {}
    now = 1_000
    for wait, id in steps:
        now += wait
        for known, when in added.items():
            if now - when <= 50:
                assert recent.has(known, now)
        if id in added and now - added[id] > 101:
            assert not recent.has(id, now)
        recent.add(id, now)
        added[id] = now


def test_an_id_is_forgotten_even_if_nothing_else_is_ever_settled() -> None:
    recent = RecentIds(seconds=1)
    recent.add("nightly", 10_000_000)
    assert recent.has("nightly", 11_000_000)
    assert not recent.has("nightly", 3_600_000_000)


def test_the_number_of_recent_ids_is_limited() -> None:
    recent = RecentIds(seconds=1_000, most=10)
    for n in range(1_000):
        recent.add(str(n), n)
    remembered = [n for n in range(1_000) if recent.has(str(n), 1_000)]
    assert remembered[-10:] == list(range(990, 1_000))
    assert len(remembered) <= 20


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=40), st.integers(0, 9))
def test_the_agenda_makes_what_was_not_taken_back_in_order(items: list[tuple[int, bool]], now: int) -> None:
    agenda = Agenda()
    made: list[int] = []
    appointments = [agenda.add(when, made.append, n) for n, (when, _) in enumerate(items)]
    for appointment, (_, cancelled) in zip(appointments, items, strict=True):
        if cancelled:
            agenda.cancel(appointment)
            agenda.cancel(appointment)
    left = [(when, n) for n, (when, cancelled) in enumerate(items) if not cancelled]
    assert len(agenda) == len(left)
    assert agenda.next_due() == min((when for when, _ in left), default=None)
    for call in agenda.due(now, most=1_000):
        call()
    assert made == [n for when, n in sorted(left) if when <= now]
    for appointment in appointments:
        agenda.cancel(appointment)
    assert len(agenda) == 0
    assert agenda.next_due() is None


def test_the_agenda_takes_out_no_more_than_it_was_asked_for() -> None:
    agenda = Agenda()
    made: list[int] = []
    for n in range(5):
        agenda.add(1, made.append, n)
    for call in agenda.due(1, most=3):
        call()
    assert made == [0, 1, 2]
    assert agenda.next_due() == 1

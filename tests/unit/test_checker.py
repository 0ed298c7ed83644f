"""The checker of histories finds what it is there to find, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.support.checker import assert_clean, check
from tests.support.chronicle import Call, History, Kill, Remains, Run, Writer, read_calls, read_runs

#: Two consumers.
ONE, OTHER = 101, 102


def call(id: str, priority: int = 0, at: int = 0, *, confirmed: bool = True) -> Call:
    return Call(id, priority, at, at + 1 if confirmed else None)


def run(id: str, posted: int, delivered: int, *, priority: int = 0, pid: int = ONE, ended: bool = True) -> Run:
    return Run(id, pid, priority, posted, delivered, delivered + 5 if ended else None)


def history(
    calls: Iterable[Call], runs: Iterable[Run], kills: Iterable[Kill] = (), remains: Remains | None = None
) -> History:
    return History({each.id: each for each in calls}, tuple(runs), tuple(kills), remains)


def kinds(told: History) -> list[tuple[str, str]]:
    return [(finding.kind, finding.id) for finding in check(told)]


def test_a_history_in_which_everything_went_well_has_no_findings() -> None:
    rng = random.Random(1)
    priorities = [rng.randint(-3, 3) for _ in range(500)]
    calls = [call(str(n), priority, n) for n, priority in enumerate(priorities)]
    order = sorted(range(500), key=lambda n: (-priorities[n], n))
    runs = [run(str(n), n + 1, 1000 + place, priority=priorities[n]) for place, n in enumerate(order)]
    results = {str(n): "SUCCESS" for n in range(500)}
    assert_clean(history(calls, runs, remains=Remains({"q": 0}, results, 500)))


def test_a_confirmed_job_that_never_ran_is_lost() -> None:
    assert kinds(history([call("a"), call("b")], [run("a", 10, 20)])) == [("lost", "b")]


def test_a_confirmed_job_that_never_came_to_its_end_is_lost() -> None:
    assert kinds(history([call("a")], [run("a", 10, 20, ended=False)])) == [("lost", "a")]


def test_a_job_that_was_never_confirmed_may_run_or_not() -> None:
    calls = [call("a", confirmed=False), call("b", confirmed=False)]
    told = history(calls, [run("a", 10, 20)], remains=Remains({"q": 0}, {"a": "SUCCESS"}, 1))
    assert kinds(told) == []


def test_a_job_that_nobody_sent_is_unknown() -> None:
    assert ("unknown", "ghost") in kinds(history([], [run("ghost", 10, 20)]))


def test_a_job_that_runs_again_though_nobody_was_killed_is_repeated() -> None:
    runs = [run("a", 10, 20), run("a", 10, 30, pid=OTHER)]
    assert kinds(history([call("a")], runs)) == [("repeated", "a")]


def test_a_job_of_a_killed_consumer_may_run_again() -> None:
    runs = [run("a", 10, 20, ended=False), run("a", 10, 40, pid=OTHER)]
    assert kinds(history([call("a")], runs, [Kill("consumer", ONE, 25, 35, (ONE,))])) == []


def test_only_the_last_job_of_a_killed_consumer_may_run_again() -> None:
    runs = [run("a", 10, 20), run("b", 11, 30, ended=False), run("b", 11, 50, pid=OTHER), run("a", 10, 60, pid=OTHER)]
    told = history([call("a"), call("b")], runs, [Kill("consumer", ONE, 35, 45, (ONE,))])
    assert ("repeated", "a") in kinds(told)
    assert ("repeated", "b") not in kinds(told)


@pytest.mark.parametrize("what", ["broker", "supervisor", "template"])
def test_the_death_of_another_process_explains_no_repetition(what: str) -> None:
    runs = [run("a", 10, 20), run("a", 10, 40, pid=OTHER)]
    assert ("repeated", "a") in kinds(history([call("a")], runs, [Kill(what, ONE, 25, 35, (ONE, OTHER))]))


def test_a_job_that_comes_back_with_another_stamp_has_moved() -> None:
    runs = [run("a", 10, 20, ended=False), run("a", 30, 40, pid=OTHER)]
    assert ("moved", "a") in kinds(history([call("a")], runs, [Kill("consumer", ONE, 25, 35, (ONE,))]))


def test_a_job_with_another_priority_than_was_sent_has_moved() -> None:
    assert kinds(history([call("a", 5)], [run("a", 10, 20, priority=4)])) == [("moved", "a")]


def test_a_stamp_that_two_deliveries_have_is_found() -> None:
    assert kinds(history([call("a"), call("b")], [run("a", 10, 20), run("b", 11, 20)]))[0] == ("moved", "20")


def test_a_worse_job_that_was_started_while_a_better_one_waited_is_found() -> None:
    runs = [run("low", 10, 30, priority=1), run("high", 20, 40, priority=2)]
    assert kinds(history([call("low", 1), call("high", 2)], runs)) == [("order", "high")]


def test_a_later_job_that_was_started_before_an_earlier_one_of_its_priority_is_found() -> None:
    assert kinds(history([call("a"), call("b")], [run("b", 11, 20), run("a", 10, 21)])) == [("order", "a")]


def test_a_better_job_that_arrived_after_the_worse_one_was_started_overtakes_nobody() -> None:
    runs = [run("low", 10, 20, priority=1), run("high", 21, 40, priority=2)]
    assert kinds(history([call("low", 1), call("high", 2)], runs)) == []


def handed_out_unseen(better: int) -> tuple[list[Call], list[Run]]:
    """Return calls and runs in which so many better jobs seem to wait while a worse one is started at 30."""
    ids = [f"better{n}" for n in range(better)]
    runs = [run("first", 1, 2), run("worse", 20, 30, pid=OTHER)]
    runs += [run(id, 10 + n, 50 + n, priority=9, pid=OTHER) for n, id in enumerate(ids)]
    return [call("first"), call("worse"), *(call(id, 9) for id in ids)], runs


def test_a_job_that_a_killed_consumer_was_handed_and_never_began_with_was_not_waiting() -> None:
    calls, runs = handed_out_unseen(1)
    assert kinds(history(calls, runs)) == [("order", "better0")]
    assert kinds(history(calls, runs, [Kill("consumer", ONE, 35, 45, (ONE,))])) == []
    assert kinds(history(calls, runs, [Kill("consumer", ONE, 15, 25, (ONE,))])) == [("order", "better0")]


def test_each_affected_consumer_explains_one_job_only() -> None:
    calls, runs = handed_out_unseen(2)
    assert len(check(history(calls, runs, [Kill("broker", 1, 35, 45, (ONE,))]))) == 1
    assert kinds(history(calls, runs, [Kill("broker", 1, 35, 45, (ONE, OTHER))])) == []


def test_a_job_that_came_back_waits_at_its_old_place() -> None:
    killed = Kill("consumer", ONE, 25, 35, (ONE,))
    runs = [run("a", 10, 20, ended=False), run("b", 11, 40, pid=OTHER), run("a", 10, 41, pid=OTHER)]
    assert kinds(history([call("a"), call("b")], runs, [killed])) == [("order", "a")]
    runs[1] = run("b", 11, 30, pid=OTHER)
    assert kinds(history([call("a"), call("b")], runs, [killed])) == []


def test_what_is_left_in_a_queue_and_results_that_are_missing_or_too_many_are_found() -> None:
    calls, runs = [call("a"), call("b")], [run("a", 10, 20), run("b", 11, 21)]
    remains = Remains({"q": 0, "q.dead": 1}, {"a": "SUCCESS", "b": "FAILURE"}, 3)
    assert kinds(history(calls, runs, remains=remains)) == [("left", "q.dead"), ("result", "b"), ("result", "")]


def test_a_failure_names_the_job_and_tells_its_history() -> None:
    runs = [run("a", 10, 20), run("a", 10, 30, pid=OTHER)]
    with pytest.raises(AssertionError) as caught:
        assert_clean(history([call("a", at=7)], runs))
    text = str(caught.value)
    assert "1 repeated of 1 jobs" in text
    for word in ("job a: sent at 7", "confirmed 8", "posted 10, delivered 20", "process 101", "process 102", "2 times"):
        assert word in text, text


def test_what_was_written_down_is_read_back(tmp_path: Path) -> None:
    producer, consumer = Writer(tmp_path / "calls"), Writer(tmp_path / "runs")
    producer.attempt("a", -3)
    producer.attempt("b", 4)
    producer.confirm("b")
    for id in ("b", "a", "b"):
        consumer.start(id, 4, 10, 20)
        if id != "a":
            consumer.end(id)
    calls, runs = read_calls([tmp_path / "calls"]), read_runs(tmp_path / "runs")
    assert (calls["a"].priority, calls["a"].confirmed_at) == (-3, None)
    assert (calls["b"].confirmed_at or 0) >= calls["b"].attempted_at > 0
    assert [(each.id, each.ended_at is None) for each in runs] == [("b", False), ("a", True), ("b", False)]

"""The job that starts next is the best one that waits, through real workers and by the broker's own stamps."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.arena import backlog_arena
from tests.support.checker import assert_clean
from tests.support.chronicle import History

from .apps import chaos

JOBS = 10_000


def backlog_done(directory: Path, home: Path, patch: pytest.MonkeyPatch, consumers: int) -> tuple[list[str], History]:
    """Send a backlog, start a worker, and return the ids in the order in which they have to run, and what happened."""
    with backlog_arena(
        directory, home, patch, seed=random.SystemRandom().randrange(2**32), consumers=consumers
    ) as place:
        ids = place.send_backlog(JOBS)
        place.start_worker()
        told = place.history(place.drain())
    arrival = {id: number for number, id in enumerate(ids)}
    return sorted(ids, key=lambda id: (-told.calls[id].priority, arrival[id])), told


def test_one_consumer_runs_10000_jobs_in_exactly_the_order_of_priority_and_arrival(
    tmp_path: Path, local_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, told = backlog_done(tmp_path, local_home, monkeypatch, 1)
    assert [run.id for run in told.runs] == expected
    assert len({run.pid for run in told.runs}) == 1
    assert_clean(told)


def test_four_consumers_are_handed_10000_jobs_in_exactly_the_order_of_priority_and_arrival(
    tmp_path: Path, local_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, told = backlog_done(tmp_path, local_home, monkeypatch, 4)
    assert [run.id for run in sorted(told.runs, key=lambda run: run.delivered_at)] == expected
    assert len({run.pid for run in told.runs}) == 4
    assert_clean(told)


def test_an_urgent_job_in_a_backlog_is_the_next_one_that_is_started(
    tmp_path: Path, local_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with backlog_arena(tmp_path, local_home, monkeypatch, seed=1, consumers=2) as place:
        chaos.app.send_many([chaos.work.options(priority=-1, id=f"ordinary{n}").si(2) for n in range(2_000)])
        worker = place.start_worker()
        place.wait_for_runs(lambda: worker.consumers)
        urgent = [f"urgent{n}" for n in range(20)]
        for id in urgent:
            chaos.work.options(priority=2**31 - 1, id=id).delay(0).get(timeout=60)
        told = place.history([])
    assert len({run.id for run in told.runs}) < 2_000, "there was no backlog any more"
    for run in (run for run in told.runs if run.id in urgent):
        meanwhile = [other.id for other in told.runs if run.posted_at < other.delivered_at < run.delivered_at]
        assert not meanwhile, f"{meanwhile} were started while {run.id} waited"

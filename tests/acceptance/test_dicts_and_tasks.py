"""The queue of a task app as two dicts: jobs are seen, moved up and taken by hand, and a worker runs the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mplite_tasks import MPLite
from mplite_tasks_transport import MPLiteManager
from tests.support.workers import worker

from . import sample


def test_jobs_are_moved_up_and_taken_by_hand_and_a_worker_runs_the_others_in_order(
    app: MPLite, notes: Path, lines: Callable[[], list[str]]
) -> None:
    jobs = {name: sample.record.delay(str(notes), name) for name in ("first", "second", "third", "fourth")}
    with MPLiteManager() as manager:
        index, queue, lock = manager.shared_index("sample"), manager.shared_queue("sample"), manager.lock("sample")
        assert list(index) == [job.id for job in jobs.values()]
        assert all(name in str(queue[job.id]) for name, job in jobs.items())
        index[jobs["third"].id] = 9
        with lock:
            id = jobs["second"].id
            index.pop(id)
            taken = queue.pop(id)
        assert "second" in str(taken)
        with worker("tests.acceptance.sample"):
            for name in ("third", "first", "fourth"):
                jobs[name].get(timeout=20)
            assert len(index) == 0
    assert lines() == ["third", "first", "fourth"]

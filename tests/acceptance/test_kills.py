"""Under load, ``kill -9`` of anything loses no job, and none runs twice but those of a killed consumer."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.support.arena import Arena, arena
from tests.support.workers import WorkerProcess

#: Kills of each kind.
KILLS = 20

#: Kills of the template: each makes the worker import the app again.
TEMPLATE_KILLS = 5

#: Times that the broker and a consumer are killed at once.
DOUBLE_KILLS = 8

#: Seconds of load, at most, between a recovery and the next kill, which has to come at any moment.
LONGEST_PAUSE = 0.1


@pytest.fixture
def seed() -> int:
    """A new seed each time; ``CHAOS_SEED`` repeats one."""
    return int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(2**32))


@pytest.fixture(autouse=True)
def _no_timeout_for_a_slow_machine(request: pytest.FixtureRequest) -> None:
    request.node.add_marker(pytest.mark.timeout(300))


def pause(place: Arena) -> None:
    """Let any moment be the moment of the next kill."""
    time.sleep(place.random.uniform(0, LONGEST_PAUSE))


def all_run(place: Arena, worker: WorkerProcess) -> None:
    """Wait until as many consumers of a worker as it should have have done another job each."""
    place.wait_for_runs(lambda: worker.consumers)


def test_no_job_is_lost_or_repeated_when_consumers_are_killed(tmp_path: Path, local_home: Path, seed: int) -> None:
    with arena(tmp_path, local_home, seed=seed) as place:
        worker = place.start_worker()
        all_run(place, worker)
        for _ in range(KILLS):
            pause(place)
            victim = place.random.choice(worker.consumers)
            place.kill("consumer", victim, [victim], lambda: all_run(place, worker))


def test_no_job_is_lost_or_repeated_when_supervisors_are_killed(tmp_path: Path, local_home: Path, seed: int) -> None:
    with arena(tmp_path, local_home, seed=seed) as place:
        worker = place.start_worker()
        all_run(place, worker)
        for _ in range(KILLS):
            pause(place)
            killed, orphans = worker, worker.consumers

            def recovered(killed: WorkerProcess = killed) -> None:
                nonlocal worker
                worker = place.start_worker()
                all_run(place, worker)
                killed.process.wait()
                killed.wait_family()

            place.kill("supervisor", killed.pid, orphans, recovered)


def test_no_job_is_lost_or_repeated_when_the_broker_is_killed(tmp_path: Path, local_home: Path, seed: int) -> None:
    with arena(tmp_path, local_home, seed=seed) as place:
        worker = place.start_worker()
        all_run(place, worker)
        consumers = worker.consumers
        for _ in range(KILLS):
            pause(place)
            place.kill("broker", place.broker_pid(), consumers, lambda: all_run(place, worker))
        assert worker.consumers == consumers, "a consumer did not outlive the broker"


def test_no_job_is_lost_or_repeated_when_templates_are_killed(tmp_path: Path, local_home: Path, seed: int) -> None:
    with arena(tmp_path, local_home, seed=seed) as place:
        worker = place.start_worker()
        all_run(place, worker)
        for _ in range(TEMPLATE_KILLS):
            pause(place)
            orphans = worker.consumers

            def recovered(orphans: frozenset[int] = frozenset(orphans)) -> None:
                place.wait_for_runs(lambda: [pid for pid in worker.consumers if pid not in orphans])

            place.kill("template", worker.template, orphans, recovered)


def test_no_job_is_lost_or_repeated_when_the_broker_and_a_consumer_are_killed_together(
    tmp_path: Path, local_home: Path, seed: int
) -> None:
    with arena(tmp_path, local_home, seed=seed) as place:
        worker = place.start_worker()
        all_run(place, worker)
        for _ in range(DOUBLE_KILLS):
            pause(place)
            consumers = worker.consumers
            victim = place.random.choice(consumers)
            victims = [("broker", place.broker_pid(), consumers), ("consumer", victim, [victim])]
            place.random.shuffle(victims)
            place.kill_together(victims, lambda: all_run(place, worker))

"""Processes are killed while they work; nothing is lost, and nothing runs twice but what a killed consumer ran."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from mplite_tasks import MPLite, State
from mplite_tasks_transport import local
from tests.support.brokers import BrokerProcess, listener_pid
from tests.support.workers import wait_until, worker

from . import sample

Lines = Callable[[], list[str]]

SAMPLE = "tests.acceptance.sample"


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def kill_broker(home: Path) -> None:
    """Kill the local broker, and wait until it is gone."""
    info = local.read_info(home)
    assert info is not None
    pid = listener_pid(info.socket)
    assert pid is not None
    kill(pid)
    wait_until(lambda: listener_pid(info.socket) is None, "the broker is gone")


@pytest.mark.parametrize("how", ["fork", "exec"])
def test_a_job_of_a_killed_consumer_runs_again_within_a_second_though_a_child_of_it_lives_on(
    app: MPLite, notes: Path, lines: Lines, how: str
) -> None:
    with worker(SAMPLE, concurrency=2):
        sample.leave_child.delay(str(notes), how)
        wait_until(lines, "the job has started a process")
        _, pid, child = lines()[0].split()
        try:
            kill(int(pid))
            wait_until(lambda: len(lines()) == 2, "the job runs again while its child lives", timeout=1.0)
            os.kill(int(child), 0)
        finally:
            with suppress(ProcessLookupError):
                kill(int(child))
        assert lines()[1].startswith("again ")


def test_a_killed_consumer_is_replaced(app: MPLite) -> None:
    with worker(SAMPLE) as process:
        victim = process.consumers[0]
        kill(victim)
        process.wait_for(f"Consumer {victim} was killed by SIGKILL; another one takes its place")
        assert sample.add.delay(1, 1).get(timeout=20) == 2
        assert victim not in process.consumers


def test_a_task_that_kills_its_consumer_each_time_is_set_aside_in_the_end(app: MPLite) -> None:
    with worker(SAMPLE, concurrency=2):
        sample.die.delay()
        with app.connection() as connection:
            channel = connection.default_channel
            wait_until(lambda: _length(channel, "sample.dead") == 1, "the message is a dead letter", timeout=30)
        assert sample.add.delay(1, 1).get(timeout=20) == 2


def _length(channel: object, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).message_count)  # type: ignore[attr-defined]


def test_when_the_supervisor_is_killed_the_running_job_is_finished_and_the_family_ends(
    app: MPLite, notes: Path, lines: Lines, fifo: Path
) -> None:
    with worker(SAMPLE) as process:
        result = sample.hold.delay(str(notes), str(fifo))
        waiting = sample.record.delay(str(notes), "next")
        wait_until(lambda: lines() == ["start"], "the job runs")
        process.template  # noqa: B018 - so that its session is known
        process.send(signal.SIGKILL)
        process.wait_for("The supervisor is gone")
        fifo.write_text("done")
        assert result.get(timeout=20) == "done"
        process.wait_family()
        assert lines() == ["start", "end"]
        assert waiting.state is State.PENDING


def test_when_the_template_is_killed_the_running_job_is_finished_and_a_new_family_works_on(
    app: MPLite, notes: Path, lines: Lines, fifo: Path
) -> None:
    with worker(SAMPLE) as process:
        result = sample.hold.delay(str(notes), str(fifo))
        wait_until(lambda: lines() == ["start"], "the job runs")
        template, consumer = process.template, process.consumers[0]
        kill(template)
        process.wait_for("The template was killed by SIGKILL; another one takes its place")
        process.wait_ready(2)
        assert sample.add.delay(1, 1).get(timeout=20) == 2  # by a new consumer, while the old one is busy
        fifo.write_text("done")
        assert result.get(timeout=20) == "done"
        wait_until(lambda: consumer not in process.family(), "the consumer that had lost its template ends")
        assert lines() == ["start", "end"]


def test_when_the_broker_is_killed_the_running_job_is_not_run_twice(
    app: MPLite, notes: Path, lines: Lines, fifo: Path, local_home: Path
) -> None:
    with worker(SAMPLE, concurrency=2) as process:
        result = sample.hold.delay(str(notes), str(fifo))
        wait_until(lambda: lines() == ["start"], "the job runs")
        kill_broker(local_home)
        # The other consumer starts the broker again, and gets work from it; but not the job that is held.
        assert sample.add.delay(2, 2).get(timeout=20) == 4
        fifo.write_text("done")
        assert result.get(timeout=20) == "done"
        assert sample.add.delay(3, 3).get(timeout=20) == 6
        assert lines() == ["start", "end"], process.output


def test_a_broker_that_is_killed_again_and_again_loses_and_repeats_nothing(
    app: MPLite, notes: Path, lines: Lines, local_home: Path
) -> None:
    with worker(SAMPLE, concurrency=2):
        results = []
        for number in range(5):
            results += sample.record.delay_many([(str(notes), f"{number} {n}") for n in range(50)])
            kill_broker(local_home)
        for result in results:
            result.get(timeout=30)
    assert sorted(lines()) == sorted(f"{number} {n}" for number in range(5) for n in range(50))


def test_a_caller_that_waits_for_a_result_goes_on_waiting_over_the_end_of_the_broker(
    app: MPLite, notes: Path, lines: Lines, fifo: Path, local_home: Path
) -> None:
    with worker(SAMPLE):
        sample.hold.delay(str(notes), str(fifo))
        wait_until(lambda: lines() == ["start"], "the job runs")
        result = sample.add.options(countdown=0.3).delay(4, 4)
        kill_broker(local_home)
        fifo.write_text("done")
        assert result.get(timeout=20) == 8


def test_an_idle_worker_survives_the_end_of_the_broker_and_says_so_once(app: MPLite, local_home: Path) -> None:
    with worker(SAMPLE) as process:
        kill_broker(local_home)
        process.wait_for("Connected to the broker", 2)
        assert sample.add.delay(5, 5).get(timeout=20) == 10
        assert process.output.count("The connection to the broker was lost") == 1


def test_a_job_survives_the_restart_of_a_broker_elsewhere(
    broker: BrokerProcess, notes: Path, lines: Lines, fifo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TCP nobody starts the broker but its administrator, and no process can be watched."""
    monkeypatch.setenv("MPLITE_BROKER", broker.url)
    with MPLite("sample") as app, worker(SAMPLE, concurrency=2) as process:
        result = app.send_task(sample.hold.name, [str(notes), str(fifo)])
        wait_until(lambda: lines() == ["start"], "the job runs")
        broker.kill()
        process.wait_for("The connection to the broker was lost")
        broker.start()
        assert app.send_task(sample.add.name, [2, 2]).get(timeout=20) == 4
        fifo.write_text("done")
        assert result.get(timeout=20) == "done"
        assert lines() == ["start", "end"], process.output
        assert broker.key not in process.output

"""A worker that is told to stop finishes what runs; told twice, it stops now and the jobs go back."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mplite_tasks import MPLite, State
from tests.support.workers import wait_until, worker

from . import sample

Lines = Callable[[], list[str]]

SAMPLE = "tests.acceptance.sample"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_the_running_job_finish_and_starts_no_other(
    app: MPLite, notes: Path, lines: Lines, fifo: Path, number: signal.Signals
) -> None:
    with worker(SAMPLE) as process:
        running = sample.hold.delay(str(notes), str(fifo))
        waiting = sample.record.delay(str(notes), "next")
        wait_until(lambda: lines() == ["start"], "the job runs")
        process.send(number)
        process.wait_for("told to stop when they are done")
        fifo.write_text("done")
        assert process.wait() == 0
        assert running.get(timeout=20) == "done"
        assert waiting.state is State.PENDING
        assert lines() == ["start", "end"]


def test_a_second_signal_stops_now_and_the_job_goes_back_to_its_place(
    app: MPLite, notes: Path, lines: Lines, fifo: Path
) -> None:
    with worker(SAMPLE) as process:
        running = sample.hold.delay(str(notes), str(fifo))
        waiting = sample.record.delay(str(notes), "next")
        wait_until(lambda: lines() == ["start"], "the job runs")
        process.send(signal.SIGTERM)
        process.wait_for("told to stop when they are done")
        process.send(signal.SIGTERM)
        assert process.wait() == 1
        assert lines() == ["start"]
        assert running.state is State.PENDING
    with worker(SAMPLE):
        wait_until(lambda: lines() == ["start", "start"], "the job that went back runs before the one behind it")
        fifo.write_text("done")
        assert running.get(timeout=20) == "done"
        waiting.get(timeout=20)
        assert lines() == ["start", "start", "end", "next"]


def test_an_idle_worker_stops_at_once(app: MPLite) -> None:
    with worker(SAMPLE, concurrency=3) as process:
        process.send(signal.SIGTERM)
        assert process.wait() == 0


def test_a_worker_that_is_stopped_while_it_starts_ends_as_well(app: MPLite) -> None:
    with worker(SAMPLE, ready=False) as process:
        process.template  # noqa: B018 - the supervisor has its handlers by then
        process.send(signal.SIGTERM)
        assert process.wait() == 0


def test_a_signal_to_the_whole_service_counts_once(app: MPLite, notes: Path, lines: Lines, fifo: Path) -> None:
    """As systemd does it: SIGTERM to supervisor, template and consumers alike."""
    with worker(SAMPLE) as process:
        running = sample.hold.delay(str(notes), str(fifo))
        wait_until(lambda: lines() == ["start"], "the job runs")
        process.send_to_all(signal.SIGTERM)
        process.wait_for("told to stop when they are done")
        fifo.write_text("done")
        assert process.wait() == 0
        assert running.get(timeout=20) == "done"
        assert lines() == ["start", "end"]

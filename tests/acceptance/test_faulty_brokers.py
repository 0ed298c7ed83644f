"""A broker that was deliberately changed to do one message in thousands wrong is caught by the checker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mplite_tasks_transport import local
from tests.support.arena import Arena, backlog_arena
from tests.support.checker import check
from tests.support.workers import ROOT, wait_until


@contextmanager
def faulty_broker(fault: str, every: int, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the local broker of this home with a fault at each so-manieth message."""
    command = [sys.executable, "-m", "tests.support.faulty_broker", fault, str(every), str(home)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: local.running(home), "the broker runs")
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def place(tmp_path: Path, local_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Arena]:
    with backlog_arena(tmp_path, local_home, monkeypatch, seed=5, consumers=2) as arena:
        yield arena


def found(place: Arena) -> list[tuple[str, str]]:
    """Let a worker do the jobs, and return what the checker finds."""
    place.start_worker()
    return [(finding.kind, finding.id) for finding in check(place.history(place.drain()))]


def test_one_message_in_10000_that_is_lost_is_caught(place: Arena, local_home: Path) -> None:
    with faulty_broker("lose", 10_000, local_home):
        ids = place.send_backlog(10_100)
        assert found(place) == [("lost", ids[9_999]), ("result", ids[9_999])]


def test_one_message_in_10000_that_is_repeated_is_caught(place: Arena, local_home: Path) -> None:
    with faulty_broker("repeat", 10_000, local_home):
        place.send_backlog(10_100)
        assert [kind for kind, _ in found(place)] == ["repeated"]


def test_one_message_in_1000_that_is_handed_out_too_early_is_caught(place: Arena, local_home: Path) -> None:
    with faulty_broker("reorder", 1_000, local_home):
        place.send_backlog(1_100)
        assert [kind for kind, _ in found(place)] == ["order"]


def test_one_message_in_1000_that_is_confirmed_and_not_kept_is_caught_when_the_broker_is_killed(
    place: Arena, local_home: Path
) -> None:
    with faulty_broker("forget", 1_000, local_home) as broker:
        ids = place.send_backlog(1_100)
        os.kill(broker.pid, signal.SIGKILL)
        broker.wait()
        assert found(place) == [("lost", ids[999]), ("result", ids[999])]

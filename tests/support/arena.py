"""A place to kill in: a local broker, workers and producers of the app ``tests.acceptance.apps.chaos``, and the record.

Nothing here sleeps to give something time; what nobody announces is looked for until a deadline.
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mplite_tasks_transport import BrokerClient, BrokerURL, frames, local
from tests.acceptance.apps import chaos

from .brokers import listener_pid
from .checker import assert_clean
from .chronicle import Follower, History, Kill, Remains, Writer, read_calls, read_runs
from .workers import ROOT, WorkerProcess, wait_until

__all__ = ["APP", "LOG_VARIABLE", "Arena", "arena", "backlog_arena", "broker_status"]

APP = "tests.acceptance.apps.chaos"
LOG_VARIABLE = "CHAOS_LOG"

#: Seconds within which anything that is waited for has to happen, on a machine that has other things to do.
PATIENCE = 60.0

#: Characters of each log that a failed test shows.
SHOWN = 4000


class Arena:
    """Processes under load, and what is written down of them.

    Parameters:
        directory: for the records.
        home: of the local broker.
        seed: of everything that is random; printed, so that a failure can be repeated.
        consumers: of each worker.
    """

    def __init__(self, directory: Path, home: Path, *, seed: int, consumers: int) -> None:
        print(f"seed {seed}")
        self.home = home
        self.random = random.Random(seed)
        self.consumers = consumers
        self.kills: list[Kill] = []
        self.workers: list[WorkerProcess] = []
        self._directory = directory
        self._producers: list[subprocess.Popen[bytes]] = []
        self._follower = Follower(directory / "runs")
        self._last_stamp = 0
        self._ended: Counter[int] = Counter()
        self._ended_before: Counter[int] = Counter()
        self._env = {**os.environ, LOG_VARIABLE: str(directory), "PYTHONUNBUFFERED": "1"}

    # Processes

    def start_producers(self, *names: str, window: int = 300) -> None:
        """Start one producer for each name."""
        for name in names:
            command = [sys.executable, "-m", "tests.support.producer", name, str(self.random.random())[2:], str(window)]
            self._producers.append(subprocess.Popen(command, cwd=ROOT, env=self._env))

    def start_worker(self) -> WorkerProcess:
        """Start a worker; it is ready when its consumers run jobs (:meth:`wait_for_runs`)."""
        worker = WorkerProcess(APP, ("-c", str(self.consumers), "-l", "warning"), ROOT, self._env)
        self.workers.append(worker)
        wait_until(lambda: len(worker.consumers) == self.consumers, "the worker has its consumers", PATIENCE)
        return worker

    def broker_pid(self) -> int:
        """Return the broker that listens now."""
        info = local.read_info(self.home)
        pid = None if info is None else listener_pid(info.socket)
        assert pid is not None, f"no broker listens in {self.home}: {info}, after {len(self.kills)} kills"
        return pid

    def send_backlog(self, number: int) -> list[str]:
        """Send so many jobs that take no time, of random 32-bit priorities, and return their ids in that order."""
        record = Writer(self._directory / "calls-backlog")
        calls = [(f"job{n}", self.random.randint(-(2**31), 2**31 - 1)) for n in range(number)]
        for id, priority in calls:
            record.attempt(id, priority)
        chaos.app.send_many([chaos.work.options(priority=priority, id=id).si(0) for id, priority in calls])
        for id, _ in calls:
            record.confirm(id)
        return [id for id, _ in calls]

    # Events

    def wait_for_runs(self, consumers: Callable[[], list[int]]) -> None:
        """Wait until each consumer that there is at the time has been handed a job since the last kill, and did it.

        Two jobs have to be done for that: one may have been handed out before. There have to be as many consumers as a
        worker has.
        """

        def all_ran() -> bool:
            self._read()
            ran = {pid for pid, times in self._ended.items() if times >= self._ended_before[pid] + 2}
            return len(ran.intersection(consumers())) >= self.consumers

        wait_until(all_ran, f"each of {self.consumers} consumers has done another job", PATIENCE)

    def kill(self, what: str, pid: int, affected: list[int], recovered: Callable[[], None]) -> None:
        """Kill a process with SIGKILL, wait until all is well again, and write that down."""
        self.kill_together([(what, pid, affected)], recovered)

    def kill_together(self, victims: list[tuple[str, int, list[int]]], recovered: Callable[[], None]) -> None:
        """Kill several processes, as :meth:`kill` does, one right after the other."""
        self._read()
        at = self._last_stamp
        handles = [os.pidfd_open(pid) for _, pid, _ in victims]
        for _, pid, _ in victims:
            os.kill(pid, signal.SIGKILL)
        for handle in handles:
            ended = select.poll()
            ended.register(handle, select.POLLIN)
            ended.poll()
            os.close(handle)
        self._read()
        self._ended_before = self._ended.copy()
        recovered()
        self._read()
        self.kills += [Kill(what, pid, at, self._last_stamp, tuple(affected)) for what, pid, affected in victims]

    def _read(self) -> None:
        for kind, _, pid, *rest in self._follower.lines():
            if kind == "start":
                self._last_stamp = max(self._last_stamp, int(rest[-1]))
            else:
                self._ended[int(pid)] += 1

    # The end

    def finish(self) -> History:
        """Let the producers end, the jobs be done and the workers stop; then return the history."""
        for producer in self._producers:
            producer.terminate()
        assert [producer.wait(PATIENCE) for producer in self._producers] == [0] * len(self._producers)
        return self.history(self.drain())

    def drain(self) -> list[str]:
        """Wait until the broker has no job left, and stop the workers. Returns the ids of all jobs that were sent."""
        wait_until(lambda: not sum(_messages().values()), "every job is done", PATIENCE)
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.send(signal.SIGTERM)
                assert worker.wait() == 0, worker.output
        return list(read_calls(self._directory.glob("calls-*")))

    def history(self, ids: list[str]) -> History:
        """Return what was written down, and what the broker has now."""
        calls = read_calls(self._directory.glob("calls-*"))
        runs = read_runs(self._directory / "runs")
        with BrokerClient.connect(BrokerURL.parse("mplite://")) as client:
            answers = client.call_many(frames.GetResult(0, id) for id in ids)
            count = client.call(frames.Status(0))["results"]
        states = {id: str(answer[0]) for id, answer in zip(ids, answers, strict=True) if answer is not None}
        return History(calls, runs, tuple(self.kills), Remains(_messages(), states, count))

    def clean_up(self) -> None:
        """End every process."""
        for producer in self._producers:
            producer.kill()
            producer.wait()
        for worker in self.workers:
            worker.clean_up()
            print(worker.output[-SHOWN:])
        log = self.home / "broker.log"
        if log.exists():
            print(log.read_text()[-SHOWN:])


def broker_status() -> dict[str, object]:
    """Return what the local broker says of itself."""
    with BrokerClient.connect(BrokerURL.parse("mplite://")) as client:
        status: dict[str, object] = client.call(frames.Status(0))
        return status


def _messages() -> dict[str, int]:
    queues = broker_status()["queues"]
    assert isinstance(queues, dict)
    return {name: counts["waiting"] + counts["delayed"] + counts["held"] for name, counts in queues.items()}


def report(history: History, began: float) -> str:
    """Return the figures of a test in one line."""
    runs, jobs = len(history.runs), len({run.id for run in history.runs})
    seconds = time.monotonic() - began
    return f"{len(history.kills)} kills, {jobs} jobs, {runs - jobs} run again, {seconds:.1f} s"


@contextmanager
def arena(directory: Path, home: Path, *, seed: int, consumers: int = 3) -> Iterator[Arena]:
    """Run an arena around a block, and check the history at its end."""
    began = time.monotonic()
    place = Arena(directory, home, seed=seed, consumers=consumers)
    try:
        place.start_producers("a", "b")
        yield place
        history = place.finish()
        print(report(history, began))
        assert_clean(history)
    finally:
        place.clean_up()


@contextmanager
def backlog_arena(
    directory: Path, home: Path, patch: pytest.MonkeyPatch, *, seed: int, consumers: int
) -> Iterator[Arena]:
    """Run an arena without producers, for jobs that are sent by the test itself."""
    patch.setenv(LOG_VARIABLE, str(directory))
    place = Arena(directory, home, seed=seed, consumers=consumers)
    try:
        yield place
    finally:
        place.clean_up()
        chaos.app.close()

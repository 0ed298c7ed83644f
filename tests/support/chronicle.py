"""What is written down while a system is being tested: calls of producers, runs of jobs, kills, and what was left.

Producers and jobs append lines to files, one write each, so that nothing is missing of a process that is killed. Times
are microseconds since the epoch. The stamps of runs and kills are the broker's own, which may be a little ahead of the
wall clock after a crash.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Call", "Follower", "History", "Kill", "Remains", "Run", "Writer", "microseconds", "read_calls", "read_runs"]


def microseconds() -> int:
    """Return the time now."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class Call:
    """A producer's call. ``confirmed_at`` is ``None`` if it never returned: then the job may be there or not."""

    id: str
    priority: int
    attempted_at: int
    confirmed_at: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a job by the process ``pid``; ``ended_at`` is ``None`` if it never came to its end."""

    id: str
    pid: int
    priority: int
    posted_at: int
    delivered_at: int
    ended_at: int | None = None


@dataclass(frozen=True, slots=True)
class Kill:
    """A process was killed.

    Parameters:
        what: ``consumer``, ``broker``, ``supervisor`` or ``template``.
        pid: the process.
        at: the last stamp of a delivery that was seen before the kill.
        over: the last stamp of a delivery that was seen when everything worked again.
        affected: the consumers that lost their connection or were stopped by it. Each may have been handed a job that
            it never began with, of which there is no record.
    """

    what: str
    pid: int
    at: int
    over: int
    affected: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Remains:
    """What the broker has when all is done: messages by queue, and the states of results by id."""

    messages: Mapping[str, int] = field(default_factory=dict)
    results: Mapping[str, str] = field(default_factory=dict)
    result_count: int | None = None


@dataclass(frozen=True, slots=True)
class History:
    """Everything that was written down in one test."""

    calls: Mapping[str, Call]
    runs: tuple[Run, ...]
    kills: tuple[Kill, ...] = ()
    remains: Remains | None = None


class Writer:
    """Appends lines to a file, each in one write; usable after a fork."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @staticmethod
    @functools.cache
    def of(path: Path) -> Writer:
        """Return this process's writer of a file."""
        return Writer(path)

    def attempt(self, id: str, priority: int) -> None:
        """A call is about to be made."""
        self._write("attempt", id, priority, microseconds())

    def confirm(self, id: str) -> None:
        """The call returned."""
        self._write("confirm", id, microseconds())

    def start(self, id: str, priority: int, posted_at: int, delivered_at: int) -> None:
        """This process begins with a job."""
        self._write("start", id, os.getpid(), priority, posted_at, delivered_at)

    def end(self, id: str) -> None:
        """This process is done with a job."""
        self._write("end", id, os.getpid(), microseconds())

    def _write(self, *words: object) -> None:
        os.write(self._descriptor, (" ".join(map(str, words)) + "\n").encode())


class Follower:
    """Reads the lines that were added to a file since it was last asked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def lines(self) -> Iterator[list[str]]:
        """Iterate over the words of each new line that is complete."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole, newline, _ = data.rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        for line in whole.splitlines():
            yield line.decode().split(" ")


def read_calls(paths: Iterable[Path]) -> dict[str, Call]:
    """Return the calls in the files of all producers, by id."""
    calls: dict[str, Call] = {}
    for path in paths:
        for words in Follower(path).lines():
            if words[0] == "attempt":
                calls[words[1]] = Call(words[1], int(words[2]), int(words[3]))
            else:
                call = calls[words[1]]
                calls[words[1]] = Call(call.id, call.priority, call.attempted_at, int(words[2]))
    return calls


def read_runs(path: Path) -> tuple[Run, ...]:
    """Return the runs in a file, in the order in which they were begun."""
    runs: list[Run] = []
    open_runs: dict[tuple[str, str], int] = {}
    for kind, id, pid, *rest in Follower(path).lines():
        if kind == "start":
            open_runs[id, pid] = len(runs)
            runs.append(Run(id, int(pid), *map(int, rest)))
        else:
            place = open_runs.pop((id, pid))
            run = runs[place]
            runs[place] = Run(run.id, run.pid, run.priority, run.posted_at, run.delivered_at, int(rest[0]))
    return tuple(runs)

"""Whether the job that was started was always the best one that waited, by the broker's own stamps.

The record has each start, but not each hand-out: a consumer may be killed, or lose its broker, before it has begun with
what it was handed. Such a job was not waiting, although it looks so. Since a consumer is handed one job at a time, each
consumer that a kill affects explains at most one job, from its last start before the kill until all was well again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from sortedcontainers import SortedDict

from .chronicle import History, Kill, Run

__all__ = ["overtakings"]

#: Better jobs that are looked at for each start: one is enough to fail, and a broken order must not take for ever.
MOST = 50


def overtakings(history: History, cut_short: Mapping[Run, Kill]) -> Iterator[tuple[Run, list[Run]]]:
    """Return each job that waited while worse ones were started, with those, unless a kill explains it.

    Parameters:
        cut_short: the runs whose consumer was killed: their jobs wait again, at the latest when that was over.
    """
    overtaken: dict[str, list[Run]] = defaultdict(list)
    firsts: dict[str, Run] = {}
    for better, worse in _suspects(history, cut_short):
        firsts.setdefault(better.id, better)
        overtaken[better.id].append(worse)
    hands = list(_hands(history))
    for id, overtakers in sorted(overtaken.items(), key=lambda pair: pair[1][-1].delivered_at):
        hand = next((h for h in hands if h.explains(overtakers)), None)
        if hand is None:
            yield firsts[id], overtakers
        else:
            hands.remove(hand)


@dataclass(frozen=True, slots=True)
class _Hand:
    """Where a job may have been without a record of it."""

    since: int
    until: int

    def explains(self, worse: list[Run]) -> bool:
        return self.since <= worse[0].delivered_at and worse[-1].delivered_at <= self.until


def _hands(history: History) -> Iterator[_Hand]:
    starts: dict[int, list[int]] = defaultdict(list)
    for run in history.runs:
        starts[run.pid].append(run.delivered_at)
    for each in starts.values():
        each.sort()
    for kill in sorted(history.kills, key=lambda kill: kill.over):
        for pid in kill.affected:
            before = bisect_right(starts[pid], kill.at)
            yield _Hand(starts[pid][before - 1] if before else 0, kill.over)


def _suspects(history: History, cut_short: Mapping[Run, Kill]) -> Iterator[tuple[Run, Run]]:
    """Return pairs of a job that waited, as far as is recorded, and a worse one that was started meanwhile."""
    waiting: SortedDict = SortedDict()
    for _, run, started in sorted(_events(history, cut_short), key=lambda event: event[0]):
        key = (-run.priority, run.posted_at)
        if not started:
            waiting[key] = run
            continue
        waiting.pop(key, None)
        for better_key in islice(waiting, MOST):
            if better_key >= key:
                break
            yield waiting[better_key], run


def _events(history: History, cut_short: Mapping[Run, Kill]) -> Iterator[tuple[int, Run, bool]]:
    """Return when jobs began to wait and when they were started."""
    runs_of: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(history.runs, key=lambda run: run.delivered_at):
        runs_of[run.id].append(run)
    for runs in runs_of.values():
        since: int | None = runs[0].posted_at
        for run in runs:
            if since is not None and since < run.delivered_at:
                yield since, run, False
            yield run.delivered_at, run, True
            kill = cut_short.get(run)
            since = None if kill is None else kill.over

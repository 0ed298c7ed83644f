"""Says whether a history keeps the promises, and names what breaks them.

- Every confirmed job was done, and its result is there; nothing is left in the queues, nothing came from nowhere.
- No job ran twice, but one that a killed consumer was running; and that one had kept its place.
- The job that was started was always the best one that waited: highest priority, then earliest arrival, by the broker's
  own stamps.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from .chronicle import Call, History, Kill, Run
from .ordering import overtakings

__all__ = ["Finding", "assert_clean", "check"]

#: Findings that a failure shows in full.
SHOWN = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken promise.

    Parameters:
        kind: ``lost``, ``repeated``, ``moved``, ``unknown``, ``order``, ``left`` or ``result``.
        id: the job, or the queue.
        text: what happened, with the job's history.
    """

    kind: str
    id: str
    text: str


def assert_clean(history: History) -> None:
    """Raise AssertionError, naming the jobs and their histories, unless every promise was kept."""
    findings = check(history)
    if not findings:
        return
    counts = ", ".join(f"{number} {kind}" for kind, number in Counter(each.kind for each in findings).items())
    shown = "\n".join(f"{each.kind}: {each.text}" for each in findings[:SHOWN])
    raise AssertionError(f"The history breaks promises ({counts} of {len(history.calls)} jobs):\n{shown}")


def check(history: History) -> list[Finding]:
    """Return every broken promise."""
    ledger = _Ledger(history)
    return [
        *ledger.unknown(),
        *ledger.lost(),
        *ledger.repeated(),
        *ledger.moved(),
        *ledger.out_of_order(),
        *ledger.left(),
        *ledger.results(),
    ]


class _Ledger:
    """The history, by job."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._runs: dict[str, list[Run]] = defaultdict(list)
        last_of: dict[int, Run] = {}
        for run in sorted(history.runs, key=lambda run: run.delivered_at):
            self._runs[run.id].append(run)
            last_of[run.pid] = run
        #: The runs during which, or just after which, their consumer was killed.
        self._cut_short: dict[Run, Kill] = {
            last_of[kill.pid]: kill for kill in history.kills if kill.what == "consumer" and kill.pid in last_of
        }

    def unknown(self) -> Iterator[Finding]:
        """Jobs that nobody sent."""
        for id in self._runs.keys() - self._history.calls.keys():
            yield self._finding("unknown", id, "ran, and nobody had sent it")

    def lost(self) -> Iterator[Finding]:
        """Jobs that were confirmed and never done."""
        for id, call in self._history.calls.items():
            if call.confirmed_at is not None and not any(run.ended_at for run in self._runs.get(id, ())):
                yield self._finding("lost", id, "was confirmed and never done")

    def repeated(self) -> Iterator[Finding]:
        """Jobs that ran again although nobody killed the consumer that ran them."""
        for id, runs in self._runs.items():
            if any(run not in self._cut_short for run in runs[:-1]):
                yield self._finding("repeated", id, f"ran {len(runs)} times, not only on killed consumers")

    def moved(self) -> Iterator[Finding]:
        """Jobs that came back to another place, and stamps that are no stamps."""
        for id, runs in self._runs.items():
            if len({(run.posted_at, run.priority) for run in runs}) > 1:
                yield self._finding("moved", id, "came back to another place")
            elif any(run.delivered_at <= run.posted_at for run in runs):
                yield self._finding("moved", id, "was handed out before it had arrived")
            call = self._history.calls.get(id)
            if call is not None and call.priority != runs[0].priority:
                yield self._finding("moved", id, f"was sent with priority {call.priority}")
        for stamp, times in Counter(run.delivered_at for run in self._history.runs).items():
            if times > 1:
                yield Finding("moved", str(stamp), f"The stamp {stamp} was given to {times} deliveries")

    def out_of_order(self) -> Iterator[Finding]:
        """Jobs that were started while a better one waited."""
        for better, worse in overtakings(self._history, self._cut_short):
            text = f"waited while {len(worse)} worse ones were started, the first of them: {self._told(worse[0].id)}"
            yield self._finding("order", better.id, text)

    def left(self) -> Iterator[Finding]:
        """Messages that are still in a queue."""
        if self._history.remains is not None:
            for queue, number in self._history.remains.messages.items():
                if number:
                    yield Finding("left", queue, f"The queue {queue} still has {number} messages")

    def results(self) -> Iterator[Finding]:
        """Jobs without the result that they have to have, and results without a job."""
        remains = self._history.remains
        if remains is None:
            return
        for id, call in self._history.calls.items():
            state = remains.results.get(id)
            due = call.confirmed_at is not None or id in self._runs
            if state != ("SUCCESS" if due else None):
                yield self._finding("result", id, f"has the result {state}")
        if remains.result_count not in {None, len(remains.results)}:
            text = f"The broker has {remains.result_count} results for {len(remains.results)} jobs"
            yield Finding("result", "", text)

    def _finding(self, kind: str, id: str, text: str) -> Finding:
        return Finding(kind, id, f"{self._told(id)} -- it {text}")

    def _told(self, id: str) -> str:
        return f"job {id}: " + "; ".join(_story(self._history.calls.get(id), self._runs.get(id, ()), self._cut_short))


def _story(call: Call | None, runs: Iterable[Run], cut_short: Mapping[Run, Kill]) -> Iterator[str]:
    if call is not None:
        confirmed = "never" if call.confirmed_at is None else str(call.confirmed_at)
        yield f"sent at {call.attempted_at} with priority {call.priority}, confirmed {confirmed}"
    for run in runs:
        ended = "did not end it" if run.ended_at is None else f"ended it at {run.ended_at}"
        kill = cut_short.get(run)
        killed = "" if kill is None else f" and was killed at {kill.at}"
        yield (
            f"posted {run.posted_at}, delivered {run.delivered_at} with priority {run.priority} "
            f"to process {run.pid}, which {ended}{killed}"
        )

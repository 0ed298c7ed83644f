"""A local broker with a fault, deliberately: the checker has to catch it.

``python -m tests.support.faulty_broker FAULT EVERY HOME``: each EVERY-th time something goes wrong.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mplite_tasks_transport.broker.channel import Held
from mplite_tasks_transport.broker.cli.local import run_local
from mplite_tasks_transport.broker.index import Entry
from mplite_tasks_transport.broker.journal.port import KeepMessage
from mplite_tasks_transport.broker.journal.sqlite import SQLiteJournal
from mplite_tasks_transport.broker.lifecycle import Lifecycle
from mplite_tasks_transport.broker.queue import Queue

IDLE_SECONDS = 60.0


def lose(is_due: Callable[[], bool]) -> None:
    """A message is confirmed and not kept."""
    arrive = Lifecycle._arrive

    def faulty(self: Lifecycle, queue: Queue, frame: Any, id: str) -> None:
        if not is_due():
            arrive(self, queue, frame, id)

    Lifecycle._arrive = faulty  # type: ignore[method-assign]


def repeat(is_due: Callable[[], bool]) -> None:
    """A message that was settled goes back to its place."""
    done = Lifecycle.done

    def faulty(self: Lifecycle, held: Held) -> None:
        if is_due():
            self.put_back(held)
        else:
            done(self, held)

    Lifecycle.done = faulty  # type: ignore[method-assign]


def reorder(is_due: Callable[[], bool]) -> None:
    """The second best message is handed out."""
    take = Lifecycle.take

    def faulty(self: Lifecycle, queue: Queue) -> tuple[Entry, bytes] | None:
        best = take(self, queue)
        if best is None or not queue.shared_index or not is_due():
            return best
        second = take(self, queue)
        queue.put(*best)
        return second

    Lifecycle.take = faulty  # type: ignore[method-assign]


def forget(is_due: Callable[[], bool]) -> None:
    """A message is confirmed and not in the journal, so that it is lost when the broker is killed."""
    append = SQLiteJournal.append

    def faulty(self: SQLiteJournal, records: list[Any], last_stamp: int) -> int:
        kept = [record for record in records if not (isinstance(record, KeepMessage) and is_due())]
        return append(self, kept, last_stamp)

    SQLiteJournal.append = faulty  # type: ignore[method-assign, assignment]


FAULTS = {"lose": lose, "repeat": repeat, "reorder": reorder, "forget": forget}


def main(fault: str, every: str, home: str) -> int:
    """Run the broker."""
    count = itertools.count(1)
    FAULTS[fault](lambda: next(count) % int(every) == 0)
    return run_local(Path(home), idle_seconds=IDLE_SECONDS)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

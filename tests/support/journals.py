"""Records for tests of journals, and journals that tell when they have kept them."""

from __future__ import annotations

import threading
from pathlib import Path

from mplite_tasks_transport.broker.journal import Durability, Journal, MemoryJournal, SQLiteJournal
from mplite_tasks_transport.broker.journal.port import KeepMessage, KeepQueue, Record

__all__ = ["BASE", "Confirmations", "keep", "message", "open_journal", "queue"]

#: A stamp: microseconds since the epoch, as a real one.
BASE = 1_700_000_000_000_000


class Confirmations:
    """What a journal reported, from whatever thread: wait for it instead of sleeping."""

    def __init__(self, journal: Journal) -> None:
        self.durable: list[int] = []
        self.failures: list[BaseException] = []
        self._changed = threading.Condition()
        journal.on_durable = self._on_durable
        journal.on_failure = self._on_failure

    def wait_for(self, sequence: int) -> None:
        """Return when everything up to this sequence number is durable."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.durable and self.durable[-1] >= sequence, 30.0):
                raise AssertionError(f"Turn {sequence} did not become durable; these did: {self.durable[-3:]}")

    def wait_for_failure(self) -> BaseException:
        """Return the error that the journal ended with."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.failures, 30.0):
                raise AssertionError("The journal did not report a failure.")
            return self.failures[0]

    def _on_durable(self, sequence: int) -> None:
        with self._changed:
            self.durable.append(sequence)
            self._changed.notify_all()

    def _on_failure(self, error: BaseException) -> None:
        with self._changed:
            self.failures.append(error)
            self._changed.notify_all()


def open_journal(durability: Durability, path: Path) -> Journal:
    """Return a journal of this durability; those with a file have it at the path."""
    return MemoryJournal() if durability is Durability.MEMORY else SQLiteJournal(path, durability)


def keep(journal: Journal, *turns: list[Record]) -> None:
    """Append these turns, wait until they are durable, and close the journal."""
    confirmations = Confirmations(journal)
    last = 0
    for turn in turns:
        last = journal.append(turn, BASE)
    confirmations.wait_for(last)
    journal.close()


def queue(number: int = 1, name: str = "q") -> KeepQueue:
    """Return the record of a queue."""
    return KeepQueue(number, "/", name, False, {})


def message(offset: int, number: int = 1, payload: bytes = b"payload") -> KeepMessage:
    """Return the record of the message that came so many microseconds after :data:`BASE`."""
    return KeepMessage(BASE + offset, number, f"id-{offset}", 0, 0, 0, 0, "", "q", payload)

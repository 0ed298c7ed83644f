"""One thread that commits batches in their order: what came while the disk was busy goes together in the next one."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Writer"]

Batch = list[tuple[str, list[tuple[Any, ...]]]]


class Writer:
    """Commit batches from a thread, one transaction in flight.

    Parameters:
        commit: commits a batch, given its size in bytes and the last stamp; raises :class:`sqlite3.Error`.
        durable: called from the thread with the last sequence number that was committed.
        fail: called from the thread with the error of a failed commit, which is not tried again; the batches that
            waited are dropped, for what they build on is in doubt.
    """

    def __init__(
        self,
        commit: Callable[[Batch, int, int], None],
        durable: Callable[[int], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._commit = commit
        self._durable = durable
        self._fail = fail
        self._changed = threading.Condition()
        self._waiting: list[tuple[int, Batch, int, int]] = []
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="mplite-journal", daemon=True)
        self._thread.start()

    def put(self, sequence: int, batch: Batch, size: int, stamp: int) -> None:
        """Hand a batch over; returns at once."""
        with self._changed:
            self._waiting.append((sequence, batch, size, stamp))
            self._changed.notify()

    def close(self) -> None:
        """Commit what waits and end the thread."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join()

    def _take(self) -> list[tuple[int, Batch, int, int]]:
        """Wait for batches and return all of them; none when the writer is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ending)
            taken, self._waiting = self._waiting, []
            return taken

    def _run(self) -> None:
        while taken := self._take():
            batch = [statement for _, statements, _, _ in taken for statement in statements]
            sequence, _, _, stamp = taken[-1]
            try:
                self._commit(batch, sum(size for _, _, size, _ in taken), stamp)
            except (sqlite3.Error, OverflowError, ValueError) as exc:
                self._fail(exc)
                return
            self._durable(sequence)

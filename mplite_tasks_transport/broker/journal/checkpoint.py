"""Checkpoints of a write-ahead log in a thread of its own, so that the broker does not wait for the disk.

While transactions go on, a checkpoint never reaches the log's end, and the log grows. When it has become too long the
writer is asked to finish one itself, between two transactions, when little is left to do.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import Final

__all__ = ["Checkpointer"]

#: Bytes that are written to the log, by estimate, between two checkpoints.
CHECKPOINT_BYTES: Final = 16 * 1024 * 1024

#: Pages in the log above which the writer finishes the checkpoint: 64 MiB of SQLite's pages of 4 KiB.
LONG_LOG_PAGES: Final = 16_384

_CHECKPOINT: Final = "PRAGMA wal_checkpoint(PASSIVE)"


class Checkpointer:
    """Checkpoint a database whenever enough has been written to its log. Idle, the thread is not woken up.

    Parameters:
        connection: a second connection to the database, which the thread uses and closes.
        on_failure: called from the thread with the error when a checkpoint failed; there are none after that.
    """

    def __init__(self, connection: sqlite3.Connection, on_failure: Callable[[sqlite3.Error], None]) -> None:
        self._connection = connection
        self._on_failure = on_failure
        self._due = threading.Event()
        self._ending = False
        self._unfinished = False
        self._written = 0
        self._thread = threading.Thread(target=self._run, name="mplite-checkpoint", daemon=True)
        self._thread.start()

    def wrote(self, estimate: int) -> None:
        """Take note that so many bytes were written to the log. Called by the writer after each commit."""
        self._written += estimate
        if self._written >= CHECKPOINT_BYTES:
            self._written = 0
            self._due.set()

    def finish_if_long(self, writer: sqlite3.Connection) -> None:
        """Finish the checkpoint of a log that has become too long. Called by the writer between transactions."""
        if self._unfinished:
            self._unfinished = False
            writer.execute(_CHECKPOINT)

    def close(self) -> None:
        """End the thread, after the checkpoint that it may be doing."""
        self._ending = True
        self._due.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while True:
                self._due.wait()
                if self._ending:
                    return
                self._due.clear()
                _, pages, done = self._connection.execute(_CHECKPOINT).fetchone()
                self._unfinished = pages > LONG_LOG_PAGES and done > 0
        except sqlite3.Error as exc:
            self._on_failure(exc)
        finally:
            self._connection.close()

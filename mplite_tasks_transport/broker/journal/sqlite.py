"""The journal in a SQLite database, with a write-ahead log."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from ...errors import JournalError
from .checkpoint import Checkpointer
from .codec import DROP_MESSAGES, STATEMENTS, TABLES, Row, Table, damaged, fits
from .database import READ_ERRORS, check_structure, connect, last_stamp, prepare, store_last_stamp
from .filesystem import refuse_network_filesystem
from .port import DropQueue, Durability, KeepMessage, KeepResult, Record
from .spans import Spans
from .writer import Writer

__all__ = ["SQLiteJournal"]

#: Rows that are fetched at once while loading.
_LOAD_ROWS: Final = 1000

#: Bytes that a transaction writes to the log besides its contents: the pages of the tables' ends and of the clock.
_TRANSACTION_BYTES: Final = 4 * 4096

#: Bytes that a record changes besides its contents: rows lie close together, so several share a page.
_RECORD_BYTES: Final = 1024

#: Microseconds by which the last stamp in the file runs ahead, so that only one transaction a second writes it: a page
#: and a statement less in the others. After a crash the clock goes on from there, at most so much too late. It is
#: doubled up to that from little, so that crashes in a row do not add up: until the wall clock has caught up, stamps
#: go on by one microsecond each, and a short life needs few.
_STAMPS_AHEAD: Final = 1_000_000
_FIRST_STAMPS_AHEAD: Final = 1_000

#: Errors that leave the journal usable once there is room again; after any other one its state is in doubt.
_PASSING: Final = frozenset({"SQLITE_FULL", "SQLITE_NOMEM", "SQLITE_TOOBIG"})

#: What a turn of the broker becomes: statements, each with the rows to run it with.
Batch = list[tuple[str, list[Row]]]


def _ignore(_: object) -> None:
    return


class SQLiteJournal:
    """Keep records in a database file: ``os``: a confirmed record survives ``kill -9``, ``fsync``: a power cut too.

    With ``os`` each :meth:`append` commits on the calling thread (about 20 µs) and calls ``on_durable`` before it
    returns; checkpoints are made in a thread. With ``fsync`` a writer thread commits what has been appended while the
    disk was busy as one transaction, and calls ``on_durable`` and ``on_failure`` from there.

    The caller sees to it that no other process has the file open for writing (a lock of the data directory).

    Parameters:
        path: the file; it is made, with mode 0600, if it does not exist. Its directory has to.
        durability: ``os`` or ``fsync``.
        allow_network_filesystem: whether the file may be on another machine's disk.
        factory: the class of the connections; a seam for tests that make the disk fail.

    Raises:
        JournalError: the file cannot be opened, is not a journal, is newer than this version or is damaged; then it
            is left as it is. A damaged row is found by :meth:`load`.
    """

    def __init__(
        self,
        path: Path,
        durability: Durability = Durability.OS,
        *,
        allow_network_filesystem: bool = False,
        factory: type[sqlite3.Connection] = sqlite3.Connection,
    ) -> None:
        if durability is Durability.MEMORY:
            raise JournalError("A journal in a file has the durability os or fsync; memory has no file.")
        if not allow_network_filesystem:
            refuse_network_filesystem(path.parent)
        self.path = path
        self.durability: Durability = durability
        self.on_durable: Callable[[int], None] = _ignore
        self.on_failure: Callable[[BaseException], None] = _ignore
        self._spans = Spans()
        self._sequence = 0
        self._stamps_ahead = _FIRST_STAMPS_AHEAD
        self._failure: BaseException | None = None
        self._failing = threading.Lock()
        self._closed = False
        prepare(path)
        self._connection = connect(path, durability, factory=factory)
        try:
            self._last_stamp = self._stored_stamp = last_stamp(self._connection, path)
            second = connect(path, durability, factory=factory)
        except BaseException:
            self._connection.close()
            raise
        self._checkpointer = Checkpointer(second, self._fail)
        self._writer = Writer(self._commit, self._durable, self._fail) if durability is Durability.FSYNC else None

    def last_stamp(self) -> int:
        """Return the last stamp that was ever appended, in microseconds; 0 in a new journal.

        After a crash it is a later one, by a second at most.
        """
        return self._last_stamp

    def load(self) -> Iterator[Record]:
        """Yield what is kept, in the order that the port says, without holding all of it in memory.

        Raises:
            JournalError: a row, or the structure that holds the rows, is damaged; the text names table, row and file.
        """
        check_structure(self._connection, self.path)
        for table in TABLES:
            for record in self._rows(table):
                if isinstance(record, KeepMessage):
                    self._spans.note(record.queue, record.stamp)
                yield record
        self._spans.know()

    def append(self, records: Sequence[Record], last_stamp: int) -> int:
        """Keep the records of one turn, in their order, as one transaction, and return its sequence number.

        Raises:
            JournalError: they could not be kept, or an earlier failure has ended the journal.
        """
        if self._closed or self._failure is not None:
            state = "is closed" if self._closed else f"has failed ({self._failure})"
            raise JournalError(f"The journal {self.path} {state}: nothing can be kept any more.") from self._failure
        batch, size = _batch(records, self._spans)
        self._last_stamp = max(self._last_stamp, last_stamp)
        if self._writer is not None:
            self._sequence += 1
            self._writer.put(self._sequence, batch, size, self._last_stamp)
            return self._sequence
        try:
            self._commit(batch, size, self._last_stamp)
        except sqlite3.Error as exc:
            self._spans.doubt()
            if exc.sqlite_errorname not in _PASSING:
                self._fail(exc)
            raise JournalError(f"The journal {self.path} cannot keep what the broker was told: {exc}.") from exc
        self._sequence += 1
        self.on_durable(self._sequence)
        return self._sequence

    def close(self) -> None:
        """Finish what was appended and let go of the files. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._writer is not None:
            self._writer.close()
        self._store_exact_stamp()
        self._checkpointer.close()
        self._connection.close()

    def _rows(self, table: Table) -> Iterator[Record]:
        last: Row | None = None
        try:
            cursor = self._connection.execute(table.select)
            while rows := cursor.fetchmany(_LOAD_ROWS):
                for row in rows:
                    if not fits(row):
                        raise damaged(self.path, f"table {table.name}, row {_key(table, row)}")
                    last = row
                    yield table.record(*row[:-1])
        except READ_ERRORS as exc:
            where = "at its beginning" if last is None else f"after row {_key(table, last)}"
            raise damaged(self.path, f"table {table.name}, {where}: SQLite says {str(exc)!r}") from exc

    def _commit(self, batch: Batch, size: int, stamp: int) -> None:
        """Run the batch as one transaction. Raises :class:`sqlite3.Error`; then nothing of it is kept."""
        connection = self._connection
        ahead = stamp + self._stamps_ahead if stamp > self._stored_stamp else self._stored_stamp
        self._checkpointer.finish_if_long(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            for sql, rows in batch:
                connection.executemany(sql, rows)
            if ahead != self._stored_stamp:
                store_last_stamp(connection, ahead)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        if ahead != self._stored_stamp:
            self._stored_stamp = ahead
            self._stamps_ahead = min(2 * self._stamps_ahead, _STAMPS_AHEAD)
        self._checkpointer.wrote(size)

    def _store_exact_stamp(self) -> None:
        if self._failure is None and self._stored_stamp > self._last_stamp:
            with contextlib.suppress(sqlite3.Error):  # the later stamp that is there does as well
                store_last_stamp(self._connection, self._last_stamp)

    def _durable(self, sequence: int) -> None:
        self.on_durable(sequence)

    def _fail(self, error: BaseException) -> None:
        """End the journal: after a failed sync nobody knows what the disk has, and it is never tried again."""
        with self._failing:
            first, self._failure = self._failure is None, self._failure or error
        if first:
            self.on_failure(JournalError(f"The journal {self.path} has failed: {error}."))


def _batch(records: Sequence[Record], spans: Spans) -> tuple[Batch, int]:
    """Return the statements for these records and about how many bytes they add to the log."""
    batch: Batch = []
    size = _TRANSACTION_BYTES + _RECORD_BYTES * len(records)
    for kind, group in groupby(records, type):
        statement = STATEMENTS[kind]
        same = list(group)
        for record in same:
            if isinstance(record, KeepMessage):
                spans.note(record.queue, record.stamp)
                size += len(record.payload)
            elif isinstance(record, KeepResult):
                size += len(record.value)
        if kind is DropQueue:
            spans_dropped = [(r.number, *spans.take(r.number)) for r in same if isinstance(r, DropQueue)]
            batch.append((DROP_MESSAGES, spans_dropped))
        rows = list(map(statement.row, same))
        batch.extend((sql, rows) for sql in statement.sql)
    return batch, size


def _key(table: Table, row: Row) -> str:
    names = list(table.columns)
    return ", ".join(f"{name} {row[names.index(name)]!r}" for name in table.key)

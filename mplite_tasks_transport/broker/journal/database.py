"""The journal's file: it is made, recognised and opened here. A file that is not ours is never changed."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Final

from ...errors import JournalError
from .codec import RECENT, TABLES, checksum, damaged, fits
from .port import Durability

__all__ = ["FORMAT", "READ_ERRORS", "check_structure", "connect", "last_stamp", "prepare", "store_last_stamp"]

#: Stands in the file's header: "MPLT".
APPLICATION_ID: Final = 0x4D504C54

#: What reading a damaged file can raise: SQLite quotes damaged names in its messages, which are then no UTF-8.
READ_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)

#: The version of the tables. A higher one is refused, a lower one is migrated. 2 has the table of recent ids.
FORMAT: Final = 2

_MAGIC: Final = b"SQLite format 3\0"
_HEADER_BYTES: Final = 100  # section 1.3 of SQLite's file format; user_version at 60, application_id at 68

#: Bytes of the page cache, as a negative number of KiB: the inner pages of a backlog of millions stay in memory.
_CACHE: Final = -16_384

_SYNCHRONOUS: Final = {Durability.OS: "NORMAL", Durability.FSYNC: "FULL"}

# One row, found by its rowid: every transaction writes its page.
_CLOCK_DDL: Final = "CREATE TABLE clock (one INTEGER PRIMARY KEY, last_stamp INTEGER NOT NULL, crc INTEGER NOT NULL)"
_STORE_CLOCK: Final = "INSERT OR REPLACE INTO clock (one, last_stamp, crc) VALUES (1, ?, ?)"


def prepare(path: Path) -> None:
    """Make the file if there is none, with mode 0600, or check that it is a journal that this version can read.

    Raises:
        JournalError: it is something else, or written by a newer version, or cannot be read. It is left as it is.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "rb") as stream:
            header = stream.read(_HEADER_BYTES)
    except OSError as exc:
        raise JournalError(f"The journal {path} cannot be opened: {exc.strerror}.") from exc
    if header:
        if _check_header(path, header) < FORMAT:
            _migrate(path)
        return
    try:
        _create(path)
    except sqlite3.Error as exc:
        raise JournalError(f"The journal {path} cannot be made: {exc}.") from exc


def connect(
    path: Path,
    durability: Durability,
    *,
    factory: type[sqlite3.Connection] = sqlite3.Connection,
) -> sqlite3.Connection:
    """Return a connection to the file in WAL mode, whose transactions are begun and committed by hand.

    It may be used from any one thread at a time. It never checkpoints by itself.

    Raises:
        JournalError: the file cannot be opened as a database.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=factory)
    except sqlite3.Error as exc:
        raise JournalError(f"The journal {path} cannot be opened: {exc}.") from exc
    try:
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA cache_size = {_CACHE}")
    except READ_ERRORS as exc:
        connection.close()
        raise damaged(path, f"SQLite says {str(exc)!r}") from exc
    if mode != "wal":
        connection.close()
        raise JournalError(f"The journal {path} is on a file system that cannot have a write-ahead log.")
    return connection


def check_structure(connection: sqlite3.Connection, path: Path) -> None:
    """Raise :class:`JournalError` if the pages that hold the rows are damaged, so that a row could be missing.

    A checksum tells of a row that changed, and not of one that cannot be reached any more. 0.3 s for a million rows.
    """
    try:
        findings = [str(row[0]) for row in connection.execute("PRAGMA quick_check(1)")]
    except READ_ERRORS as exc:
        findings = [str(exc)]
    if findings != ["ok"]:
        raise damaged(path, f"SQLite says {' '.join(' '.join(findings).split())!r}")


def last_stamp(connection: sqlite3.Connection, path: Path) -> int:
    """Return the last stamp that was kept. Raises :class:`JournalError` if it is missing or damaged."""
    try:
        row = connection.execute("SELECT last_stamp, crc FROM clock").fetchone()
    except READ_ERRORS as exc:
        raise damaged(path, f"table clock: SQLite says {str(exc)!r}") from exc
    if row is None or not fits(row):
        raise damaged(path, "table clock, row 1")
    stamp: int = row[0]
    return stamp


def store_last_stamp(connection: sqlite3.Connection, stamp: int) -> None:
    """Keep the last stamp, as a part of the transaction that is open."""
    connection.execute(_STORE_CLOCK, (stamp, checksum((stamp,))))


def _check_header(path: Path, header: bytes) -> int:
    """Return the version of a journal's tables. Raises :class:`JournalError` if it is none that can be read."""
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise JournalError(f"{path} is not a journal, or its beginning is damaged. It is left as it is; name another.")
    application = int.from_bytes(header[68:72], "big")
    if application != APPLICATION_ID:
        raise JournalError(f"{path} is another program's database (0x{application:08x}). It is left as it is.")
    version = int.from_bytes(header[60:64], "big")
    if version > FORMAT:
        raise JournalError(
            f"The journal {path} has format {version}, which a newer version wrote; this one knows up to {FORMAT}. "
            "It is left as it is: use the newer version, or another data directory."
        )
    if version < 1:
        raise damaged(path, f"its format is {version}")
    return version


def _migrate(path: Path) -> None:
    """Bring the tables to this version. Done again until a checkpoint has brought the version to the header."""
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for line in RECENT.ddl:
                connection.execute(line.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1))
            connection.execute(f"PRAGMA user_version = {FORMAT}")
            connection.execute("COMMIT")
    except READ_ERRORS as exc:
        raise damaged(path, f"SQLite says {str(exc)!r}") from exc


def _create(path: Path) -> None:
    """Make the tables in one transaction, before the write-ahead log: the header in the file says what it is."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        for statement in (_CLOCK_DDL, *(line for table in TABLES for line in table.ddl)):
            connection.execute(statement)
        store_last_stamp(connection, 0)
        connection.execute("COMMIT")
    finally:
        connection.close()

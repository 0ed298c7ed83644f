"""How records become rows of a database and rows become records again, with a checksum over every field.

SQLite does not notice a flipped bit in a row, so each row carries a CRC-32 of all of its other columns in msgpack. A
row that does not fit its checksum is never served.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ...errors import JournalError
from .port import (
    DropBinding,
    DropExchange,
    DropHolder,
    DropMessage,
    DropQueue,
    DropRecent,
    DropResult,
    KeepBinding,
    KeepExchange,
    KeepHolder,
    KeepMessage,
    KeepQueue,
    KeepRecent,
    KeepResult,
    Record,
)

__all__ = [
    "DROP_MESSAGES",
    "RECENT",
    "STATEMENTS",
    "TABLES",
    "Row",
    "Statement",
    "Table",
    "checksum",
    "damaged",
    "fits",
]

Row = tuple[Any, ...]

_MAX_INTEGER: Final = 2**63 - 1

_checksum_encoder: Final = msgspec.msgpack.Encoder()
# Sorted, because a binding is found again by its arguments.
_encode: Final = msgspec.msgpack.Encoder(order="sorted").encode
_decode_mapping: Final = msgspec.msgpack.Decoder(dict[str, Any]).decode
_decode_stamps: Final = msgspec.msgpack.Decoder(list[int]).decode
_decode_ids: Final = msgspec.msgpack.Decoder(list[str]).decode


def checksum(fields: Row) -> int:
    """Return the CRC-32 of these values of columns."""
    return zlib.crc32(_checksum_encoder.encode(fields))


def fits(row: Row) -> bool:
    """Return whether a row's last column is the checksum of the others."""
    return bool(checksum(row[:-1]) == row[-1])


def damaged(path: object, what: str) -> JournalError:
    """Return the error for a journal that has something in it that nobody wrote."""
    return JournalError(
        f"The journal {path} is damaged: {what}. It is left as it is: restore it from a copy, or move it away to begin "
        "with a new one."
    )


@dataclass(frozen=True, slots=True)
class Table:
    """One table: what it is made of, and how its rows become records.

    Parameters:
        columns: their names and SQL types, without the checksum.
        key: the names of the columns that identify a row, in the order in which rows are loaded.
        record: makes the record from the columns without the checksum. It may raise for values of a damaged row.
        indexed: the columns that another record's drop looks up.
        clustered: whether the rows themselves lie in the order of their key. Otherwise that is an index beside them,
            and a transaction writes a page of each.
    """

    name: str
    columns: dict[str, str]
    key: tuple[str, ...]
    record: Callable[..., Record]
    indexed: tuple[str, ...] = ()
    clustered: bool = False

    @property
    def ddl(self) -> list[str]:
        """The statements that make the table."""
        columns = ", ".join(f"{name} {kind} NOT NULL" for name, kind in self.columns.items())
        create = f"CREATE TABLE {self.name} ({columns}, crc INTEGER NOT NULL, PRIMARY KEY ({', '.join(self.key)}))"
        if self.clustered:
            create += " WITHOUT ROWID"
        return [create, *(f"CREATE INDEX {self.name}_{name} ON {self.name} ({name})" for name in self.indexed)]

    @property
    def select(self) -> str:
        """The statement that reads all rows in the order of their keys."""
        return f"SELECT {', '.join(self.columns)}, crc FROM {self.name} ORDER BY {', '.join(self.key)}"  # noqa: S608

    @property
    def replace(self) -> str:
        """The statement that keeps a row."""
        marks = ", ".join("?" for _ in range(len(self.columns) + 1))
        return f"INSERT OR REPLACE INTO {self.name} ({', '.join(self.columns)}, crc) VALUES ({marks})"  # noqa: S608

    @property
    def delete(self) -> str:
        """The statement that drops a row by its key."""
        return self.delete_by(*self.key)

    def delete_by(self, *columns: str) -> str:
        """Return the statement that drops the rows that have these values."""
        return f"DELETE FROM {self.name} WHERE {' AND '.join(f'{name} = ?' for name in columns)}"  # noqa: S608


@dataclass(frozen=True, slots=True)
class Statement:
    """What a type of record does: these statements, each with the row that is made from the record."""

    sql: tuple[str, ...]
    row: Callable[[Any], Row]


EXCHANGES: Final = Table(
    "exchanges",
    {"vhost": "TEXT", "name": "TEXT", "kind": "TEXT", "auto_delete": "INTEGER", "arguments": "BLOB"},
    ("vhost", "name"),
    lambda vhost, name, kind, auto_delete, arguments: KeepExchange(
        vhost, name, kind, bool(auto_delete), _decode_mapping(arguments)
    ),
)

QUEUES: Final = Table(
    "queues",
    {"number": "INTEGER", "vhost": "TEXT", "name": "TEXT", "auto_delete": "INTEGER", "arguments": "BLOB"},
    ("number",),
    lambda number, vhost, name, auto_delete, arguments: KeepQueue(
        number, vhost, name, bool(auto_delete), _decode_mapping(arguments)
    ),
)

BINDINGS: Final = Table(
    "bindings",
    {"vhost": "TEXT", "exchange": "TEXT", "queue": "INTEGER", "routing_key": "TEXT", "arguments": "BLOB"},
    ("vhost", "exchange", "queue", "routing_key", "arguments"),
    lambda vhost, exchange, queue, routing_key, arguments: KeepBinding(
        vhost, exchange, queue, routing_key, _decode_mapping(arguments)
    ),
    indexed=("queue",),
)

MESSAGES: Final = Table(
    "messages",
    {
        "stamp": "INTEGER",
        "queue": "INTEGER",
        "id": "TEXT",
        "priority": "INTEGER",
        "due": "INTEGER",
        "expires": "INTEGER",
        "deliveries": "INTEGER",
        "exchange": "TEXT",
        "routing_key": "TEXT",
        "payload": "BLOB",
    },
    ("stamp",),
    KeepMessage,
)

HOLDERS: Final = Table(
    "holders",
    {"identity": "TEXT", "pid": "INTEGER", "pid_started": "INTEGER", "stamps": "BLOB"},
    ("identity",),
    lambda identity, pid, pid_started, stamps: KeepHolder(identity, pid, pid_started, _decode_stamps(stamps)),
    clustered=True,
)

RESULTS: Final = Table(
    "results",
    {"vhost": "TEXT", "id": "TEXT", "state": "TEXT", "value": "BLOB", "final": "INTEGER", "expires": "INTEGER"},
    ("vhost", "id"),
    lambda vhost, id, state, value, final, expires: KeepResult(vhost, id, state, value, bool(final), expires),
)

RECENT: Final = Table(
    "recent",
    {"queue": "INTEGER", "stamp": "INTEGER", "ids": "BLOB"},
    ("queue", "stamp"),
    lambda queue, stamp, ids: KeepRecent(queue, stamp, _decode_ids(ids)),
    clustered=True,
)

#: The tables in the order in which they are loaded: what others refer to comes first.
TABLES: Final = (EXCHANGES, QUEUES, BINDINGS, MESSAGES, HOLDERS, RESULTS, RECENT)


def _message(record: KeepMessage) -> Row:
    _refuse_overflow(record.due, record.expires)
    fields = msgspec.structs.astuple(record)
    return (*fields, checksum(fields))


def _result(record: KeepResult) -> Row:
    _refuse_overflow(record.expires)
    return _sealed(record.vhost, record.id, record.state, record.value, int(record.final), record.expires)


def _sealed(*fields: Any) -> Row:
    return (*fields, checksum(fields))


def _refuse_overflow(*times: int) -> None:
    if max(times) > _MAX_INTEGER:
        raise JournalError(f"The time {max(times)} (microseconds since the epoch) is beyond what the journal can keep.")


#: Drops the messages of a queue that lie between two stamps.
DROP_MESSAGES: Final = f"{MESSAGES.delete_by('queue')} AND stamp BETWEEN ? AND ?"

#: What each type of record does to the database. The messages of a dropped queue are not among it.
STATEMENTS: Final[dict[type[Record], Statement]] = {
    KeepExchange: Statement(
        (EXCHANGES.replace,), lambda r: _sealed(r.vhost, r.name, r.kind, int(r.auto_delete), _encode(r.arguments))
    ),
    KeepQueue: Statement(
        (QUEUES.replace,), lambda r: _sealed(r.number, r.vhost, r.name, int(r.auto_delete), _encode(r.arguments))
    ),
    KeepBinding: Statement(
        (BINDINGS.replace,), lambda r: _sealed(r.vhost, r.exchange, r.queue, r.routing_key, _encode(r.arguments))
    ),
    KeepMessage: Statement((MESSAGES.replace,), _message),
    KeepHolder: Statement((HOLDERS.replace,), lambda r: _sealed(r.identity, r.pid, r.pid_started, _encode(r.stamps))),
    KeepResult: Statement((RESULTS.replace,), _result),
    KeepRecent: Statement((RECENT.replace,), lambda r: _sealed(r.queue, r.stamp, _encode(r.ids))),
    DropExchange: Statement((EXCHANGES.delete, BINDINGS.delete_by("vhost", "exchange")), lambda r: (r.vhost, r.name)),
    DropQueue: Statement(
        (BINDINGS.delete_by("queue"), RECENT.delete_by("queue"), QUEUES.delete), lambda r: (r.number,)
    ),
    DropBinding: Statement(
        (BINDINGS.delete,), lambda r: (r.vhost, r.exchange, r.queue, r.routing_key, _encode(r.arguments))
    ),
    DropMessage: Statement((MESSAGES.delete,), lambda r: (r.stamp,)),
    DropHolder: Statement((HOLDERS.delete,), lambda r: (r.identity,)),
    DropRecent: Statement((f"{RECENT.delete_by('queue')} AND stamp < ?",), lambda r: (r.queue, r.before)),
    DropResult: Statement((RESULTS.delete,), lambda r: (r.vhost, r.id)),
}

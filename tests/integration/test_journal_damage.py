"""Crashes, failing disks, and files that are damaged or not ours."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mplite_tasks_transport.broker.journal import Durability, MemoryJournal, SQLiteJournal, checkpoint, database
from mplite_tasks_transport.broker.journal import filesystem as filesystem_module
from mplite_tasks_transport.broker.journal.filesystem import filesystem_type
from mplite_tasks_transport.broker.journal.port import DropMessage, KeepMessage, Record
from mplite_tasks_transport.errors import JournalError

from ..support.appender import TURN
from ..support.journals import BASE, Confirmations, keep, message, queue

KEEPING = [Durability.OS, Durability.FSYNC]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def load(path: Path) -> list[Record]:
    journal = SQLiteJournal(path)
    try:
        return list(journal.load())
    finally:
        journal.close()


def turns_of(records: list[Record]) -> Counter[int]:
    """Count the messages of each turn that the appender wrote."""
    return Counter(int(record.payload) for record in records if isinstance(record, KeepMessage))


# Crashes


@pytest.mark.parametrize("durability", KEEPING)
def test_after_kill_9_every_confirmed_turn_is_there_and_no_half_turn(path: Path, durability: Durability) -> None:
    command = [sys.executable, "-m", "tests.support.appender", str(path), str(durability)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        confirmed = [process.stdout.readline() for _ in range(50)]
        process.kill()
        confirmed += process.stdout.readlines()
    last = int(confirmed[-1])

    turns = turns_of(load(path))

    assert set(turns) >= set(range(2, last + 1)), "confirmed turns are missing"
    assert set(turns.values()) == {TURN}, "a turn was kept by half"


def test_a_log_that_was_cut_anywhere_holds_whole_turns_only(path: Path, tmp_path: Path) -> None:
    journal = SQLiteJournal(path)
    journal.append([queue()], BASE)
    for turn in range(2, 30):
        journal.append([message(turn * TURN + n, payload=b"%d" % turn) for n in range(TURN)], BASE)
    copy = tmp_path / "copy"
    copy.mkdir()
    whole = Path(f"{path}-wal").read_bytes()
    draw = random.Random(7)

    for cut in [0, 1, 32, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(40))]:
        target = copy / f"{cut}.sqlite"
        shutil.copy(path, target)
        Path(f"{target}-wal").write_bytes(whole[:cut])
        turns = turns_of(load(target))

        assert set(turns.values()) <= {TURN}, f"cut at byte {cut}: a turn was kept by half"
        assert sorted(turns) == list(range(2, 2 + len(turns))), (
            f"cut at byte {cut}: a later turn without an earlier one"
        )
    journal.close()


# Disks that fail


class FailingConnection(sqlite3.Connection):
    """A connection whose commits fail while ``error`` is set."""

    error: sqlite3.Error | None = None
    attempts = 0

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        cls = type(self)
        if sql == "COMMIT" and cls.error is not None:
            cls.attempts += 1
            raise cls.error
        return super().execute(sql, parameters)


def sqlite_error(name: str) -> sqlite3.Error:
    error = sqlite3.OperationalError(f"made up {name}")
    error.sqlite_errorname = name
    return error


@pytest.fixture
def disk() -> type[FailingConnection]:
    """A class of connections of its own for each test."""
    return type("Disk", (FailingConnection,), {})


def test_a_turn_that_finds_the_disk_full_is_refused_whole_and_the_next_one_is_kept(
    path: Path, disk: type[FailingConnection]
) -> None:
    journal = SQLiteJournal(path, factory=disk)
    confirmations = Confirmations(journal)
    journal.append([queue()], BASE)
    disk.error = sqlite_error("SQLITE_FULL")

    with pytest.raises(JournalError, match="cannot keep"):
        journal.append([message(1), message(2)], BASE)
    disk.error = None
    number = journal.append([message(3)], BASE)

    assert (number, confirmations.durable, confirmations.failures) == (2, [1, 2], [])
    journal.close()
    assert load(path) == [queue(), message(3)]


def test_a_failed_write_ends_the_journal_and_is_not_tried_again(path: Path, disk: type[FailingConnection]) -> None:
    journal = SQLiteJournal(path, factory=disk)
    confirmations = Confirmations(journal)
    journal.append([queue()], BASE)
    disk.error = sqlite_error("SQLITE_IOERR_WRITE")

    for _ in range(2):
        with pytest.raises(JournalError):
            journal.append([message(1)], BASE)

    assert disk.attempts == 1
    assert len(confirmations.failures) == 1
    assert isinstance(confirmations.failures[0], JournalError)
    journal.close()
    assert load(path) == [queue()]


def test_a_failed_sync_ends_the_journal_and_nothing_is_confirmed_after_it(
    path: Path, disk: type[FailingConnection]
) -> None:
    journal = SQLiteJournal(path, Durability.FSYNC, factory=disk)
    confirmations = Confirmations(journal)
    confirmations.wait_for(journal.append([queue()], BASE))
    disk.error = sqlite_error("SQLITE_IOERR_FSYNC")

    journal.append([message(1)], BASE)
    error = confirmations.wait_for_failure()
    with pytest.raises(JournalError, match="nothing can be kept"):
        journal.append([message(2)], BASE)
    journal.close()

    assert "SQLITE_IOERR_FSYNC" in str(error)
    assert str(path) in str(error)
    assert (confirmations.durable, len(confirmations.failures), disk.attempts) == ([1], 1, 1)


def test_a_failed_checkpoint_ends_the_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "CHECKPOINT_BYTES", 1)
    monkeypatch.setattr(checkpoint, "_CHECKPOINT", "not a statement")
    journal = SQLiteJournal(path)
    confirmations = Confirmations(journal)

    journal.append([queue()], BASE)

    assert isinstance(confirmations.wait_for_failure(), JournalError)
    journal.close()


def test_the_log_does_not_grow_without_end_while_turns_go_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "CHECKPOINT_BYTES", 64 * 1024)
    monkeypatch.setattr(checkpoint, "LONG_LOG_PAGES", 50)
    journal = SQLiteJournal(path)
    log = Path(f"{path}-wal")
    unchanged = longest = 0

    for offset in range(50_000):
        journal.append([message(offset, payload=bytes(4000))], BASE)
        size = log.stat().st_size
        unchanged, longest = (unchanged + 1, longest) if size == longest else (0, size)
        if unchanged == 100:  # a hundred turns of three pages went to room that the log already had
            break

    journal.close()
    assert unchanged == 100, f"the log has grown to {longest} bytes"


# Files that are damaged


def test_a_flipped_bit_is_never_served(path: Path, tmp_path: Path) -> None:
    records: list[Record] = [queue(), *(message(n, payload=b"%d" % n * 20) for n in range(60))]
    keep(SQLiteJournal(path), records)
    whole = path.read_bytes()
    target = tmp_path / "flipped.sqlite"
    draw = random.Random(11)
    used = [offset for offset, byte in enumerate(whole) if byte]
    found = 0

    for _ in range(250):
        offset, bit = draw.choice(used), draw.randrange(8)
        target.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1 << bit]) + whole[offset + 1 :])
        try:
            assert load(target) == records, f"bit {bit} of byte {offset} changed what is served"
        except JournalError as exc:
            found += 1
            assert str(target) in str(exc)
            assert "\n" not in str(exc)

    assert found > 150, "the damage was hardly ever noticed"


def test_damage_is_named_by_table_row_and_file_and_the_file_is_left(path: Path) -> None:
    keep(SQLiteJournal(path), [queue(), message(1, payload=b"what was written"), message(2)])
    whole = path.read_bytes().replace(b"what was written", b"what was wrotten")
    path.write_bytes(whole)

    with pytest.raises(JournalError) as caught:
        load(path)

    assert f"table messages, row stamp {BASE + 1}" in str(caught.value)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == whole


def test_a_damaged_clock_is_refused(path: Path) -> None:
    keep(SQLiteJournal(path), [queue()])
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE clock SET last_stamp = 1")
    connection.close()

    with pytest.raises(JournalError, match="table clock"):
        SQLiteJournal(path)


# Files that are not ours


def set_version(path: Path, version: int) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()


def make_text(path: Path) -> None:
    path.write_text("my diary\n" * 1000)


def make_torn(path: Path) -> None:
    keep(SQLiteJournal(path), [queue()])
    os.truncate(path, 50)


def make_half(path: Path) -> None:
    keep(SQLiteJournal(path), [queue(), *(message(n, payload=bytes(3000)) for n in range(20))])
    os.truncate(path, path.stat().st_size // 8192 * 4096)


def make_foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE messages (stamp INTEGER PRIMARY KEY)")
    connection.close()


def make_newer(path: Path) -> None:
    keep(SQLiteJournal(path), [queue()])
    set_version(path, database.FORMAT + 1)


def make_unversioned(path: Path) -> None:
    keep(SQLiteJournal(path), [queue()])
    set_version(path, 0)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (make_text, "is not a journal"),
        (make_torn, "is not a journal"),
        (make_half, "is damaged"),
        (make_foreign, "another program's database"),
        (make_newer, "newer version"),
        (make_unversioned, "is damaged"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_and_not_changed(
    path: Path, make: Callable[[Path], None], text: str
) -> None:
    make(path)
    before = path.read_bytes()

    with pytest.raises(JournalError, match=text) as caught:
        load(path)

    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


def test_a_file_in_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="No such file"):
        SQLiteJournal(tmp_path / "none" / "journal.sqlite")


def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    path.touch()

    keep(SQLiteJournal(path), [queue()])

    assert load(path) == [queue()]


def test_only_the_owner_can_read_a_journal(path: Path) -> None:
    journal = SQLiteJournal(path)
    journal.append([queue()], BASE)

    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}

    assert set(modes.values()) == {0o600}, modes
    journal.close()


def test_after_thousands_of_drops_a_journal_has_exactly_what_is_left(path: Path) -> None:
    turns: list[list[Record]] = [[message(n) for n in range(k * 500, k * 500 + 500)] for k in range(10)]
    keep(SQLiteJournal(path), *turns)

    keep(SQLiteJournal(path), [DropMessage(BASE + n) for n in range(5000) if n % 7])

    assert load(path) == [message(n) for n in range(0, 5000, 7)]


def test_memory_has_no_file(path: Path) -> None:
    with pytest.raises(JournalError, match="memory has no file"):
        SQLiteJournal(path, Durability.MEMORY)
    assert not path.exists()
    MemoryJournal().close()


# File systems

MOUNTS = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 27 0:40 / /net rw shared:1 - nfs4 server:/export rw
41 40 0:41 / /net/disk rw - xfs /dev/vdb rw
42 27 0:42 / /with\040space rw - fuse.sshfs me@there: rw
43 27 0:43 / /twice rw - nfs server:/old rw
44 27 0:44 / /twice rw - ext4 /dev/vdc rw
"""


@pytest.mark.parametrize(
    ("directory", "kind"),
    [
        ("/var/lib/mplite", "ext4"),
        ("/net", "nfs4"),
        ("/net/a/b", "nfs4"),
        ("/network", "ext4"),
        ("/net/disk/a", "xfs"),
        ("/with space/a", "fuse.sshfs"),
        ("/twice/a", "ext4"),
    ],
)
def test_the_file_system_of_a_directory_is_the_deepest_and_last_mount(directory: str, kind: str) -> None:
    assert filesystem_type(Path(directory), MOUNTS) == kind


def test_the_real_mount_table_can_be_read(tmp_path: Path) -> None:
    assert filesystem_type(tmp_path)


def test_a_network_file_system_is_refused_unless_allowed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem_module, "filesystem_type", lambda _: "nfs4")

    with pytest.raises(JournalError, match=r"network file system \(nfs4\).*--allow-network-filesystem"):
        SQLiteJournal(path)
    assert not path.exists()

    SQLiteJournal(path, allow_network_filesystem=True).close()

"""The last stamp over a crash: the clock of the next broker never goes back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mplite_tasks_transport.broker.journal import Durability, SQLiteJournal
from mplite_tasks_transport.broker.journal.port import DropMessage, KeepMessage, KeepQueue

SECOND = 1_000_000
STAMP = 1_700_000_000 * SECOND


def stamp_after_crash(journal: SQLiteJournal, directory: Path) -> int:
    """Return the last stamp that a broker finds in the files that this one, still running, has written."""
    directory.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{journal.path}{suffix}", directory / f"journal{suffix}")
    found = SQLiteJournal(directory / "journal")
    stamp = found.last_stamp()
    found.close()
    return stamp


def test_after_a_crash_the_last_stamp_is_no_earlier_than_any_that_was_kept_and_a_second_later_at_most(
    tmp_path: Path,
) -> None:
    journal = SQLiteJournal(tmp_path / "journal")
    list(journal.load())
    journal.append([KeepQueue(1, "/", "q", False, {})], STAMP)
    for number, later in enumerate((1, 2, SECOND, SECOND + 1, SECOND + 2, 5 * SECOND)):
        stamp = STAMP + later
        journal.append([KeepMessage(stamp, 1, str(stamp), 0, 0, 0, 0, "", "q", b"")], stamp)
        journal.append([DropMessage(stamp)], stamp)

        assert stamp <= stamp_after_crash(journal, tmp_path / f"crash{number}") <= stamp + SECOND
    journal.close()


@pytest.mark.parametrize("durability", [Durability.OS, Durability.FSYNC])
def test_after_an_orderly_end_the_last_stamp_is_exact(tmp_path: Path, durability: Durability) -> None:
    for life in range(1, 4):
        journal = SQLiteJournal(tmp_path / "journal", durability)
        list(journal.load())
        journal.append([KeepQueue(life, "/", "q", False, {})], STAMP + life)
        journal.close()

        again = SQLiteJournal(tmp_path / "journal", durability)
        assert again.last_stamp() == STAMP + life
        again.close()


def test_crashes_in_a_row_do_not_add_up(tmp_path: Path) -> None:
    last = STAMP
    dead: list[SQLiteJournal] = []
    for life in range(20):
        path = tmp_path / f"life{life}" / "journal"
        path.parent.mkdir()
        if life:
            for suffix in ("", "-wal"):
                shutil.copy(tmp_path / f"life{life - 1}" / f"journal{suffix}", f"{path}{suffix}")
        journal = SQLiteJournal(path)
        dead.append(journal)  # closed at the end only: a crash closes nothing
        list(journal.load())
        last = max(journal.last_stamp(), last)
        for _ in range(10):  # the wall clock stands still: each stamp is a microsecond after the last
            last += 1
            journal.append([KeepQueue(life, "/", f"q{life}", False, {})], last)
    for journal in dead:
        journal.close()
    assert last - STAMP < SECOND

"""What outlives the broker: the port that it writes to, and the journals behind it."""

from __future__ import annotations

from .memory import MemoryJournal
from .port import Durability, Journal
from .sqlite import SQLiteJournal

__all__ = ["Durability", "Journal", "MemoryJournal", "SQLiteJournal"]

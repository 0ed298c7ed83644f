"""The journal that keeps nothing: everything ends with the broker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .port import Durability, Record

__all__ = ["MemoryJournal"]


def _ignore(_: object) -> None:
    return


class MemoryJournal:
    """Confirm everything at once and keep none of it."""

    def __init__(self) -> None:
        self.durability = Durability.MEMORY
        self.on_durable: Callable[[int], None] = _ignore
        self.on_failure: Callable[[BaseException], None] = _ignore
        self._sequence = 0

    def load(self) -> Iterable[Record]:
        """Return nothing: nothing is kept."""
        return ()

    def last_stamp(self) -> int:
        """Return 0: nothing is kept."""
        return 0

    def append(self, records: Sequence[Record], last_stamp: int) -> int:
        """Return the next sequence number, after :attr:`on_durable` was called with it."""
        self._sequence += 1
        self.on_durable(self._sequence)
        return self._sequence

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

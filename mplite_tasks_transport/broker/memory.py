"""The memory watermark: how many bytes of messages the broker holds, and whether publishers have to wait."""

from __future__ import annotations

import os
from pathlib import Path

from ..limits import MEMORY_RESUME_RATIO, MEMORY_WATERMARK_RATIO

__all__ = ["Memory", "available_bytes"]

#: What a message costs beside its payload: its entry, its id and its places in the dicts and the order, measured.
ENTRY_BYTES = 600

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def available_bytes() -> int:
    """Return the memory of this machine, or what the control group allows if that is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP_LIMITS:
        try:
            return min(machine, int(path.read_text()))
        except (OSError, ValueError):  # no such controller, or "max"
            continue
    return machine


class Memory:
    """Counts what messages and results take, against a limit.

    Above ``limit`` publishers wait; they go on when the count has fallen to 90% of it. Consumers are never stopped.

    Parameters:
        limit: bytes; ``None`` for 40% of what the machine or the control group allows.
    """

    __slots__ = ("blocked", "held", "limit")

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit or int(available_bytes() * MEMORY_WATERMARK_RATIO)
        self.held = 0
        self.blocked = False

    def add(self, payload: bytes) -> None:
        """Count a message or a result that came."""
        self.held += len(payload) + ENTRY_BYTES
        if self.held > self.limit:
            self.blocked = True

    def remove(self, payload: bytes) -> None:
        """Count a message or a result that went."""
        self.held -= len(payload) + ENTRY_BYTES
        if self.blocked and self.held <= self.limit * MEMORY_RESUME_RATIO:
            self.blocked = False

    @property
    def reason(self) -> str:
        """Why publishers wait, for them to read."""
        return (
            f"The broker holds {self.held:,} bytes of messages and results, over its memory watermark of "
            f"{self.limit:,}. Publishes wait until consumers have caught up or results have expired; start more "
            "workers, keep results for less time, or raise --memory-limit."
        )

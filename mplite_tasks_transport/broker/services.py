"""What every part of the broker core shares: the clock, the agenda, the memory count, and what the turn produces."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from .agenda import Agenda
from .clock import Clock
from .journal.port import Record
from .memory import Memory
from .queue import Queue
from .session import Holder, Session

__all__ = ["LATER", "Services"]

#: What a handler returns when the answer comes later.
LATER: Final = object()


@dataclass(slots=True)
class Services:
    """Shared state of one broker core.

    Parameters:
        records: what the journal has to keep of this turn, in order.
        stirred: queues that got a message, a waiter or their lock back since they were last matched.
        talking: sessions that have frames to be sent.
        holders: consumers by identity.
        holders_changed: those whose record in the journal is out of date.
        settled: ids that left a queue in this turn and that the journal has to remember.
        next_queue: the number of the next durable queue.
        crowded: queues for whose room publishes wait.
        joined: queues for whose end of work requests wait.
    """

    clock: Clock
    memory: Memory
    agenda: Agenda = field(default_factory=Agenda)
    records: list[Record] = field(default_factory=list)
    stirred: dict[Queue, None] = field(default_factory=dict)
    talking: dict[Session, None] = field(default_factory=dict)
    holders: dict[str, Holder] = field(default_factory=dict)
    holders_changed: dict[str, Holder] = field(default_factory=dict)
    settled: dict[Queue, list[str]] = field(default_factory=dict)
    next_queue: int = 1
    crowded: dict[Queue, None] = field(default_factory=dict)
    joined: dict[Queue, None] = field(default_factory=dict)

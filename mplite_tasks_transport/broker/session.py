"""A session: what the broker core knows of one client connection. It has no socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..frames import Push

if TYPE_CHECKING:
    from .channel import Channel, Held
    from .queue import Lock, Queue
    from .vhost import VHost
    from .views import Reservation, Staged

__all__ = ["Holder", "Process", "Session"]


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this machine, told apart from a later one with the same pid.

    Parameters:
        pid: its process id; 0 for a peer on another machine.
        started: the kernel's start time, in clock ticks since boot.
    """

    pid: int = 0
    started: int = 0


@dataclass(slots=True)
class Holder:
    """A consumer by its identity, across connections and lives of the broker.

    Parameters:
        process: where it runs.
        session: its connection now, ``None`` while it has not come back to a restarted broker.
        absent: what it held when the broker ended and has not taken over yet, by stamp.
        kept: whether the journal has a record of it.
    """

    identity: str
    process: Process
    session: Session | None = None
    absent: dict[int, Held] = field(default_factory=dict)
    kept: bool = False


class Session:
    """One client connection.

    Attributes:
        out: frames to be sent, in order.
        out_bytes: about how many bytes those frames and the ones before them that are not sent yet have.
        writable: false while the client reads too slowly; then it gets no deliveries.
        resumed: deliveries of an earlier connection that this one took over, by stamp.
        waits: how to take its requests back that wait for something, by request id.
        staged: messages of which it has written one half, by queue and id.
        reserved: messages of which it has popped one half, by queue and id.
        refused: requests that its user may not make.
        queue_locks: queues whose lock it has.
        leases_lost: queues whose lock was taken back, until it was told.
        parked_bytes: bytes of its publishes that wait for memory.
    """

    __slots__ = (
        "channels",
        "exclusive",
        "holder",
        "leases_lost",
        "locks",
        "out",
        "out_bytes",
        "parked_bytes",
        "process",
        "queue_locks",
        "refused",
        "reserved",
        "resumed",
        "staged",
        "user",
        "vhost",
        "waits",
        "writable",
    )

    def __init__(self, vhost: VHost, *, user: str = "", process: Process | None = None) -> None:
        self.vhost = vhost
        self.user = user
        self.process = process or Process()
        self.channels: dict[int, Channel] = {}
        self.holder: Holder | None = None
        self.resumed: dict[int, Held] = {}
        self.locks: dict[str, Lock] = {}
        self.exclusive: list[Queue] = []
        self.refused: frozenset[type[Any]] = frozenset()
        self.waits: dict[int, Callable[[], None]] = {}
        self.staged: dict[tuple[Queue, str], Staged] = {}
        self.reserved: dict[tuple[Queue, str], Reservation] = {}
        self.queue_locks: set[Queue] = set()
        self.leases_lost: set[Queue] = set()
        self.out: list[Push] = []
        self.out_bytes = 0
        self.writable = True
        self.parked_bytes = 0

    def held(self) -> Iterator[Held]:
        """Iterate over everything that the connection has and has not settled."""
        for channel in self.channels.values():
            yield from channel.held.values()
        yield from self.resumed.values()

    def send(self, frame: Push, size: int = 32) -> None:
        """Have a frame sent at the end of the turn. ``size`` is about how many bytes it will have."""
        self.out.append(frame)
        self.out_bytes += size

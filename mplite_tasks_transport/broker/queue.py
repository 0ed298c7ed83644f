"""A queue: the pair ``shared_index`` and ``shared_queue``, its lock, and who waits for its messages."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ..frames import Publish
from .index import Entry, PriorityIndex
from .recent import RecentIds

if TYPE_CHECKING:
    from .agenda import Appointment
    from .channel import Channel, Consumer, Held
    from .locks import LockWaiter
    from .session import Session
    from .vhost import VHost

__all__ = ["Lock", "Queue", "QueueLock"]


class Lock:
    """A lock that belongs to a connection; nobody else can release it, and it ends with the connection."""

    __slots__ = ("holder",)

    def __init__(self) -> None:
        self.holder: Session | None = None

    def acquire(self, session: Session) -> bool:
        """Take the lock unless somebody else has it. Returns whether the session has it now."""
        if self.holder is None:
            self.holder = session
        return self.holder is session

    def release(self, session: Session) -> bool:
        """Give the lock back. Returns whether the session had it."""
        if self.holder is not session:
            return False
        self.holder = None
        return True


class QueueLock:
    """Who has a queue's lock, and who waits for it, first come, first served."""

    __slots__ = ("alarm", "holder", "waiting")

    def __init__(self) -> None:
        self.holder: Session | None = None
        self.alarm: Appointment | None = None
        self.waiting: deque[LockWaiter] = deque()


class Queue:
    """One named queue.

    Every message of the queue is in one of three places: ``shared_index`` (it waits), ``delayed`` (it is not due) or
    ``held`` (a consumer has it). ``shared_queue`` has the payloads of the first two.

    Attributes:
        number: the queue's key in the journal; 0 for a queue that is not kept there.
        owner: the connection that it is exclusive to, or ``None``.
        waiters: channels with credit and a consumer here, in the order in which they began to wait.
        deleted: it is in its vhost no more; what is still held of it will not come back.
        consumers: how many consumers it has.
        sole: the consumer that is exclusive here, if there is one.
        max_length: how many messages may be in it, waiting or delayed, before a publish is refused; ``None`` for any.
        line: publishes that wait for room, in their order.
        joiners: requests that are answered when nothing is left: who, and their ids.
        lock: held while a message is taken out; while a connection holds it, nothing is matched.
    """

    __slots__ = (
        "arguments",
        "auto_delete",
        "consumers",
        "delayed",
        "deleted",
        "held",
        "joiners",
        "line",
        "lock",
        "max_length",
        "name",
        "number",
        "owner",
        "recent",
        "shared_index",
        "shared_queue",
        "sole",
        "vhost",
        "waiters",
    )

    def __init__(
        self,
        vhost: VHost,
        name: str,
        *,
        number: int = 0,
        auto_delete: bool = False,
        arguments: dict[str, Any] | None = None,
        owner: Session | None = None,
    ) -> None:
        self.vhost = vhost
        self.name = name
        self.number = number
        self.auto_delete = auto_delete
        self.arguments = arguments or {}
        self.owner = owner
        self.shared_index = PriorityIndex()
        self.shared_queue: dict[str, bytes] = {}
        self.delayed: dict[str, Entry] = {}
        self.held: dict[str, Held] = {}
        self.recent = RecentIds()
        self.lock = QueueLock()
        self.max_length = max_length_of(self.arguments)
        self.line: deque[tuple[Session, Publish]] = deque()
        self.joiners: list[tuple[Session, int]] = []
        self.waiters: dict[Channel, None] = {}
        self.consumers = 0
        self.sole: Consumer | None = None
        self.deleted = False

    def __repr__(self) -> str:
        return f"<Queue {self.name}: {len(self.shared_index)} waiting, {len(self.held)} held>"

    @property
    def durable(self) -> bool:
        """Whether the queue is in the journal."""
        return self.number != 0

    @property
    def is_full(self) -> bool:
        """Whether a publish has to wait, or is refused."""
        return self.max_length is not None and len(self.shared_queue) >= self.max_length

    def knows(self, id: str, now: int) -> bool:
        """Return whether the queue holds a message of this id, or held it lately."""
        return self.has(id) or self.recent.has(id, now)

    def has(self, id: str) -> bool:
        """Return whether a message of this id is in the queue: waiting, delayed or held."""
        return id in self.shared_queue or id in self.held

    def put(self, entry: Entry, payload: bytes) -> None:
        """Let a message wait at its place."""
        self.shared_queue[entry.id] = payload
        self.shared_index.add(entry)

    def put_off(self, entry: Entry, payload: bytes) -> None:
        """Keep a message until it is due."""
        self.shared_queue[entry.id] = payload
        self.delayed[entry.id] = entry

    def take(self) -> tuple[Entry, bytes]:
        """Take out the message that runs next. Raises :class:`IndexError` if none waits."""
        entry = self.shared_index.pop_best()
        return entry, self.shared_queue.pop(entry.id)

    def find(self, id: str) -> Entry | None:
        """Return the entry of a waiting or delayed message."""
        return self.shared_index.get(id) or self.delayed.get(id)

    def remove(self, id: str) -> tuple[Entry, bytes] | None:
        """Take out a waiting or delayed message by its id; ``None`` if there is none."""
        entry = self.shared_index.remove(id) or self.delayed.pop(id, None)
        return None if entry is None else (entry, self.shared_queue.pop(id))


def max_length_of(arguments: dict[str, Any]) -> int | None:
    """Return the length at which a queue refuses publishes, by RabbitMQ's names for it; ``None`` for no limit."""
    length = arguments.get("x-max-length")
    if isinstance(length, int) and length > 0 and arguments.get("x-overflow") == "reject-publish":
        return length
    return None

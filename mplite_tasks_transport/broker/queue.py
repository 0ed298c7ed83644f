"""A queue: the pair ``shared_index`` and ``shared_queue``, its lock, and who waits for its messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .index import Entry, PriorityIndex
from .recent import RecentIds

if TYPE_CHECKING:
    from .channel import Channel, Consumer, Held
    from .session import Session
    from .vhost import VHost

__all__ = ["Lock", "Queue"]


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
        lock: held while a message is taken out; while a connection holds it, nothing is matched.
    """

    __slots__ = (
        "arguments",
        "auto_delete",
        "consumers",
        "delayed",
        "deleted",
        "held",
        "lock",
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
        self.lock = Lock()
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

"""A channel: consumers that share one credit, and the deliveries that they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .index import Entry, SortKey
from .queue import Queue

if TYPE_CHECKING:
    from .session import Session

__all__ = ["Channel", "Consumer", "Held"]


class Consumer:
    """One consumer of one queue.

    Attributes:
        starts_on_delivery: each delivery counts as started when it is handed out.
    """

    __slots__ = ("channel", "no_ack", "queue", "starts_on_delivery", "tag")

    def __init__(
        self, channel: Channel, tag: str, queue: Queue, *, no_ack: bool = False, starts_on_delivery: bool = False
    ) -> None:
        self.channel = channel
        self.tag = tag
        self.queue = queue
        self.no_ack = no_ack
        self.starts_on_delivery = starts_on_delivery


class Held:
    """A message that a connection has and has not settled.

    Attributes:
        session: who has it; ``None`` while a process that outlived an earlier broker has it and has not come back.
        channel: the channel it was delivered on; ``None`` for one that was taken over from an earlier connection.
        started: the consumer reported that it works on it.
        uses_credit: whether its channel's credit was spent on it.
    """

    __slots__ = ("channel", "entry", "payload", "queue", "session", "started", "uses_credit")

    def __init__(
        self,
        queue: Queue,
        entry: Entry,
        payload: bytes,
        *,
        session: Session | None,
        channel: Channel | None = None,
        started: bool = False,
        uses_credit: bool = False,
    ) -> None:
        self.queue = queue
        self.entry = entry
        self.payload = payload
        self.session = session
        self.channel = channel
        self.started = started
        self.uses_credit = uses_credit


class Channel:
    """One channel of one connection.

    Attributes:
        prefetch: how many deliveries may be without returned credit; 0 for any number.
        used: how many are.
        held: what it has and has not settled, by delivery tag, in the order of delivery.
        by_queue: its consumers, by queue.
    """

    __slots__ = ("by_queue", "consumers", "held", "next_delivery", "number", "prefetch", "session", "used")

    def __init__(self, session: Session, number: int) -> None:
        self.session = session
        self.number = number
        self.prefetch = 0
        self.used = 0
        self.consumers: dict[str, Consumer] = {}
        self.by_queue: dict[Queue, list[Consumer]] = {}
        self.held: dict[int, Held] = {}
        self.next_delivery = 1

    @property
    def has_credit(self) -> bool:
        """Whether the channel may be sent one more delivery that needs credit."""
        return self.prefetch == 0 or self.used < self.prefetch

    def may_take_from(self, queue: Queue) -> bool:
        """Return whether a message of this queue may be sent now."""
        if not self.session.writable:
            return False
        return self.has_credit or any(consumer.no_ack for consumer in self.by_queue[queue])

    def add_consumer(self, consumer: Consumer) -> None:
        """Register a consumer."""
        self.consumers[consumer.tag] = consumer
        self.by_queue.setdefault(consumer.queue, []).append(consumer)
        consumer.queue.consumers += 1

    def remove_consumer(self, consumer: Consumer) -> None:
        """End a consumer; what it holds stays held."""
        del self.consumers[consumer.tag]
        siblings = self.by_queue[consumer.queue]
        siblings.remove(consumer)
        consumer.queue.consumers -= 1
        if consumer.queue.sole is consumer:
            consumer.queue.sole = None
        if not siblings:
            del self.by_queue[consumer.queue]
            consumer.queue.waiters.pop(self, None)

    def next_consumer(self, queue: Queue) -> Consumer:
        """Return the consumer of this queue whose turn it is: in rotation, and only those that may take one."""
        consumers = self.by_queue[queue]
        if len(consumers) == 1:
            return consumers[0]
        consumer = next(c for c in consumers if c.no_ack or self.has_credit)
        consumers.remove(consumer)
        consumers.append(consumer)
        return consumer

    def best_queue(self) -> Queue | None:
        """Return the queue, among those that the channel waits for, whose head runs before all other heads."""
        if len(self.by_queue) == 1:
            (queue,) = self.by_queue
            return queue if self in queue.waiters and queue.shared_index and not queue.lock.holder else None
        best: Queue | None = None
        best_key: SortKey | None = None
        for queue in self.by_queue:
            if self not in queue.waiters or queue.lock.holder:
                continue
            key = queue.shared_index.best_key()
            if key is not None and (best_key is None or key < best_key):
                best, best_key = queue, key
        return best

    def hold(self, held: Held) -> int:
        """Keep a delivery until it is settled, and return its tag."""
        tag = self.next_delivery
        self.next_delivery += 1
        self.held[tag] = held
        return tag

    def return_credit(self, count: int) -> None:
        """Take credit back; more than was used has no effect."""
        self.used = max(0, self.used - count)

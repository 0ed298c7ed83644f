"""The life of a message: it arrives, waits or is delayed, is delivered, and is settled, put back, or dead.

``docs/design.md`` has it as a state table; each transition is one method here, and writes what the journal must know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import BrokerBusy, ProtocolError
from ..frames import Publish
from ..limits import MAX_MICROSECONDS, MAX_PAYLOAD_BYTES
from ..payload import Payload, decode_payload, encode_payload
from .channel import Held
from .index import Entry
from .journal.port import DropMessage, DropRecent, KeepMessage, KeepRecent
from .queue import Queue
from .services import Services
from .session import Holder
from .vhost import VHost

__all__ = ["Lifecycle", "QueueFull"]

_MICROSECONDS_PER_MS = 1000


class QueueFull(BrokerBusy):
    """A queue has as many messages as it may have."""

    def __init__(self, queue: Queue) -> None:
        super().__init__(f"Queue {queue.name!r} is full: it has {len(queue.shared_queue)} messages (x-max-length).")
        self.queue = queue


class Lifecycle:
    """Moves messages from state to state."""

    def __init__(self, services: Services) -> None:
        self._services = services

    # Arrival

    def publish(self, vhost: VHost, frame: Publish, *, again: bool = False) -> bool:
        """Route a message to its queues. Returns whether one took it.

        Parameters:
            again: the message follows from one that is being settled and may have its id (a retry, a dead letter): it
                is no repetition. Where its id is taken all the same, it gets one of its own.

        Raises :class:`NotFound` if there is no such exchange, :class:`QueueFull` if one of the queues is full.
        """
        queues = list(vhost.route(frame.exchange, frame.routing_key, lambda: headers_of(frame.payload)))
        if not again:
            for queue in queues:
                if queue.is_full and not queue.knows(frame.id, self._services.clock.reading()):
                    raise QueueFull(queue)
        for queue in queues:
            if again and queue.has(frame.id):
                self._arrive(queue, frame, f"{frame.id}~{self._services.clock.stamp()}")
            elif again or not queue.knows(frame.id, self._services.clock.reading()):
                self._arrive(queue, frame, frame.id)
        return bool(queues)

    def _arrive(self, queue: Queue, frame: Publish, id: str) -> None:
        now = self._services.clock.now()
        due = now + frame.delay if frame.delay else frame.due
        ttls = [ttl for ttl in (frame.ttl, _queue_ttl(queue)) if ttl]
        entry = Entry(
            id,
            frame.priority,
            self._services.clock.stamp(),
            due=due if due > now else 0,
            expires=max(due, now) + min(ttls) if ttls else 0,
            exchange=frame.exchange,
            routing_key=frame.routing_key,
            kept=frame.persistent and queue.durable,
        )
        self._services.memory.add(frame.payload)
        self._keep(queue, entry, frame.payload)
        self._enter(queue, entry, frame.payload)

    def restore(self, queue: Queue, record: KeepMessage) -> None:
        """Take back a message that the journal has. It may have been delivered before, so it says so."""
        entry = Entry(
            record.id,
            record.priority,
            record.stamp,
            due=record.due,
            expires=record.expires,
            deliveries=record.deliveries,
            redelivered=True,
            exchange=record.exchange,
            routing_key=record.routing_key,
            kept=True,
        )
        self._services.memory.add(record.payload)
        self._enter(queue, entry, record.payload)

    def _enter(self, queue: Queue, entry: Entry, payload: bytes) -> None:
        if entry.due > self._services.clock.now():
            queue.put_off(entry, payload)
            entry.alarm = self._services.agenda.add(entry.due, self._come_due, queue, entry)
        else:
            queue.put(entry, payload)
            self._ready(queue, entry)

    def _ready(self, queue: Queue, entry: Entry) -> None:
        """A message waits now, until somebody takes it or it expires."""
        self._services.stirred[queue] = None
        if entry.expires and (entry.alarm is None or entry.alarm.call is None):
            entry.alarm = self._services.agenda.add(entry.expires, self._expire, queue, entry)

    def _come_due(self, queue: Queue, entry: Entry) -> None:
        if queue.delayed.get(entry.id) is not entry:
            return
        del queue.delayed[entry.id]
        queue.shared_index.add(entry)
        self._ready(queue, entry)

    # Delivery

    def take(self, queue: Queue) -> tuple[Entry, bytes] | None:
        """Take out the message that runs next; ``None`` if none is left. What has expired is buried on the way."""
        while queue.shared_index:
            entry, payload = queue.take()
            if entry.expires == 0 or entry.expires > self._services.clock.now():
                return entry, payload
            self._bury(queue, entry, payload, "expired")
        return None

    def hold(self, held: Held) -> None:
        """A connection has the message now."""
        held.queue.held[held.entry.id] = held
        if held.started:
            self.start(held)

    def start(self, held: Held) -> None:
        """The consumer begins with the message."""
        held.started = True
        if held.session is not None and held.session.holder is not None and held.entry.kept:
            self.note_holder(held.session.holder)

    def note_holder(self, holder: Holder) -> None:
        """What this consumer holds has changed; the journal is told at the end of the turn."""
        self._services.holders_changed[holder.identity] = holder

    # Ends

    def done(self, held: Held) -> None:
        """The message is acked: it leaves its queue for good."""
        self._release(held)
        self.leave(held.queue, held.entry, held.payload)

    def leave(self, queue: Queue, entry: Entry, payload: bytes) -> None:
        """A message that is in none of the queue's places any more is gone for good."""
        queue.recent.add(entry.id, self._services.clock.reading())
        if entry.alarm is not None:
            self._services.agenda.cancel(entry.alarm)
        self._services.memory.remove(payload)
        if entry.kept:
            self._services.records.append(DropMessage(entry.stamp))
            self._services.settled.setdefault(queue, []).append(entry.id)

    def write_settled(self) -> None:
        """Tell the journal at the end of the turn which ids were settled: a broker that comes back knows them too."""
        records, now = self._services.records, self._services.clock.reading()
        for queue, ids in self._services.settled.items():
            if queue.deleted:
                continue
            records.append(KeepRecent(queue.number, queue.recent.next_batch(now), ids))
            forgotten = queue.recent.newly_forgotten()
            if forgotten is not None:
                records.append(DropRecent(queue.number, forgotten))
        self._services.settled.clear()

    def put_back(self, held: Held, *, died: bool = False) -> None:
        """The message goes back to its old place.

        Parameters:
            died: its consumer died; if it had started, that counts towards the queue's delivery limit.
        """
        self._release(held)
        if held.started and held.session is not None and held.session.holder is not None:
            # The stamp of a message that is gone means nothing, but this one stays: say that it is not held any more.
            self.note_holder(held.session.holder)
        queue, entry, payload = held.queue, held.entry, held.payload
        if queue.deleted:
            self.leave(queue, entry, payload)
            return
        entry.redelivered = True
        if died and held.started:
            entry.deliveries += 1
            limit = queue.arguments.get("x-delivery-limit")
            if isinstance(limit, int) and entry.deliveries >= limit:
                self._bury(queue, entry, payload, "delivery_limit")
                return
            self._keep(queue, entry, payload)
        queue.put(entry, payload)
        self._ready(queue, entry)

    def reject(self, held: Held) -> None:
        """The message is refused: to the queue's dead letters if it has any, else dropped."""
        self._release(held)
        self._bury(held.queue, held.entry, held.payload, "rejected")

    def change_priority(self, queue: Queue, id: str, priority: int) -> bool:
        """Give a waiting or delayed message another priority; its stamp stays. Returns whether it was there."""
        entry = queue.shared_index.remove(id)
        if entry is None:
            entry = queue.delayed.get(id)
            if entry is None:
                return False
            entry.priority = priority
        else:
            entry.priority = priority
            queue.shared_index.add(entry)
        self._keep(queue, entry, queue.shared_queue[id])
        return True

    def change_payload(self, queue: Queue, id: str, payload: bytes) -> None:
        """Give a waiting or delayed message another payload; its place stays."""
        entry = queue.find(id)
        if entry is None:
            return
        self._services.memory.remove(queue.shared_queue[id])
        self._services.memory.add(payload)
        queue.shared_queue[id] = payload
        self._keep(queue, entry, payload)

    @staticmethod
    def _release(held: Held) -> None:
        del held.queue.held[held.entry.id]

    def _expire(self, queue: Queue, entry: Entry) -> None:
        if queue.find(entry.id) is not entry:
            return  # a consumer has it; if it comes back, it expires then
        removed = queue.remove(entry.id)
        if removed is not None:
            self._bury(queue, *removed, "expired")

    def _bury(self, queue: Queue, entry: Entry, payload: bytes, reason: str) -> None:
        """Publish the message to where the queue's dead letters go, with its history, and let it leave."""
        exchange = queue.arguments.get("x-dead-letter-exchange")
        vhost = queue.vhost
        self.leave(queue, entry, payload)
        if not isinstance(exchange, str):
            return
        key = queue.arguments.get("x-dead-letter-routing-key", entry.routing_key)
        letter = Publish(0, exchange, str(key), entry.id, entry.priority, with_death(payload, queue, entry, reason))
        if exchange in vhost.exchanges or not exchange:
            self.publish(vhost, letter, again=True)

    def _keep(self, queue: Queue, entry: Entry, payload: bytes) -> None:
        if entry.kept:
            self._services.records.append(
                KeepMessage(
                    entry.stamp,
                    queue.number,
                    entry.id,
                    entry.priority,
                    entry.due,
                    entry.expires,
                    entry.deliveries,
                    entry.exchange,
                    entry.routing_key,
                    payload,
                )
            )


def _queue_ttl(queue: Queue) -> int:
    """Return the queue's time to live for messages in microseconds; 0 for none."""
    ttl = queue.arguments.get("x-message-ttl")
    return min(ttl * _MICROSECONDS_PER_MS, MAX_MICROSECONDS) if isinstance(ttl, int) and ttl > 0 else 0


def headers_of(payload: bytes) -> Mapping[str, Any]:
    """Return the headers of a message; none if its payload cannot be read."""
    try:
        headers = decode_payload(payload).properties.get("headers")
    except ProtocolError:
        return {}
    return headers if isinstance(headers, dict) else {}


def with_death(data: bytes, queue: Queue, entry: Entry, reason: str) -> bytes:
    """Return a payload whose header ``x-death`` tells, newest first, where and why the message died.

    The fields are those of RabbitMQ's dead letters: queue, reason, exchange, routing-keys, count. A payload that cannot
    be read, or would become too large, is kept as it is.
    """
    try:
        payload = decode_payload(data)
    except ProtocolError:
        return data
    headers = dict(headers_of(data))
    earlier = headers.get("x-death")
    history = [death for death in earlier if isinstance(death, dict)] if isinstance(earlier, list) else []
    same = [d for d in history if d.get("queue") == queue.name and d.get("reason") == reason]
    earlier_count = same[0].get("count") if same else 0
    death = {
        "queue": queue.name,
        "reason": reason,
        "exchange": entry.exchange,
        "routing-keys": [entry.routing_key],
        "count": 1 + (earlier_count if isinstance(earlier_count, int) else 0),
        "deliveries": entry.deliveries,
    }
    headers["x-death"] = [death, *(d for d in history if d not in same)]
    headers.setdefault("x-first-death-queue", queue.name)
    headers.setdefault("x-first-death-reason", reason)
    properties = {key: value for key, value in payload.properties.items() if key != "expiration"}
    told = encode_payload(Payload(payload.body, {**properties, "headers": headers}))
    return told if len(told) <= MAX_PAYLOAD_BYTES else data

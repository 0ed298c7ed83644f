"""Matching: the best waiting message goes to the channel that has waited longest for one.

Matching is done once a turn, after every frame of the turn was applied, so that it sees all of them: an urgent message
and a consumer's credit that arrive together meet before anything else is handed out.
"""

from __future__ import annotations

from ..frames import Deliver
from ..limits import OUTPUT_HIGH_BYTES
from .channel import Channel, Consumer, Held
from .index import Entry
from .lifecycle import Lifecycle
from .queue import Queue
from .services import Services
from .session import Session

__all__ = ["Matcher"]

#: What a delivery takes on the wire beside its payload, about, in bytes.
_DELIVERY_BYTES = 160


class Matcher:
    """Hands out messages.

    For each channel that waits: the message with the highest priority, then the earliest arrival, over all the queues
    that it consumes. Channels are served first come, first served, and in rotation while they have credit.
    """

    def __init__(self, services: Services, lifecycle: Lifecycle) -> None:
        self._services = services
        self._lifecycle = lifecycle

    def update(self, channel: Channel) -> None:
        """The channel's credit, consumers or its connection's readiness changed: let it wait where it may."""
        for queue in channel.by_queue:
            if not channel.may_take_from(queue):
                queue.waiters.pop(channel, None)
            elif channel not in queue.waiters:
                queue.waiters[channel] = None
                if queue.shared_index:
                    self._services.stirred[queue] = None

    def match(self, most: int) -> bool:
        """Hand out what can be handed out, at most ``most`` messages. Returns whether some may be left."""
        stirred = self._services.stirred
        while stirred:
            queue = next(iter(stirred))
            while queue.shared_index and queue.waiters and queue.lock.holder is None:
                if most <= 0:
                    return True
                channel = next(iter(queue.waiters))
                self._serve(channel, channel.best_queue() or queue)
                most -= 1
            del stirred[queue]
        return False

    def _serve(self, channel: Channel, queue: Queue) -> None:
        taken = self._lifecycle.take(queue)
        if taken is None:
            return
        consumer = channel.next_consumer(queue)
        self._deliver(consumer, *taken)
        if not (channel.session.writable and channel.has_credit):
            self.update(channel)
        for line in (other.waiters for other in channel.by_queue):  # to the end of every line that it still stands in
            if channel in line:
                del line[channel]
                line[channel] = None

    def _deliver(self, consumer: Consumer, entry: Entry, payload: bytes) -> None:
        channel = consumer.channel
        if consumer.no_ack:
            self._lifecycle.leave(consumer.queue, entry, payload)
            tag = channel.next_delivery
            channel.next_delivery += 1
        else:
            channel.used += 1
            held = Held(
                consumer.queue,
                entry,
                payload,
                session=channel.session,
                channel=channel,
                started=consumer.starts_on_delivery,
                uses_credit=True,
            )
            self._lifecycle.hold(held)
            tag = channel.hold(held)
        frame = self.delivery(channel, consumer.tag, tag, consumer.queue, entry, payload)
        self.send(channel.session, frame, len(payload) + _DELIVERY_BYTES)

    def delivery(
        self, channel: Channel, consumer: str, tag: int, queue: Queue, entry: Entry, payload: bytes
    ) -> Deliver:
        """Return the frame that hands a message out now."""
        return Deliver(
            channel.number,
            consumer,
            tag,
            queue.name,
            entry.exchange,
            entry.routing_key,
            entry.id,
            entry.priority,
            entry.stamp,
            self._services.clock.stamp(),
            entry.deliveries,
            entry.redelivered,
            payload,
        )

    def send(self, session: Session, frame: Deliver, size: int) -> None:
        """Have a delivery sent; a client that reads too slowly gets no more until it has caught up."""
        session.send(frame, size)
        self._services.talking[session] = None
        if session.out_bytes > OUTPUT_HIGH_BYTES and session.writable:
            session.writable = False
            for channel in session.channels.values():
                self.update(channel)

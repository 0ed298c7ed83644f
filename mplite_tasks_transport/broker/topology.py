"""The requests that make and remove queues, exchanges, bindings and channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import frames
from ..errors import AccessRefused, BrokerBusy, ChannelNotOpen, PreconditionFailed
from ..limits import MAX_CHANNELS, MAX_CONSUMERS
from .channel import Channel, Consumer
from .lifecycle import Lifecycle
from .locks import QueueLocks
from .matching import Matcher
from .queue import Queue
from .room import Room
from .services import Services
from .session import Session
from .vhost import check_name

__all__ = ["Topology", "open_channel_of"]


def open_channel_of(session: Session, number: int) -> Channel:
    """Return a channel of a session. Raises :class:`ChannelNotOpen`."""
    channel = session.channels.get(number)
    if channel is None:
        raise ChannelNotOpen(f"Channel {number} is not open on this connection.")
    return channel


class Topology:
    """Answers the requests about named things and channels."""

    def __init__(
        self, services: Services, lifecycle: Lifecycle, matcher: Matcher, locks: QueueLocks, room: Room
    ) -> None:
        self._services = services
        self._locks = locks
        self._room = room
        self._lifecycle = lifecycle
        self._matcher = matcher

    def handlers(self) -> dict[type[Any], Callable[[Session, Any], Any]]:
        """Return the method for each request."""
        return {
            frames.OpenChannel: self._open_channel,
            frames.CloseChannel: self._close_channel,
            frames.DeclareExchange: self._declare_exchange,
            frames.DeleteExchange: self._delete_exchange,
            frames.DeclareQueue: self._declare_queue,
            frames.DeleteQueue: self._delete_queue,
            frames.BindQueue: self._bind,
            frames.UnbindQueue: self._unbind,
            frames.PurgeQueue: self._purge,
            frames.Consume: self._consume,
            frames.CancelConsumer: self._cancel,
        }

    # Channels

    def _open_channel(self, session: Session, frame: frames.OpenChannel) -> None:
        if frame.channel < 1 or frame.channel in session.channels:
            raise PreconditionFailed(f"Channel number {frame.channel} is taken, or is not 1 or more.")
        if len(session.channels) >= MAX_CHANNELS:
            raise BrokerBusy(f"This connection has {MAX_CHANNELS} channels already; close some.")
        session.channels[frame.channel] = Channel(session, frame.channel)

    def _close_channel(self, session: Session, frame: frames.CloseChannel) -> None:
        self.close_channel(open_channel_of(session, frame.channel), died=False)

    def close_channel(self, channel: Channel, *, died: bool) -> None:
        """End a channel's consumers, and put what it held back."""
        del channel.session.channels[channel.number]
        for consumer in list(channel.consumers.values()):
            self._end_consumer(consumer)
        for held in list(channel.held.values()):
            self._lifecycle.put_back(held, died=died)
        channel.held.clear()

    # Exchanges

    def _declare_exchange(self, session: Session, frame: frames.DeclareExchange) -> None:
        if frame.passive or not frame.name:
            if frame.name:
                session.vhost.exchange(frame.name)
            return
        session.vhost.declare_exchange(
            frame.name, frame.kind, durable=frame.durable, auto_delete=frame.auto_delete, arguments=frame.arguments
        )

    def _delete_exchange(self, session: Session, frame: frames.DeleteExchange) -> None:
        session.vhost.delete_exchange(frame.name, if_unused=frame.if_unused)

    def _bind(self, session: Session, frame: frames.BindQueue) -> None:
        queue = session.vhost.queue(frame.queue, session)
        session.vhost.bind(queue, frame.exchange, frame.routing_key, frame.arguments)

    def _unbind(self, session: Session, frame: frames.UnbindQueue) -> None:
        queue = session.vhost.queue(frame.queue, session)
        session.vhost.unbind(queue, frame.exchange, frame.routing_key, frame.arguments)

    # Queues

    def _declare_queue(self, session: Session, frame: frames.DeclareQueue) -> list[Any]:
        if frame.passive:
            queue = session.vhost.queue(frame.name, session)
        else:
            queue = session.vhost.declare_queue(
                frame.name,
                session,
                durable=frame.durable,
                exclusive=frame.exclusive,
                auto_delete=frame.auto_delete,
                arguments=frame.arguments,
            )
        return [queue.name, len(queue.shared_index), queue.consumers]

    def _delete_queue(self, session: Session, frame: frames.DeleteQueue) -> int:
        if frame.name not in session.vhost.queues:
            return 0  # RabbitMQ's reading of AMQP: nothing to delete is no error
        queue = session.vhost.queue(frame.name, session)
        waiting = len(queue.shared_index)
        if frame.if_unused and queue.consumers:
            raise PreconditionFailed(f"Queue {queue.name!r} has {queue.consumers} consumers.")
        if frame.if_empty and queue.shared_queue:
            raise PreconditionFailed(f"Queue {queue.name!r} has {len(queue.shared_queue)} messages.")
        self.delete_queue(queue)
        return waiting

    def delete_queue(self, queue: Queue) -> None:
        """Delete a queue with its messages, and tell its consumers."""
        queue.deleted = True
        for channel in self._channels_of(queue):
            for consumer in list(channel.by_queue.get(queue, ())):
                channel.remove_consumer(consumer)
                channel.session.send(frames.ConsumerCancelled(channel.number, consumer.tag))
                self._services.talking[channel.session] = None
        self._clear(queue)
        self._locks.forget(queue)
        self._room.forget(queue)
        self._services.stirred.pop(queue, None)
        queue.vhost.forget_queue(queue)

    def _channels_of(self, queue: Queue) -> list[Channel]:
        sessions = queue.vhost.sessions
        return [c for session in sessions for c in session.channels.values() if queue in c.by_queue]

    def _purge(self, session: Session, frame: frames.PurgeQueue) -> int:
        return self._clear(session.vhost.queue(frame.name, session))

    def _clear(self, queue: Queue) -> int:
        entries = queue.shared_index.clear() + list(queue.delayed.values())
        queue.delayed.clear()
        for entry in entries:
            self._lifecycle.leave(queue, entry, queue.shared_queue.pop(entry.id))
        return len(entries)

    # Consumers

    def _consume(self, session: Session, frame: frames.Consume) -> str:
        channel = open_channel_of(session, frame.channel)
        queue = session.vhost.queue(frame.queue, session)
        if frame.tag in channel.consumers:
            raise PreconditionFailed(f"Consumer tag {frame.tag!r} is in use on channel {frame.channel}.")
        if queue.consumers and (frame.exclusive or queue.sole is not None):
            raise AccessRefused(f"Queue {queue.name!r} has consumers, and an exclusive one must be the only one.")
        check_name("consumer", frame.tag)
        if sum(len(each.consumers) for each in session.channels.values()) >= MAX_CONSUMERS:
            raise BrokerBusy(f"This connection has {MAX_CONSUMERS} consumers already; cancel some.")
        consumer = Consumer(
            channel,
            frame.tag,
            queue,
            no_ack=frame.no_ack,
            starts_on_delivery=bool(frame.arguments.get("x-starts-on-delivery")),
        )
        channel.add_consumer(consumer)
        if frame.exclusive:
            queue.sole = consumer
        self._matcher.update(channel)
        return frame.tag

    def _cancel(self, session: Session, frame: frames.CancelConsumer) -> None:
        consumer = open_channel_of(session, frame.channel).consumers.get(frame.tag)
        if consumer is not None:
            self._end_consumer(consumer)

    def _end_consumer(self, consumer: Consumer) -> None:
        consumer.channel.remove_consumer(consumer)
        self._matcher.update(consumer.channel)
        queue = consumer.queue
        if queue.auto_delete and not queue.consumers and not queue.deleted:
            self.delete_queue(queue)

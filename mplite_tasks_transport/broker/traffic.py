"""The requests that move messages: publish, credit, ack, reject, get, settle, and the verbs of the index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from .. import frames
from ..errors import Code, ContentTooLarge, NoRoute, PreconditionFailed, StaleDelivery
from ..limits import MAX_ID_CHARS, MAX_MICROSECONDS, MAX_PAYLOAD_BYTES, MAX_PRIORITY, MIN_PRIORITY
from .channel import Channel, Held
from .lifecycle import Lifecycle, QueueFull, headers_of
from .matching import Matcher
from .room import Room
from .services import Services
from .session import Session
from .topology import open_channel_of
from .vhost import check_name

__all__ = ["RESUMED_CHANNEL", "Traffic", "check_priority", "check_result"]

#: The channel number under which deliveries of an earlier connection are settled, by their stamps.
RESUMED_CHANNEL = 0


class Traffic:
    """Answers the requests about messages."""

    def __init__(self, services: Services, lifecycle: Lifecycle, matcher: Matcher, room: Room) -> None:
        self._services = services
        self._lifecycle = lifecycle
        self._matcher = matcher
        self._room = room

    def handlers(self) -> dict[type[Any], Callable[[Session, Any], Any]]:
        """Return the method for each request."""
        return {
            frames.Publish: self.publish,
            frames.Qos: self._qos,
            frames.Credit: self._credit,
            frames.Ack: self._ack,
            frames.Reject: self._reject,
            frames.Recover: self._recover,
            frames.Get: self._get,
            frames.Started: self._started,
            frames.Settle: self._settle,
            frames.CancelMessage: self._cancel_message,
            frames.Reprioritise: self._reprioritise,
            frames.Position: self._position,
        }

    def publish(self, session: Session, frame: frames.Publish) -> object:
        """Route a message. Answers whether a queue took it; a mandatory one that none took is refused or sent back."""
        check_publish(frame)
        try:
            routed = self._lifecycle.publish(session.vhost, frame)
        except QueueFull as full:
            if frame.wait and frame.r:
                return self._room.line_up(session, frame, full.queue)
            raise
        if not routed and frame.mandatory:
            text = no_route_text(frame)
            if frame.r:
                raise NoRoute(text)
            session.send(frames.Returned(frame.exchange, frame.routing_key, Code.NO_ROUTE, text, frame.payload))
            self._services.talking[session] = None
        return routed

    # Credit

    def _qos(self, session: Session, frame: frames.Qos) -> None:
        if frame.prefetch < 0:
            raise PreconditionFailed(f"A prefetch count is 0 (no limit) or more, not {frame.prefetch}.")
        channel = open_channel_of(session, frame.channel)
        channel.prefetch = frame.prefetch
        self._matcher.update(channel)

    def _credit(self, session: Session, frame: frames.Credit) -> None:
        channel = open_channel_of(session, frame.channel)
        channel.return_credit(frame.count)
        self._matcher.update(channel)

    # Settling

    def _ack(self, session: Session, frame: frames.Ack) -> None:
        for held in self._settled(session, frame.channel, frame.delivery, frame.multiple, frame.credit):
            self._lifecycle.done(held)

    def _reject(self, session: Session, frame: frames.Reject) -> None:
        for held in self._settled(session, frame.channel, frame.delivery, frame.multiple, frame.credit):
            if frame.requeue:
                self._lifecycle.put_back(held)
            else:
                self._lifecycle.reject(held)

    def _settle(self, session: Session, frame: frames.Settle) -> None:
        for follow_up in frame.publish:
            self._check_follow_up(session, follow_up)
        if frame.result is not None:
            check_result(frame.result)
        (held,) = self._settled(session, frame.channel, frame.delivery, False, frame.credit)
        self._lifecycle.done(held)
        if frame.result is not None:
            session.vhost.results.store(frame.result)
        for follow_up in frame.publish:
            self._lifecycle.publish(session.vhost, follow_up, again=True)

    @staticmethod
    def _check_follow_up(session: Session, frame: frames.Publish) -> None:
        """Raise what a publish would, before anything is done."""
        check_publish(frame)
        queues = session.vhost.route(frame.exchange, frame.routing_key, lambda: headers_of(frame.payload))
        if frame.mandatory and not queues:
            raise NoRoute(no_route_text(frame))

    def _settled(self, session: Session, number: int, delivery: int, multiple: bool, credit: bool) -> list[Held]:
        """Take what is settled out of its channel, and return its credit."""
        if number == RESUMED_CHANNEL:
            resumed = session.resumed.pop(delivery, None)
            if resumed is None:
                raise StaleDelivery(
                    f"The message of stamp {delivery} is not held by this consumer: "
                    "it was settled before, or has gone back to its queue."
                )
            return [resumed]
        channel = open_channel_of(session, number)
        settled = self._select(channel, delivery, multiple)
        if credit:
            channel.return_credit(sum(held.uses_credit for held in settled))
            self._matcher.update(channel)
        return settled

    @staticmethod
    def _select(channel: Channel, delivery: int, multiple: bool) -> list[Held]:
        if multiple:
            tags = [tag for tag in channel.held if delivery == 0 or tag <= delivery]
            return [channel.held.pop(tag) for tag in tags]
        held = channel.held.pop(delivery, None)
        if held is None:
            if not 0 < delivery < channel.next_delivery:
                raise PreconditionFailed(f"Delivery tag {delivery} was never given out on channel {channel.number}.")
            raise StaleDelivery(
                f"Delivery tag {delivery} is not held by channel {channel.number} any more: "
                "it was settled before, or has gone back to its queue."
            )
        return [held]

    def _recover(self, session: Session, frame: frames.Recover) -> None:
        channel = open_channel_of(session, frame.channel)
        held, channel.held = list(channel.held.values()), {}
        for each in held:
            self._lifecycle.put_back(each)
        channel.return_credit(sum(each.uses_credit for each in held))
        self._matcher.update(channel)

    def _started(self, session: Session, frame: frames.Started) -> None:
        held = open_channel_of(session, frame.channel).held.get(frame.delivery)
        if held is not None:
            self._lifecycle.start(held)

    # Taking one

    def _get(self, session: Session, frame: frames.Get) -> list[Any] | None:
        channel = open_channel_of(session, frame.channel)
        queue = session.vhost.queue(frame.queue, session)
        taken = None if queue.lock.holder is not None else self._lifecycle.take(queue)
        if taken is None:
            return None
        entry, payload = taken
        if frame.no_ack:
            self._lifecycle.leave(queue, entry, payload)
            tag = 0
        else:
            held = Held(queue, entry, payload, session=session, channel=channel)
            self._lifecycle.hold(held)
            tag = channel.hold(held)
        return list(msgspec.structs.astuple(self._matcher.delivery(channel, "", tag, queue, entry, payload)))

    # The queue as an index

    def _cancel_message(self, session: Session, frame: frames.CancelMessage) -> bool:
        queue = session.vhost.queue(frame.queue, session)
        removed = queue.remove(frame.id)
        if removed is None:
            return False
        self._lifecycle.leave(queue, *removed)
        return True

    def _reprioritise(self, session: Session, frame: frames.Reprioritise) -> bool:
        check_priority(frame.priority)
        queue = session.vhost.queue(frame.queue, session)
        return self._lifecycle.change_priority(queue, frame.id, frame.priority)

    def _position(self, session: Session, frame: frames.Position) -> int | None:
        return session.vhost.queue(frame.queue, session).shared_index.rank(frame.id)


def check_publish(frame: frames.Publish) -> None:
    """Raise :class:`PreconditionFailed` if a message's id, priority or times are outside their limits."""
    check_priority(frame.priority)
    if not 0 < len(frame.id) <= MAX_ID_CHARS:
        raise PreconditionFailed(f"A message id has 1 to {MAX_ID_CHARS} characters, not {len(frame.id)}.")
    if min(frame.delay, frame.due, frame.ttl) < 0 or max(frame.delay, frame.due, frame.ttl) > MAX_MICROSECONDS:
        raise PreconditionFailed(
            f"A delay, a due time and a time to live are 0 (none) to {MAX_MICROSECONDS} microseconds, "
            f"not {frame.delay}, {frame.due} and {frame.ttl}."
        )
    check_name("routing key", frame.routing_key)
    check_size("message", frame.payload)


def check_result(record: frames.ResultRecord) -> None:
    """Raise a :class:`~mplite_tasks_transport.errors.ReplyError` if a result is beyond its limits."""
    if not 0 < len(record.id) <= MAX_ID_CHARS or len(record.state) > MAX_ID_CHARS:
        raise PreconditionFailed(f"The id of a result has 1 to {MAX_ID_CHARS} characters, its state no more.")
    if not 0 < record.ttl <= MAX_MICROSECONDS:
        raise PreconditionFailed(f"A result is kept for 1 to {MAX_MICROSECONDS} microseconds, not {record.ttl}.")
    check_size("result", record.value)


def check_size(what: str, data: bytes) -> None:
    """Raise :class:`ContentTooLarge` if something could be taken but not be handed out again in one frame."""
    if len(data) > MAX_PAYLOAD_BYTES:
        raise ContentTooLarge(
            f"A {what} of {len(data)} bytes exceeds the limit of {MAX_PAYLOAD_BYTES}; send large content by reference."
        )


def no_route_text(frame: frames.Publish) -> str:
    """Return what is said of a mandatory message that no queue takes."""
    return f"No queue is bound to exchange {frame.exchange!r} for routing key {frame.routing_key!r}."


def check_priority(priority: int) -> None:
    """Raise :class:`PreconditionFailed` if a priority is no signed 32-bit integer."""
    if not MIN_PRIORITY <= priority <= MAX_PRIORITY:
        raise PreconditionFailed(f"A priority is a signed 32-bit integer; {priority} is not. Higher runs first.")

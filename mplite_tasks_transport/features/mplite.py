"""Features of our own broker: one frame each."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

from .. import frames
from ..errors import StaleDelivery, TransportError, reply_error
from ..limits import DEFAULT_RESULT_SECONDS
from ..transport.outgoing import checked_priority, microseconds, packed
from .port import DeliveryFacts, Feature, Outcome, Publication

if TYPE_CHECKING:
    from kombu import Connection, Message

    from ..client import BrokerClient, Reply
    from ..transport.connection import Connection as MPLiteConnection

__all__ = ["MPLiteFeatures"]

#: The channel on which deliveries of a lost connection are settled, by their ``posted_at``.
_ANY_CHANNEL: Final = 0

#: Settles that were sent and not answered, by ``posted_at``, for each identity of this process.
_unanswered_of: dict[str, dict[int, frames.Settle]] = {}


class MPLiteFeatures:
    """:class:`~.port.BrokerFeatures` over a connection to a MPLite broker.

    :meth:`settle` does not wait for its answer, since the next delivery comes after the commit anyway. :meth:`flush`
    does; a consumer calls it before it ends. What was not answered when the connection was lost is asked after, and
    sent again, by :meth:`identify`.

    Parameters:
        connection: the Kombu connection. It may be closed and connect again meanwhile.
    """

    supported: frozenset[Feature] = frozenset(Feature)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._unanswered: dict[int, frames.Settle] = {}

    def publish_options(
        self, *, id: str, delay: float = 0.0, eta: float | None = None, ttl: float | None = None
    ) -> dict[str, Any]:
        _refuse_both(delay, eta)
        options: dict[str, Any] = {"mplite_id": id}
        if delay:
            options["mplite_delay"] = delay
        if eta is not None:
            options["mplite_eta"] = eta
        if ttl is not None:
            options["mplite_ttl"] = ttl
        return options

    def publish_many(self, publications: Sequence[Publication]) -> None:
        """Publish all, pipelined, and return when every one is confirmed. A queue must exist."""
        self._broker().call_many(map(_publish_frame, publications))

    def identify(self, identity: str, *, keep: Collection[int] = ()) -> None:
        """Name the consumer process behind this connection, and finish what an earlier connection left in doubt.

        Settles that were sent over it and not answered are sent again if the broker still holds the messages; if it
        does not, they had been committed.
        """
        broker = self._broker()
        held: list[int] = broker.call(frames.Identify(0, identity)) or []
        left = _unanswered_of.setdefault(identity, {})
        if left is not self._unanswered:
            left.update(self._unanswered)
            self._unanswered = left
        for posted_at in held:
            frame = left.get(posted_at)
            if frame is not None:
                frame.channel, frame.delivery = _ANY_CHANNEL, posted_at
                # Stale: committed between the two questions, by a frame that was still on its way.
                with contextlib.suppress(StaleDelivery):
                    broker.call(frame)
            elif posted_at not in keep:
                broker.call(frames.Reject(0, _ANY_CHANNEL, posted_at, requeue=True))
            left.pop(posted_at, None)
        left.clear()

    def consumer_arguments(self) -> dict[str, Any]:
        return {"x-starts-on-delivery": True}

    def facts(self, message: Message) -> DeliveryFacts:
        info = message.delivery_info
        return DeliveryFacts(
            id=info["message_id"],
            queue=info["queue"],
            priority=info["priority"],
            posted_at=info["posted_at"],
            delivered_at=info["delivered_at"],
            deliveries=info["deliveries"],
            redelivered=info["redelivered"],
        )

    def started(self, message: Message) -> None:
        connection = self._live(message)
        if connection is not None:
            connection.broker.send(frames.Started(0, message.channel.channel_id, message.delivery_tag))

    def settle(
        self,
        message: Message,
        *,
        outcome: Outcome | None = None,
        outcome_ttl: float | None = None,
        publish: Sequence[Publication] = (),
        credit: bool = True,
    ) -> None:
        """Ack, keep the outcome and publish, in one step and one commit.

        On the connection that the message came by this does not wait: a :class:`StaleDelivery` is raised by a later
        ``drain_events`` or :meth:`flush`. A message of another connection is settled by its stamp, and waited for.
        """
        posted_at: int = message.delivery_info["posted_at"]
        frame = frames.Settle(
            0,
            _ANY_CHANNEL,
            posted_at,
            None if outcome is None else _record(outcome, outcome_ttl),
            [_publish_frame(publication) for publication in publish],
            credit,
        )
        connection = self._live(message)
        if connection is None:
            self._broker().call(frame)
            self._unanswered.pop(posted_at, None)
        else:
            frame.channel, frame.delivery = message.channel.channel_id, message.delivery_tag
            self._post(connection.broker, posted_at, frame)
        message._state = "ACK"

    def flush(self) -> None:
        """Return when the broker has committed every :meth:`settle` of this connection.

        Raises:
            StaleDelivery: it no longer held one of them.
            ConnectionLost: connect again, call :meth:`identify`, and they are committed.
        """
        if not self._unanswered:
            return
        broker = self._broker()
        broker.wait_until(lambda: not self._unanswered)
        refused = broker.take_events(lambda event: isinstance(event, frames.Failed))
        for event in refused:
            if isinstance(event, frames.Failed):
                raise reply_error(event.code, event.text)

    def give_credit(self, message: Message) -> None:
        connection = self._live(message)
        # The credit of a lost connection is gone with it.
        if connection is not None:
            connection.broker.send(frames.Credit(0, message.channel.channel_id))

    def cancel(self, queue: str, id: str) -> bool:
        return bool(self._broker().call(frames.CancelMessage(0, queue, id)))

    def reprioritise(self, queue: str, id: str, priority: int) -> bool:
        return bool(self._broker().call(frames.Reprioritise(0, queue, id, checked_priority(priority))))

    def position(self, queue: str, id: str) -> int | None:
        place: int | None = self._broker().call(frames.Position(0, queue, id))
        return place

    def store_outcome(self, outcome: Outcome, *, ttl: float | None = None) -> None:
        self._broker().call(frames.StoreResult(0, _record(outcome, ttl)))

    def outcome(self, id: str) -> Outcome | None:
        found = self._broker().call(frames.GetResult(0, id))
        if found is None:
            return None
        state, value, final = found
        return Outcome(id, state, value, final)

    def wait_outcome(self, id: str, timeout: float | None = None) -> Outcome | None:
        broker = self._broker()
        answer: list[Reply] = []
        request = broker.ask(frames.WaitResult(0, id), answer.append)
        try:
            broker.wait_until(lambda: bool(answer), timeout)
        except TimeoutError:
            return None
        finally:
            broker.withdraw(request)
            if not answer and broker.connected:
                broker.send(frames.StopWaiting(0, request))
        reply = answer[0]
        if isinstance(reply, frames.Failed):
            raise reply_error(reply.code, reply.text)
        state, value = reply.value[:2]
        return Outcome(id, state, value)

    def forget(self, ids: Sequence[str]) -> int:
        return int(self._broker().call(frames.ForgetResults(0, list(ids))))

    def acquire_lock(self, name: str) -> bool:
        return bool(self._broker().call(frames.AcquireLock(0, name)))

    def release_lock(self, name: str) -> None:
        self._broker().call(frames.ReleaseLock(0, name))

    def queue_length(self, queue: str) -> int:
        _, waiting, _ = self._broker().call(frames.DeclareQueue(0, queue, passive=True))
        return int(waiting)

    def _post(self, broker: BrokerClient, posted_at: int, frame: frames.Settle) -> None:
        """Send a settle, and remember it until it is answered."""
        unanswered = self._unanswered
        unanswered[posted_at] = frame

        def answered(reply: Reply) -> None:
            if unanswered.get(posted_at) is frame:  # and not a second one for the same message
                del unanswered[posted_at]
            if isinstance(reply, frames.Failed):
                broker.events.append(reply)

        broker.ask(frame, answered)

    def _live(self, message: Message) -> MPLiteConnection | None:
        """Return the connection that a message came by, if it is ours and can be used; ``None`` otherwise."""
        channel = message.channel
        connection: MPLiteConnection | None = None if channel is None else channel.connection
        if connection is None or connection is not self._connection._connection or not connection.connected:
            return None
        return connection

    def _broker(self) -> BrokerClient:
        connection: MPLiteConnection | None = self._connection.connection
        if connection is None:
            raise TransportError("The Kombu connection is closed.")
        return connection.broker


def _publish_frame(publication: Publication) -> frames.Publish:
    """Return the frame for a publication. ``mandatory``: a queue that does not exist is an error, not a loss."""
    _refuse_both(publication.delay, publication.eta)
    properties = {"delivery_mode": 2, **publication.properties}
    return frames.Publish(
        0,
        "",
        publication.queue,
        publication.id,
        checked_priority(publication.priority),
        packed(
            publication.body, publication.content_type, publication.content_encoding, publication.headers, properties
        ),
        delay=microseconds(publication.delay, "delay"),
        due=microseconds(publication.eta or 0, "eta"),
        mandatory=True,
    )


def _record(outcome: Outcome, ttl: float | None) -> frames.ResultRecord:
    seconds = DEFAULT_RESULT_SECONDS if ttl is None else ttl
    return frames.ResultRecord(
        outcome.id, outcome.state, outcome.value, outcome.final, max(1, microseconds(seconds, "the result's ttl"))
    )


def _refuse_both(delay: float, eta: float | None) -> None:
    if delay and eta is not None:
        raise ValueError("A message has a delay or an eta, not both.")

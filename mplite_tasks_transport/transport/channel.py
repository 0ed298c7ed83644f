"""The channel: what Kombu publishes and consumes through, natively over the broker's frames."""

from __future__ import annotations

import itertools
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from amqp.exceptions import ConsumerCancelled
from kombu.transport.base import StdChannel

from .. import frames
from ..client import BrokerClient, Event, Reply
from ..errors import ConnectionLost, FeatureNotSupported, NoRoute
from .batch import PublishBatch
from .declarations import Declarations
from .message import Message as ReceivedMessage
from .outgoing import Outgoing

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["Channel"]

_tags = itertools.count(1)


@dataclass(slots=True)
class _Consumer:
    callback: Callable[[ReceivedMessage], object] | None
    no_ack: bool
    on_cancel: Callable[[str], object] | None


class Channel(Declarations, StdChannel):  # type: ignore[misc]  # Kombu has no types
    """One channel of a connection: its consumers share one credit, and it holds what was delivered to them.

    A request that the broker refuses raises a channel error and changes nothing; the channel stays open (AMQP would
    close it).
    """

    Message = ReceivedMessage
    supports_batch_publish: Final = True

    def __init__(self, connection: Connection, channel_id: int) -> None:
        self.connection: Connection | None = connection
        self.channel_id = channel_id
        #: Kombu's: tags of consumers whose messages need no ack.
        self.no_ack_consumers: set[str] = set()
        #: Kombu's: callbacks for ``basic_return``.
        self.events: defaultdict[str, set[Callable[..., object]]] = defaultdict(set)
        self._consumers: dict[str, _Consumer] = {}
        #: Consumers without acks that were cancelled: what was already sent to them is theirs.
        self._retired: dict[str, _Consumer] = {}
        self._call(frames.OpenChannel(0, channel_id))

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        return f"<mplite Channel {self.channel_id} {state}, {len(self._consumers)} consumers>"

    @property
    def is_open(self) -> bool:
        """Whether it can be used, as far as is known."""
        return self.connection is not None and self.connection.connected

    def close(self) -> None:
        """Close it: its consumers end, and what it held goes back to its old place in its queue. May be repeated."""
        connection = self.connection
        if connection is None:
            return
        try:
            if connection.connected:
                connection.broker.call(frames.CloseChannel(0, self.channel_id))
                connection.broker.take_events(self._is_ours)
        finally:
            self.detach()

    def detach(self) -> None:
        """Let go of the connection without a word to the broker."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.channels.pop(self.channel_id, None)
        self._consumers.clear()
        self._retired.clear()
        self.no_ack_consumers.clear()

    # Publishing

    def prepare_message(
        self,
        body: bytes | str,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: Mapping[str, Any] | None = None,
        properties: MutableMapping[str, Any] | None = None,
    ) -> Outgoing:
        """Return a message for :meth:`basic_publish`. Parameters and errors are those of :class:`Outgoing`."""
        return Outgoing(body, priority, content_type, content_encoding, headers, properties)

    def basic_publish(
        self,
        message: Outgoing,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        immediate: bool = False,
        timeout: float | None = None,
        confirm_timeout: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Publish a message, and return when the broker has confirmed it.

        With the transport option ``confirm_publish=False`` it returns when the message is sent. A broker at its memory
        limit makes either wait.

        Parameters:
            mandatory: a message that no queue takes is given to the ``basic_return`` callbacks, or raises
                :class:`NoRoute` if there are none. Otherwise it is dropped.
            timeout, confirm_timeout: seconds to wait; the shorter counts.

        Raises:
            ConnectionLost, TimeoutError: it is in doubt whether the broker has it. Kombu's retry repeats it with the
                same id, so it is kept once.
        """
        frame = self.publish_frame(message, exchange, routing_key, mandatory=mandatory, immediate=immediate)
        limits = [limit for limit in (timeout, confirm_timeout) if limit is not None]
        limit = min(limits) if limits else None
        broker = self._broker()
        try:
            if self.connection_in_use().confirm_publish:
                broker.call(frame, timeout=limit)
            else:
                broker.wait_until(lambda: broker.blocked is None, limit)
                broker.send(frame)
        except NoRoute as exc:
            self.connection_in_use().returned(self, exc, exchange, routing_key, message)
        except (ConnectionLost, TimeoutError):
            message.in_doubt()
            raise

    def publish_frame(
        self,
        message: Outgoing,
        exchange: str = "",
        routing_key: str = "",
        *,
        mandatory: bool = False,
        immediate: bool = False,
        **kwargs: Any,
    ) -> frames.Publish:
        """Return the frame that publishes a message."""
        if immediate:
            raise FeatureNotSupported("immediate=True is not supported, as in RabbitMQ: use a TTL (expiration=).")
        return message.frame(exchange or "", routing_key or "", mandatory=bool(mandatory))

    def create_publish_batch(self, max_size: int) -> PublishBatch:
        """Return a session for :meth:`kombu.Producer.batch`: publishes that are confirmed together."""
        return PublishBatch(self, max_size)

    # Consuming

    def basic_consume(
        self,
        queue: str,
        no_ack: bool = False,
        consumer_tag: str = "",
        callback: Callable[[ReceivedMessage], object] | None = None,
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
        on_cancel: Callable[[str], object] | None = None,
        exclusive: bool = False,
        **kwargs: Any,
    ) -> str:
        """Start a consumer and return its tag.

        Parameters:
            nowait: don't wait for the answer; a refusal is raised when events are drained.
            arguments: ``x-starts-on-delivery`` says that the consumer starts with each message at once.
            on_cancel: called with the tag when the broker ends the consumer, because its queue was deleted. Without
                it :class:`amqp.exceptions.ConsumerCancelled` is raised.
        """
        tag = consumer_tag or f"ctag{self.channel_id}.{next(_tags)}.{uuid.uuid4().hex}"
        frame = frames.Consume(0, self.channel_id, tag, queue, bool(no_ack), bool(exclusive), dict(arguments or {}))
        previous = self._consumers.get(tag)
        # Known before it is asked for: the first delivery may come together with the answer.
        self._consumers[tag] = _Consumer(callback, bool(no_ack), on_cancel)
        try:
            if nowait:
                self._broker().send(frame)
            else:
                self._call(frame)
        except BaseException:
            if previous is None:
                self._consumers.pop(tag, None)
            else:
                self._consumers[tag] = previous
            raise
        if no_ack:
            self.no_ack_consumers.add(tag)
        return tag

    def basic_cancel(self, consumer_tag: str, nowait: bool = False, **kwargs: Any) -> None:
        """End a consumer. Messages that were sent to it, and that it has not seen, go back to their old place."""
        consumer = self._consumers.pop(consumer_tag, None)
        if consumer is None:
            return
        self._call(frames.CancelConsumer(0, self.channel_id, consumer_tag))
        if consumer.no_ack:
            self._retired[consumer_tag] = consumer
            return
        for event in self._broker().take_events(lambda event: self._is_for(event, consumer_tag)):
            if isinstance(event, frames.Deliver):
                self.basic_reject(event.delivery, requeue=True)

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> ReceivedMessage | None:
        """Take the best message of a queue, ``None`` if none is ready."""
        fields = self._call(frames.Get(0, self.channel_id, queue, bool(no_ack)))
        return None if fields is None else ReceivedMessage(frames.Deliver(*fields), self)

    def basic_qos(self, prefetch_size: int = 0, prefetch_count: int = 0, a_global: bool = False, **kwargs: Any) -> None:
        """Set how many unacked messages the whole channel may have, over all its consumers. 0: any number. At once.

        ``a_global`` makes no difference. Raises :class:`FeatureNotSupported` for a ``prefetch_size``.
        """
        if prefetch_size:
            raise FeatureNotSupported("prefetch_size (bytes) is not supported, as in RabbitMQ: use prefetch_count.")
        self._call(frames.Qos(0, self.channel_id, prefetch_count))

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """Say that a message is done; with ``multiple``, every one up to it. Not waited for.

        An unknown tag is refused when events are drained next, with :class:`StaleDelivery`.
        """
        self._broker().send(frames.Ack(0, self.channel_id, delivery_tag, bool(multiple)))

    def basic_reject(self, delivery_tag: int, requeue: bool = False, multiple: bool = False) -> None:
        """Say that a message is not done: back to its old place, or to the queue's dead letters. Not waited for."""
        self._broker().send(frames.Reject(0, self.channel_id, delivery_tag, bool(requeue), bool(multiple)))

    def basic_nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True) -> None:
        """RabbitMQ's name for :meth:`basic_reject` with ``multiple``."""
        self.basic_reject(delivery_tag, requeue=requeue, multiple=multiple)

    def basic_recover(self, requeue: bool = False) -> None:
        """Put every unacked message back to its old place; they are delivered again, to whoever is first.

        Those that were sent to this channel and not seen yet are dropped here.
        """
        answer: list[Reply] = []
        broker = self._broker()

        def forget(reply: Reply) -> None:
            # When the answer is read, not later: what comes behind it is delivered anew.
            broker.take_events(lambda event: self._is_ours(event) and not self._is_no_ack(event))
            answer.append(reply)

        broker.ask(frames.Recover(0, self.channel_id), forget)
        broker.wait_until(lambda: bool(answer))

    def flow(self, active: bool = True) -> None:
        """Do nothing for ``True``. Raises :class:`FeatureNotSupported` for ``False``, as RabbitMQ does."""
        if not active:
            raise FeatureNotSupported("A channel's flow cannot be stopped: cancel its consumers, or use basic_qos.")

    def message_to_python(self, raw_message: ReceivedMessage) -> ReceivedMessage:
        """Return the message: what consumers and ``basic_get`` are given is one already."""
        return raw_message

    # Events

    def deliver(self, event: frames.Deliver) -> None:
        """Hand a delivery to its consumer."""
        tag = event.consumer
        consumer = self._consumers.get(tag) or self._retired.get(tag)
        if consumer is None or consumer.callback is None:
            self.basic_reject(event.delivery, requeue=True)
            return
        consumer.callback(ReceivedMessage(event, self))

    def consumer_cancelled(self, tag: str) -> None:
        """The broker has ended a consumer."""
        self.no_ack_consumers.discard(tag)
        consumer = self._consumers.pop(tag, None)
        if consumer is None:
            return
        if consumer.on_cancel is None:
            raise ConsumerCancelled(f"The broker ended the consumer {tag}: its queue was deleted.")
        consumer.on_cancel(tag)

    def _is_ours(self, event: Event) -> bool:
        return isinstance(event, frames.Deliver | frames.ConsumerCancelled) and event.channel == self.channel_id

    def _is_for(self, event: Event, tag: str) -> bool:
        return (
            isinstance(event, frames.Deliver | frames.ConsumerCancelled)
            and event.channel == self.channel_id
            and event.consumer == tag
        )

    def _is_no_ack(self, event: Event) -> bool:
        return isinstance(event, frames.Deliver) and (
            event.consumer in self.no_ack_consumers or event.consumer in self._retired
        )

    def connection_in_use(self) -> Connection:
        """Return the connection. Raises :class:`ConnectionLost` when the channel is closed."""
        if self.connection is None:
            raise ConnectionLost(f"Channel {self.channel_id} is closed: open another one.")
        return self.connection

    def _broker(self) -> BrokerClient:
        return self.connection_in_use().broker

    def _call(self, frame: frames.Request, timeout: float | None = None) -> Any:
        return self._broker().call(frame, timeout=timeout)

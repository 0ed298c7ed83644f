"""The port ``BrokerFeatures``: what a task framework needs beyond the words of Kombu and AMQP.

A transport's implementation is bound to one Kombu connection, and used by one thread at a time like that connection.
What a broker cannot do raises :class:`~mplite_tasks_transport.errors.FeatureNotSupported`, which names the
alternative; ``supported`` says beforehand. :func:`~mplite_tasks_transport.features_for` picks the implementation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from kombu import Message

__all__ = ["BrokerFeatures", "DeliveryFacts", "Feature", "Outcome", "Publication"]


class Feature(StrEnum):
    """What a broker may be able to do."""

    ATOMIC_SETTLE = "atomic settle"
    CANCEL = "cancel"
    DELAY = "delay"
    LOCKS = "locks"
    POSITION = "position"
    REPRIORITISE = "reprioritise"
    RESULTS = "results"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A task's outcome as the broker keeps it.

    Parameters:
        id: the task's id.
        state: a word such as ``SUCCESS``, ``FAILURE`` or ``RETRY``.
        value: opaque bytes, at most a message's size.
        final: waiters are told only of a final outcome; one that is not final is replaced by the next.
    """

    id: str
    state: str
    value: bytes = b""
    final: bool = True


@dataclass(frozen=True, slots=True)
class Publication:
    """A message to be published to one queue through the default exchange.

    Parameters:
        queue: the name of the queue; it must exist.
        id: the message's id in the queue's index.
        body: the serialized content.
        content_type, content_encoding: as Kombu's serializers give them.
        priority: a signed 32-bit integer; higher runs first.
        headers: AMQP headers.
        properties: further AMQP properties, such as ``correlation_id``.
        delay: seconds until it becomes ready, by the broker's clock.
        eta: the wall-clock time in seconds since the epoch at which it becomes ready. At most one of the two.
    """

    queue: str
    id: str
    body: bytes
    content_type: str
    content_encoding: str
    priority: int = 0
    headers: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    delay: float = 0.0
    eta: float | None = None


@dataclass(frozen=True, slots=True)
class DeliveryFacts:
    """What the broker says of one delivery. Fields that a broker does not know are ``None``.

    Parameters:
        id: the message's id in the queue's index.
        queue: where it waited.
        priority: as published, or as changed since.
        posted_at: the broker's stamp of its arrival, in microseconds since the epoch.
        delivered_at: the broker's stamp of this delivery, from the same clock.
        deliveries: how often a consumer that had started with it died.
        redelivered: it may have been delivered before.
    """

    id: str | None
    queue: str | None
    priority: int
    posted_at: int | None
    delivered_at: int | None
    deliveries: int | None
    redelivered: bool


class BrokerFeatures(Protocol):
    """What a task framework may ask of a broker, over one Kombu connection."""

    supported: frozenset[Feature]

    def publish_options(
        self, *, id: str, delay: float = 0.0, eta: float | None = None, ttl: float | None = None
    ) -> dict[str, Any]:
        """Return keyword arguments for :meth:`kombu.Producer.publish` that say this to the broker.

        Parameters:
            id: the message's id in the queue's index; a repetition of it is kept once where the broker can tell.
            delay: seconds until the message becomes ready.
            eta: wall-clock seconds since the epoch at which it becomes ready.
            ttl: seconds after which it expires while it waits.
        """

    def publish_many(self, publications: Sequence[Publication]) -> None:
        """Publish all, pipelined, and return when the broker has confirmed every one.

        Raises the first error; then some may have been published and some not. The same publications may be sent
        again: ids that arrived are kept once.
        """

    def identify(self, identity: str, *, keep: Collection[int] = ()) -> None:
        """Name the consumer process behind this connection, once after each connect, before it consumes.

        With the same identity a new connection takes over what an earlier one held when the broker ended, so that
        :meth:`settle` still works for a message of the lost connection and the work is not done twice. A no-op where
        the broker cannot (``RESUME``): there the broker delivers such messages again.

        Parameters:
            keep: the ``posted_at`` of the messages that the process still works on. What it held besides, because the
                broker ended between handing it out and the process receiving it, goes back to its old place.
        """

    def consumer_arguments(self) -> dict[str, Any]:
        """Return arguments for ``Queue(consumer_arguments=…)`` of a consumer that starts with each delivery at once.

        Then :meth:`started` need not be called.
        """

    def facts(self, message: Message) -> DeliveryFacts:
        """Return what the broker said of this delivery."""

    def started(self, message: Message) -> None:
        """Tell the broker that the consumer begins with this message now (see ``max_deliveries``)."""

    def settle(
        self,
        message: Message,
        *,
        outcome: Outcome | None = None,
        outcome_ttl: float | None = None,
        publish: Sequence[Publication] = (),
        credit: bool = True,
    ) -> None:
        """Ack a message, keep its outcome and publish what follows: in one step where the broker can.

        Elsewhere in the order publish, outcome, ack, so that a death in between repeats but never loses.

        A message of a lost connection can be settled over a new one that has the same identity (:meth:`identify`).
        Raises :class:`~mplite_tasks_transport.errors.StaleDelivery` when the broker no longer holds it for us: it was
        settled before, or has gone back to its queue. Nothing is done then.

        Parameters:
            outcome_ttl: seconds until the outcome expires; ``None`` takes the broker's default.
            credit: whether the channel may be sent the next message now.
        """

    def flush(self) -> None:
        """Return when every :meth:`settle` of this connection is committed, where the broker says so.

        Raises :class:`~mplite_tasks_transport.errors.StaleDelivery` if the broker no longer held one of them, and a
        connection error if it was lost meanwhile: connect again, :meth:`identify`, and they are committed.
        """

    def give_credit(self, message: Message) -> None:
        """Return the credit of a message that was settled with ``credit=False``."""

    def cancel(self, queue: str, id: str) -> bool:
        """Remove a waiting or delayed message. Returns whether it was there."""

    def reprioritise(self, queue: str, id: str, priority: int) -> bool:
        """Give a waiting or delayed message another priority. Returns whether it was there."""

    def position(self, queue: str, id: str) -> int | None:
        """Return how many messages come before this one, ``None`` if it does not wait."""

    def store_outcome(self, outcome: Outcome, *, ttl: float | None = None) -> None:
        """Keep an outcome, replacing an earlier one of the same id."""

    def outcome(self, id: str) -> Outcome | None:
        """Return what is known of a task now; state ``STARTED`` while a consumer works on it."""

    def wait_outcome(self, id: str, timeout: float | None = None) -> Outcome | None:
        """Wait, without polling, for the final outcome. Returns ``None`` when ``timeout`` seconds have passed."""

    def forget(self, ids: Sequence[str]) -> int:
        """Drop outcomes. Returns how many there were."""

    def acquire_lock(self, name: str) -> bool:
        """Take a named lock for this connection. Returns whether it has it now; it ends with the connection."""

    def release_lock(self, name: str) -> None:
        """Give a named lock back."""

    def queue_length(self, queue: str) -> int:
        """Return how many messages wait in a queue. Raises a channel error if it does not exist."""

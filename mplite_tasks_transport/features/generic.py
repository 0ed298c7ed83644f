"""Features of any Kombu transport: what can be said in Kombu's own words, and clear errors for the rest."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import FeatureNotSupported
from .port import DeliveryFacts, Feature, Outcome, Publication

if TYPE_CHECKING:
    from kombu import Connection, Message

__all__ = ["GenericFeatures"]


class GenericFeatures:
    """:class:`~.port.BrokerFeatures` over a Kombu transport that we know nothing about.

    Parameters:
        connection: the Kombu connection; its default channel is used.
    """

    def __init__(self, connection: Connection) -> None:
        self.supported: frozenset[Feature] = frozenset()
        self._connection = connection

    def publish_options(
        self, *, id: str, delay: float = 0.0, eta: float | None = None, ttl: float | None = None
    ) -> dict[str, Any]:
        if delay or eta is not None:
            self._refuse("a delayed message", "publish it when it is due, or use mplite://")
        options: dict[str, Any] = {"message_id": id}
        if ttl is not None:
            options["expiration"] = ttl
        return options

    def publish_many(self, publications: Sequence[Publication]) -> None:
        """Publish all, in a batch where the transport has them.

        They are confirmed as far as the transport confirms: RabbitMQ with ``confirm_publish=True``.
        """
        for publication in publications:
            if publication.delay or publication.eta is not None:
                self._refuse("a delayed message", "publish it when it is due, or use mplite://")
        producer = self._connection.Producer()
        with producer.batch():
            for publication in publications:
                self._publish(producer, publication)

    def identify(self, identity: str, *, keep: Collection[int] = ()) -> None:
        """Do nothing: the broker delivers what a lost connection held again."""

    def consumer_arguments(self) -> dict[str, Any]:
        return {}

    def facts(self, message: Message) -> DeliveryFacts:
        properties = message.properties
        info = message.delivery_info or {}
        return DeliveryFacts(
            id=properties.get("message_id"),
            queue=None,
            priority=properties.get("priority") or info.get("priority") or 0,
            posted_at=None,
            delivered_at=None,
            deliveries=None,
            redelivered=bool(info.get("redelivered")),
        )

    def started(self, message: Message) -> None:
        """Do nothing: the broker counts deliveries its own way."""

    def settle(
        self,
        message: Message,
        *,
        outcome: Outcome | None = None,
        outcome_ttl: float | None = None,
        publish: Sequence[Publication] = (),
        credit: bool = True,
    ) -> None:
        """Publish what follows, then ack: a death in between repeats, but never loses. The ack returns the credit."""
        if outcome is not None:
            self._refuse("a task's outcome", "use a result backend, or mplite://")
        if publish:
            self.publish_many(publish)
        message.ack()

    def flush(self) -> None:
        """Do nothing: whether acks were received is not known here; closing the connection sends them all."""

    def give_credit(self, message: Message) -> None:
        """Do nothing: the ack has returned the credit."""

    def cancel(self, queue: str, id: str) -> bool:
        self._refuse("cancelling a waiting message", "let the consumer drop it, or use mplite://")

    def reprioritise(self, queue: str, id: str, priority: int) -> bool:
        self._refuse("another priority for a waiting message", "publish it again, or use mplite://")

    def position(self, queue: str, id: str) -> int | None:
        self._refuse("a message's position", "use queue_length, or mplite://")

    def store_outcome(self, outcome: Outcome, *, ttl: float | None = None) -> None:
        self._refuse("a task's outcome", "use a result backend, or mplite://")

    def outcome(self, id: str) -> Outcome | None:
        self._refuse("a task's outcome", "use a result backend, or mplite://")

    def wait_outcome(self, id: str, timeout: float | None = None) -> Outcome | None:
        self._refuse("a task's outcome", "use a result backend, or mplite://")

    def forget(self, ids: Sequence[str]) -> int:
        self._refuse("a task's outcome", "use a result backend, or mplite://")

    def acquire_lock(self, name: str) -> bool:
        self._refuse("a named lock", "use another lock service, or mplite://")

    def release_lock(self, name: str) -> None:
        self._refuse("a named lock", "use another lock service, or mplite://")

    def queue_length(self, queue: str) -> int:
        declared = self._connection.default_channel.queue_declare(queue=queue, passive=True)
        return int(declared.message_count)

    @staticmethod
    def _publish(producer: Any, publication: Publication) -> None:
        producer.publish(
            publication.body,
            exchange="",
            routing_key=publication.queue,
            content_type=publication.content_type,
            content_encoding=publication.content_encoding,
            priority=publication.priority,
            headers=dict(publication.headers),
            message_id=publication.id,
            **publication.properties,
        )

    def _refuse(self, what: str, instead: str) -> NoReturn:
        driver = self._connection.get_transport_cls().driver_type
        raise FeatureNotSupported(f"The transport {driver} does not support {what}: {instead}.")

"""A consumer's connection: one channel with a prefetch of one over all its queues, so that the broker orders them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import kombu
from kombu import Message

from mplite_tasks_transport import DeliveryFacts, Feature, Publication

from ..pool import Link
from .settlement import Settlement
from .source import Source

__all__ = ["Session"]

logger = logging.getLogger("mplite_tasks.worker")


class Session:
    """One connection of one consumer, from connect to close.

    Parameters:
        identity: names the consumer, so that what it holds survives the end of the broker.
        keep: the broker's stamps of the messages that the consumer still works on.
    """

    def __init__(self, source: Source, queues: Sequence[str], identity: str, keep: Collection[int] = ()) -> None:
        self._source = source
        self._queues = queues
        self._inbox: deque[Message] = deque()
        self._consumer: kombu.Consumer | None = None
        self.link = Link(source.connection(), source.topology)
        self.link.features.identify(identity, keep=keep)

    @property
    def resumes(self) -> bool:
        """Whether a message of a lost connection can be settled over a new one."""
        return Feature.RESUME in self.link.features.supported

    def consume(self) -> None:
        """Begin to consume, if it has not begun yet."""
        if self._consumer is not None:
            return
        link = self.link
        for name in self._queues:
            link.declare(name)
        arguments = link.features.consumer_arguments()
        self._consumer = kombu.Consumer(
            link.channel,
            [self._source.topology.queue(name, link.driver_type, arguments) for name in self._queues],
            on_message=self._inbox.append,
            accept=self._source.accepted_content_types,
            auto_declare=False,
            prefetch_count=1,
        )
        # What Kombu cannot decompress is a message like any other: the executor says what is wrong with it.
        self._consumer.on_decode_error = lambda message, error: self._inbox.append(message)
        self._consumer.consume()

    def next(self, drain: Callable[[kombu.Connection], None]) -> Message:
        """Wait for the next message and return it.

        Parameters:
            drain: waits for events of a connection and handles them, at least one.
        """
        while not self._inbox:
            drain(self.link.connection)
        return self._inbox.popleft()

    def facts(self, message: Message) -> DeliveryFacts:
        """Return what the broker said of a message."""
        return self.link.features.facts(message)

    def settle(self, message: Message, settlement: Settlement, *, more: bool = True) -> None:
        """Tell the broker what came of a message, and return when that is committed.

        Parameters:
            more: whether the next message is wanted.
        """
        features = self.link.features
        features.settle(
            message,
            outcome=settlement.outcome if Feature.RESULTS in features.supported else None,
            outcome_ttl=settlement.outcome_ttl,
            publish=settlement.publish if Feature.DELAY in features.supported else _at_once(settlement.publish),
            credit=more,
        )
        features.flush()

    def declare_again(self) -> None:
        """Declare the queues and their dead letters once more: somebody may have deleted one."""
        self.link.declare_again()
        for name in self._queues:
            self.link.declare(name)

    def close(self) -> None:
        """Close the connection. What is unsettled goes back to its place."""
        self.link.close()


def _at_once(publications: Sequence[Publication]) -> list[Publication]:
    """Return publications for a broker that knows no delay: a retry that comes too early is better than none."""
    for publication in publications:
        if publication.delay:
            logger.warning("This broker knows no delays: task [%s] is run again at once", publication.id)
    return [replace(publication, delay=0.0) for publication in publications]

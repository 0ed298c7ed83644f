"""A consumer's connection: one channel with a prefetch of one over all its queues, so that the broker orders them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import replace

import kombu
from kombu import Message

from mplite_tasks_transport import DeliveryFacts, Feature, Publication

from ..app import MPLite
from ..pool import Link
from .executor import Settlement

__all__ = ["Session"]

logger = logging.getLogger("mplite_tasks.worker")


class Session:
    """One connection of one consumer process, from connect to close.

    Parameters:
        identity: names the process, so that what it holds survives the end of the broker.
        keep: the broker's stamps of the messages that the process still works on.
    """

    def __init__(self, app: MPLite, queues: Sequence[str], identity: str, keep: Collection[int] = ()) -> None:
        self._app = app
        self._queues = queues
        self._inbox: deque[Message] = deque()
        self._consumer: kombu.Consumer | None = None
        self._declared_again = False
        self.link = Link(app.connection(), app.topology)
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
            [self._app.topology.queue(name, link.driver_type, arguments) for name in self._queues],
            on_message=self._inbox.append,
            accept=self._app.accepted_content_types,
            auto_declare=False,
            prefetch_count=1,
        )
        # What Kombu cannot decompress is a message like any other: the executor says what is wrong with it.
        self._consumer.on_decode_error = lambda message, error: self._inbox.append(message)
        self._consumer.consume()

    def next(self) -> Message:
        """Wait for the next message and return it."""
        while not self._inbox:
            self.link.connection.drain_events()
        return self._inbox.popleft()

    def facts(self, message: Message) -> DeliveryFacts:
        """Return what the broker said of a message."""
        return self.link.features.facts(message)

    def settle(self, message: Message, settlement: Settlement) -> None:
        """Tell the broker what came of a message, and return when that is committed."""
        features = self.link.features
        features.settle(
            message,
            outcome=settlement.outcome if Feature.RESULTS in features.supported else None,
            outcome_ttl=settlement.outcome_ttl,
            publish=settlement.publish if Feature.DELAY in features.supported else _at_once(settlement.publish),
        )
        features.flush()

    def declare_again(self) -> bool:
        """Declare the queues once more. Returns whether that is worth a try: once on each connection."""
        if self._declared_again:
            return False
        self._declared_again = True
        self.link.declare_again()
        return True

    def close(self) -> None:
        """Close the connection. What is unsettled goes back to its place."""
        self.link.close()


def _at_once(publications: Sequence[Publication]) -> list[Publication]:
    """Return publications for a broker that knows no delay: a retry that comes too early is better than none."""
    for publication in publications:
        if publication.delay:
            logger.warning("This broker knows no delays: task [%s] is run again at once", publication.id)
    return [replace(publication, delay=0.0) for publication in publications]

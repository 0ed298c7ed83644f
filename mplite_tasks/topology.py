"""The queues of an app, as they are declared on its broker: durable, each with a queue for its dead letters."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Final

import kombu
from amqp.exceptions import PreconditionFailed

__all__ = ["DEAD_SUFFIX", "Topology", "dead_queue"]

#: What the name of a queue's dead letters ends with.
DEAD_SUFFIX: Final = ".dead"


def dead_queue(queue: str) -> str:
    """Return the name of the queue that takes a queue's dead letters."""
    return queue + DEAD_SUFFIX


@dataclass(frozen=True, slots=True)
class Topology:
    """How queues are declared.

    Parameters:
        max_deliveries: consumers that may die with a message before it is a dead letter.
        adopt: whether a queue that exists with other properties is used as it is; else that is an error.
    """

    max_deliveries: int
    adopt: bool = False

    def queue(self, name: str, driver_type: str, consumer_arguments: dict[str, Any] | None = None) -> kombu.Queue:
        """Return Kombu's description of a queue for a kind of broker, to declare or to consume from it."""
        return kombu.Queue(
            name,
            exchange=kombu.Exchange(""),
            routing_key=name,
            durable=True,
            queue_arguments=self._arguments(name, driver_type),
            consumer_arguments=consumer_arguments,
        )

    def declare(self, name: str, connection: kombu.Connection, channel: Any, driver_type: str) -> None:
        """Make sure that a queue and the one for its dead letters exist.

        Raises a channel error if one exists with other properties and may not be used as it is.
        """
        dead = kombu.Queue(dead_queue(name), exchange=kombu.Exchange(""), routing_key=dead_queue(name), durable=True)
        for queue in (self.queue(name, driver_type), dead):
            if self.adopt:
                # On a channel of its own, since AMQP closes the one on which a declaration is refused.
                with contextlib.suppress(PreconditionFailed), connection.channel() as other:
                    queue(other).queue_declare()
            else:
                queue(channel).queue_declare()

    def _arguments(self, name: str, driver_type: str) -> dict[str, Any] | None:
        if driver_type != "mplite" or name.endswith(DEAD_SUFFIX):
            return None  # dead letters are declared in one way, whoever comes first: those who write or who read them
        return {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": dead_queue(name),
            "x-delivery-limit": self.max_deliveries,
        }

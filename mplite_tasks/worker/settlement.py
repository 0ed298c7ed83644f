"""What a consumer needs of whoever runs its messages: message in, settlement out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from kombu import Message

from mplite_tasks_transport import DeliveryFacts, Outcome, Publication, ReplyError

__all__ = ["Executes", "Settlement"]


@dataclass(frozen=True, slots=True)
class Settlement:
    """What the broker is told about a message that is done with.

    Parameters:
        outcome: what is kept as the task's result, if anything.
        outcome_ttl: seconds that it is kept; ``None`` takes the broker's default.
        publish: a dead letter, or the message of the next attempt.
    """

    outcome: Outcome | None = None
    outcome_ttl: float | None = None
    publish: tuple[Publication, ...] = ()


class Executes(Protocol):
    """Runs messages, without any I/O of its own. Never raises for anything that a message or a user's code does."""

    def run(self, message: Message, facts: DeliveryFacts) -> Settlement:
        """Do what a message asks for and return what the broker is to be told."""

    def instead(self, message: Message, settlement: Settlement, error: ReplyError) -> Settlement:
        """Return what is tried next when the broker refuses a settlement.

        Raises ``error`` when nothing is left to try: then the message stays in its queue, and the consumer ends.
        """

"""The states of a task, as words that also stand in the broker's results."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["State"]


class State(StrEnum):
    """Where a task is in its life.

    ``PENDING``: nothing is known; it waits, or was never sent, or its result was forgotten or has expired.
    ``STARTED``: a consumer works on it. ``RETRY``: it failed and waits in the broker for its next attempt.
    ``SUCCESS``, ``FAILURE``: done. ``EXPIRED``: not started before its ``expires=``.
    """

    PENDING = "PENDING"
    STARTED = "STARTED"
    RETRY = "RETRY"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    EXPIRED = "EXPIRED"

    @property
    def final(self) -> bool:
        """Whether nothing follows."""
        return self in _FINAL


_FINAL = frozenset({State.SUCCESS, State.FAILURE, State.EXPIRED})

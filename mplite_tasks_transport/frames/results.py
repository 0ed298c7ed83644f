"""Requests about results of tasks."""

from __future__ import annotations

import msgspec

from .base import Frame

__all__ = [
    "ForgetResults",
    "GetResult",
    "ResultRecord",
    "StoreResult",
    "WaitResult",
]


class ResultRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The outcome of a task as the broker keeps it.

    Parameters:
        id: the task's id.
        state: a word such as ``SUCCESS``, ``FAILURE`` or ``RETRY``.
        value: opaque bytes.
        final: whether waiters are told. A record that is not final is replaced by the next.
        ttl: microseconds until it expires.
    """

    id: str
    state: str
    value: bytes
    final: bool = True
    ttl: int = 86_400_000_000


class StoreResult(Frame, tag=21):
    """Keep a result, replacing an earlier one of the same id."""

    r: int
    result: ResultRecord


class WaitResult(Frame, tag=22):
    """Answered ``[state, value]`` as soon as a final result of this id is there."""

    r: int
    id: str


class GetResult(Frame, tag=23):
    """Answers ``[state, value, final]``: what is known now. ``["STARTED", b"", False]`` while a consumer that reported
    :class:`Started` holds the message of this id, and ``None`` if nothing is known."""

    r: int
    id: str


class ForgetResults(Frame, tag=24):
    """Drop results. Answers how many there were."""

    r: int
    ids: list[str]

"""The job that runs here now, for code inside a task that wants to know."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

__all__ = ["Job", "current_job", "running"]


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a task in a worker.

    Parameters:
        id: the task's id.
        task: its name.
        queue: where its message waited.
        priority: of the message.
        retries: how often it was retried before.
        headers: of the message, without MPLite's own.
        posted_at: when the broker received the message, in microseconds since the epoch, if the broker says so.
        delivered_at: when the broker handed it out, by the same clock.
    """

    id: str
    task: str
    queue: str
    priority: int
    retries: int
    headers: Mapping[str, Any]
    posted_at: int | None = None
    delivered_at: int | None = None


#: Set by the worker around each run.
running: ContextVar[Job | None] = ContextVar("mplite_job", default=None)


def current_job() -> Job | None:
    """Return the job that this code is part of, ``None`` outside of a worker and in threads that a job started."""
    return running.get()

"""The options of tasks and of calls: their values are checked where they are written, and unknown names refused."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from mplite_tasks_transport import MAX_ID_CHARS, MAX_NAME_BYTES, MAX_PRIORITY, MIN_PRIORITY

from .durations import LONGEST_SECONDS, seconds
from .errors import BadOption, InvalidTask
from .message import RESERVED_HEADERS
from .retry import Retry, as_retry
from .topology import DEAD_SUFFIX

__all__ = ["PRIORITIES", "CallOptions", "TaskOptions", "check_priority", "check_queue"]

#: A priority is a signed 32-bit integer; higher runs first.
PRIORITIES: Final = range(MIN_PRIORITY, MAX_PRIORITY + 1)

#: Bytes of a queue's name: AMQP's short string, less the suffix of its dead letters.
MAX_QUEUE_BYTES: Final = MAX_NAME_BYTES - len(DEAD_SUFFIX)


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What ``@app.task(...)`` may say about a task.

    Parameters:
        name: the task's name on the wire. Default: module and qualified name of the function.
        priority: a signed 32-bit integer; higher runs first. Default 0.
        queue: where its messages wait. Default: the app's queue.
        retry: a :class:`Retry` policy, or a number of retries. Default: none.
        ignore_result: whether nothing is kept of what it returns or raises. Default: no.
        result_ttl: seconds, or a timedelta, that its result is kept. Default: the app's.
    """

    name: str | None = None
    priority: int = 0
    queue: str | None = None
    retry: Retry | None = None
    ignore_result: bool = False
    result_ttl: float | None = None

    @classmethod
    def declared(cls, options: Mapping[str, Any]) -> TaskOptions:
        """Return checked options. Raises :class:`InvalidTask` or :class:`BadOption`, which name the option."""
        known = [option.name for option in fields(cls)]
        for name in options:
            if name not in known:
                raise InvalidTask(f"There is no task option {name!r}.{_suggest(name, known)}")
        checked = dict(options)
        if "priority" in checked:
            checked["priority"] = check_priority(checked["priority"])
        if checked.get("queue") is not None:
            checked["queue"] = check_queue(checked["queue"])
        if checked.get("result_ttl") is not None:
            checked["result_ttl"] = seconds("result_ttl", checked["result_ttl"])
        checked["retry"] = as_retry(checked.get("retry"))
        return cls(**checked)


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What one call may say; ``None`` takes what the task says.

    Parameters:
        priority: a signed 32-bit integer; higher runs first.
        queue: where the message waits.
        countdown: seconds, or a timedelta, until it becomes ready, by the broker's clock.
        eta: the time at which it becomes ready: a datetime with a time zone, or seconds since the epoch. Wall time: if
            the clock is set, the task follows. At most one of ``countdown`` and ``eta``.
        expires: a datetime with a time zone, or seconds or a timedelta from now, after which it is not started.
        headers: further headers of the message.
        id: the task's id. A repetition of one that the broker knows from the last two minutes is kept once.
    """

    priority: int | None = None
    queue: str | None = None
    countdown: float | timedelta | None = None
    eta: datetime | float | None = None
    expires: datetime | timedelta | float | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None

    def __post_init__(self) -> None:
        if self.priority is not None:
            check_priority(self.priority)
        if self.queue is not None:
            check_queue(self.queue)
        if self.countdown is not None and self.eta is not None:
            raise BadOption("Give countdown= or eta=, not both.")
        if self.headers:
            _check_headers(self.headers)
        if self.id is not None and not (isinstance(self.id, str) and 0 < len(self.id) <= MAX_ID_CHARS):
            raise BadOption(f"id={self.id!r} is not a string of 1 to {MAX_ID_CHARS} characters.")

    def merged(self, changes: Mapping[str, Any]) -> CallOptions:
        """Return these options with those of ``changes`` that are not ``None``."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})

    def delay(self) -> float:
        """Return the countdown in seconds."""
        return 0.0 if self.countdown is None else seconds("countdown", self.countdown)

    def eta_epoch(self) -> float | None:
        """Return the ETA in seconds since the epoch."""
        return None if self.eta is None else _epoch("eta", self.eta)

    def expires_epoch(self) -> float | None:
        """Return when the task expires, in seconds since the epoch."""
        if self.expires is None:
            return None
        if isinstance(self.expires, datetime):
            return _epoch("expires", self.expires)
        return time.time() + seconds("expires", self.expires)

    def as_dict(self) -> dict[str, Any]:
        """Return the options that were given, as plain data; :meth:`from_dict` reads it."""
        plain = {name: value for name in ("priority", "queue", "id") if (value := getattr(self, name)) is not None}
        if self.countdown is not None:
            plain["countdown"] = self.delay()
        if self.eta is not None:
            plain["eta"] = self.eta_epoch()
        if isinstance(self.expires, datetime):
            plain["expires_at"] = self.expires_epoch()
        elif self.expires is not None:
            plain["expires"] = seconds("expires", self.expires)
        if self.headers:
            plain["headers"] = dict(self.headers)
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> CallOptions:
        """Return the options that :meth:`as_dict` wrote."""
        options = dict(plain)
        if "expires_at" in options:
            options["expires"] = datetime.fromtimestamp(options.pop("expires_at"), UTC)
        return cls(**options)


def check_priority(priority: int) -> int:
    """Return a priority that the broker can keep. Raises :class:`BadOption` for any other value."""
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise BadOption(f"priority={priority!r} is not an integer.")
    if priority not in PRIORITIES:
        raise BadOption(f"priority={priority} is not a signed 32-bit integer: {PRIORITIES[0]} to {PRIORITIES[-1]}.")
    return priority


def check_queue(name: str) -> str:
    """Return a name that a queue can have. Raises :class:`BadOption` for any other value."""
    if not isinstance(name, str) or not name.strip() or len(name.encode()) > MAX_QUEUE_BYTES:
        raise BadOption(f"queue={name!r} is not a name of 1 to {MAX_QUEUE_BYTES} bytes.")
    return name


def _epoch(name: str, value: datetime | float | Any) -> float:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise BadOption(f"{name}={value!r} has no time zone, so it names no moment: add tzinfo=timezone.utc.")
        return value.timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadOption(f"{name}={value!r} is neither a datetime with a time zone nor seconds since the epoch.")
    if not 0 <= value <= LONGEST_SECONDS:
        raise BadOption(f"{name}={value!r} is no time from 1970 on, at most {LONGEST_SECONDS:g} seconds later.")
    return float(value)


def _check_headers(headers: Mapping[str, Any]) -> None:
    taken = sorted(RESERVED_HEADERS.intersection(headers))
    if taken:
        raise BadOption(f"The header names {', '.join(taken)} are MPLite's own; use others.")


def _suggest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else f" There are: {', '.join(known)}."

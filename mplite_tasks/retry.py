"""Retries: tenacity's strategies, asked by the worker; the wait happens in the broker."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import tenacity

from .durations import LONGEST_SECONDS, seconds
from .errors import BadOption

__all__ = ["DEFAULT_RETRIES", "Retry", "RetryTask", "as_retry"]

#: Retries that :class:`RetryTask` gets from a task without a policy of its own: Celery's default.
DEFAULT_RETRIES: Final = 3

Strategy = Callable[[tenacity.RetryCallState], Any]


def _default_wait() -> Strategy:
    return tenacity.wait_exponential_jitter(max=60)


def _default_retry() -> Strategy:
    return tenacity.retry_if_exception_type(Exception)


@dataclass(frozen=True, slots=True)
class Retry:
    """When a failed task is run again, and after how long.

    Each is one of tenacity's strategies, combined with ``|``, ``&`` and ``+`` as tenacity does::

        Retry(stop=stop_after_attempt(5), wait=wait_exponential_jitter(max=30), retry=retry_if_exception_type(OSError))

    While it waits, the task is a delayed message in the broker: no worker is held. Strategies that look at what the
    function returned, or that sleep or call back (``before``, ``after``), have no meaning here.

    Parameters:
        stop: when to give up. Default: after the third attempt. ``stop_after_delay`` counts from the first start.
        wait: seconds until the next attempt. Default: 1, 2, 4 … at most 60, and up to one more at random.
        retry: for which exceptions. Default: every :class:`Exception`.
    """

    stop: Strategy = field(default_factory=lambda: tenacity.stop_after_attempt(3))
    wait: Strategy = field(default_factory=_default_wait)
    retry: Strategy = field(default_factory=_default_retry)

    def next_wait(self, error: BaseException, *, retries: int, elapsed: float) -> float | None:
        """Return the seconds until the next attempt, ``None`` to give up.

        Parameters:
            retries: how often the task was retried before this attempt.
            elapsed: seconds since its first attempt began.
        """
        state = _state(error, retries, elapsed)
        if not self.retry(state):
            return None
        return self._wait_unless_stopped(state, None)

    def next_wait_on_request(self, request: RetryTask, *, retries: int, elapsed: float) -> float | None:
        """The same for a task that asked for it: ``retry`` is not consulted, and a countdown replaces ``wait``."""
        return self._wait_unless_stopped(_state(request, retries, elapsed), request.countdown)

    def _wait_unless_stopped(self, state: tenacity.RetryCallState, countdown: float | None) -> float | None:
        wait = float(self.wait(state)) if countdown is None else countdown
        if not wait <= LONGEST_SECONDS:
            raise BadOption(f"The retry policy's wait is {wait}, which is no number of seconds.")
        state.upcoming_sleep = wait
        return None if self.stop(state) else max(0.0, wait)


class RetryTask(Exception):
    """Raised by a task that wants to be run again.

    How often stands in the task's ``retry=`` policy, or is three times. Then the task fails with the exception that
    this one was raised from, else with :class:`~mplite_tasks.RetriesExhausted`::

        except Busy as exc:
            raise RetryTask(countdown=5) from exc

    Parameters:
        countdown: seconds, or a timedelta, until the next attempt. Default: what the policy says.

    Raises :class:`BadOption` for any other countdown: then that is what the task fails with.
    """

    def __init__(self, countdown: float | timedelta | None = None) -> None:
        super().__init__(countdown)
        self.countdown = None if countdown is None else seconds("countdown", countdown)


def as_retry(value: Retry | int | None) -> Retry | None:
    """Return the policy that a task's ``retry=`` means: ``3`` is three retries, so four attempts at most."""
    if value is None or isinstance(value, Retry):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Retry(stop=tenacity.stop_after_attempt(value + 1))
    raise BadOption(f"retry={value!r} is neither a Retry(...) nor a number of retries, 0 or more.")


def _state(error: BaseException, retries: int, elapsed: float) -> tenacity.RetryCallState:
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = retries + 1
    state.set_exception((type(error), error, error.__traceback__))
    state.start_time = time.monotonic() - elapsed
    state.idle_for = elapsed
    return state

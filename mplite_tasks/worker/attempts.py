"""Attempts: whether a failed message is tried again, what it carries along then, and how its error is said."""

from __future__ import annotations

import logging
import os
import time
from typing import Any, Final

from ..failures import Failure
from ..retry import DEFAULT_RETRIES, Retry, RetryTask, as_retry

__all__ = ["MAX_ERROR_CHARS", "end_forked_child", "longer_history", "summary", "wait_before_next"]

logger = logging.getLogger("mplite_tasks.worker")

#: Failed attempts that a message carries along, the latest ones.
MAX_HISTORY: Final = 10

#: Characters of an error in a header or a log line.
MAX_ERROR_CHARS: Final = 500

_default_retry: Final = as_retry(DEFAULT_RETRIES) or Retry()


def wait_before_next(
    policy: Retry | None, error: BaseException, *, retries: int, elapsed: float, of: str
) -> float | None:
    """Return the seconds until the next attempt, ``None`` if there is none.

    Parameters:
        policy: what was declared; a :class:`RetryTask` gets a default where that is nothing.
        retries: how often it was retried before.
        elapsed: seconds since the first attempt began.
        of: what failed, for the log.
    """
    try:
        if isinstance(error, RetryTask):
            asked = policy or _default_retry
            return asked.next_wait_on_request(error, retries=retries, elapsed=elapsed)
        return None if policy is None else policy.next_wait(error, retries=retries, elapsed=elapsed)
    except Exception:
        logger.exception("The retry policy of %s raised; it is not run again", of)
        return None


def longer_history(history: Any, failure: Failure) -> list[Any]:
    """Return the history of a message's failed attempts with one more."""
    entry = {"at": time.time(), "error": summary(failure)}
    return [*(history if isinstance(history, list) else []), entry][-MAX_HISTORY:]


def summary(failure: Failure) -> str:
    """Return an error as one short text."""
    return f"{failure.type.replace(':', '.').removeprefix('builtins.')}: {failure.message}"[:MAX_ERROR_CHARS]


def end_forked_child(pid: int, error: BaseException | None) -> None:
    """End a process that a job forked and that came back from its function: only its parent is the consumer.

    Parameters:
        pid: the process in which the job began.
    """
    if os.getpid() != pid:
        code = error.code if isinstance(error, SystemExit) else 0 if error is None else 1
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)

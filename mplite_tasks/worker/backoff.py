"""How soon a process that died is replaced: at once if it had lived, ever later if it dies as soon as it starts."""

from __future__ import annotations

import time
from typing import Final

__all__ = ["Backoff"]

#: Seconds of life after which a death is an event of its own and no sign that the next one will die as well.
HEALTHY_SECONDS: Final = 2.0

FIRST_WAIT_SECONDS: Final = 0.2
MAX_WAIT_SECONDS: Final = 30.0


class Backoff:
    """Counts early deaths in a row, and says when the next process may be started."""

    def __init__(self) -> None:
        self._early_deaths = 0
        self._not_before = 0.0

    def died(self, started: float) -> None:
        """Note the death of a process that was started at this time of the monotonic clock."""
        now = time.monotonic()
        if now - started >= HEALTHY_SECONDS:
            self._early_deaths = 0
            return
        self._early_deaths += 1
        if self._early_deaths > 1:
            wait = FIRST_WAIT_SECONDS * 2.0 ** min(self._early_deaths - 2, 20)
            self._not_before = now + min(wait, MAX_WAIT_SECONDS)

    def remaining(self) -> float:
        """Return the seconds until the next process may be started, 0 for now."""
        return max(0.0, self._not_before - time.monotonic())

"""A log that strangers cannot fill: of each kind of line, one in a second."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Throttle"]

#: Seconds between two lines of a kind.
_SECONDS: Final = 1.0


class Throttle:
    """Logs what happens once a second at most, and how often it happened meanwhile.

    Parameters:
        log: where to.
        level: the level of the lines.
        clock: seconds that never go back.
    """

    def __init__(
        self, log: logging.Logger, level: int = logging.WARNING, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._level = level
        self._clock = clock
        self._next = float("-inf")
        self._unsaid = 0

    def __call__(self, text: str, *values: object) -> None:
        """Log a line, or count it."""
        now = self._clock()
        if now < self._next:
            self._unsaid += 1
            return
        self._next = now + _SECONDS
        if self._unsaid:
            text, values = text + " (%d more like this before)", (*values, self._unsaid)
            self._unsaid = 0
        self._log.log(self._level, text, *values)

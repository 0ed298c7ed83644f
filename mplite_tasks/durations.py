"""Durations: seconds or a timedelta, as a person writes them, checked where they are written."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from .errors import BadOption

__all__ = ["LONGEST_SECONDS", "seconds"]

#: Seconds of the longest duration, 30,000 years: less than what a broker refuses.
LONGEST_SECONDS: Final = 1e12


def seconds(name: str, value: float | timedelta) -> float:
    """Return a duration in seconds. Raises :class:`BadOption` if it is negative, longer than the longest, or none."""
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= LONGEST_SECONDS:
        raise BadOption(
            f"{name}={value!r} is not a number of seconds, 0 or more and at most {LONGEST_SECONDS:g}, or a timedelta."
        )
    return float(number)

"""Exit statuses of the worker's processes."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Exit"]


class Exit(IntEnum):
    """Why a process of the worker ended.

    ``DONE``: it was told to, and every job was finished. ``BROKEN_OFF``: some jobs were not, and went back.
    ``CANNOT_WORK``: the app, a queue or the broker makes it impossible; the last line of the log says which.
    ``BROKEN``: a consumer's own code failed (EX_SOFTWARE). ``HOPELESS``: a consumer or template that no restart can
    help (EX_CONFIG).
    """

    DONE = 0
    BROKEN_OFF = 1
    CANNOT_WORK = 2
    BROKEN = 70
    HOPELESS = 78

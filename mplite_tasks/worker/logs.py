"""The worker's log: one handler on standard error, one line an event."""

from __future__ import annotations

import logging
import multiprocessing

__all__ = ["LEVELS", "name_process", "set_up_logging"]

LEVELS = ("debug", "info", "warning", "error", "critical")


def set_up_logging(level: str) -> None:
    """Log everything from this level on to standard error, unless the program has handlers of its own already.

    Parameters:
        level: one of :data:`LEVELS`.
    """
    logging.basicConfig(
        level=level.upper(), format="[%(asctime)s %(processName)s %(process)d %(levelname)s] %(message)s"
    )
    logging.getLogger("mplite_tasks").setLevel(level.upper())


def name_process(name: str) -> None:
    """Say what this process is, for each line that it logs."""
    multiprocessing.current_process().name = name

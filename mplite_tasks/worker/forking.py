"""What must hold before a process is forked, and what a forked one must do first."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Final

from ..errors import ForkRefused

__all__ = ["die_with_parent", "refuse_threads"]

logger = logging.getLogger("mplite_tasks.worker")

#: ``PR_SET_PDEATHSIG`` of ``prctl(2)``: the signal that this process gets when its parent ends.
_PR_SET_PDEATHSIG: Final = 1


def refuse_threads() -> None:
    """Raise :class:`ForkRefused`, naming them, if this process has other Python threads.

    A fork copies the locks that they hold and not the threads that would release them. Threads that a C library
    started are only warned of, since libraries that do so (OpenBLAS, OpenMP) take care of forks themselves.
    """
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others:
        names = ", ".join(f"{thread.name!r} ({type(thread).__name__})" for thread in others)
        raise ForkRefused(
            f"The app started threads while it was imported: {names}. A process with threads cannot be forked safely: "
            f"start them inside a task, when they are first needed."
        )
    native = _native_threads()
    if native:
        logger.warning("C libraries of the app started threads before the fork: %s", ", ".join(native))


def die_with_parent(parent: int, number: signal.Signals) -> None:
    """Ask the kernel for a signal when the parent ends, and send it now if that has happened already.

    Only on Linux; elsewhere this does nothing.
    """
    if sys.platform != "linux":
        return
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        logger.warning("prctl(PR_SET_PDEATHSIG) failed: %s", os.strerror(ctypes.get_errno()))
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def _native_threads() -> list[str]:
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        return []
    main = str(threading.main_thread().native_id)
    return [(task / "comm").read_text().strip() for task in tasks.iterdir() if task.name != main]

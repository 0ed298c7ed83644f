"""The supervisor: the process that a person or a service manager starts and signals. It runs no code of the app.

It starts the template, starts another one when it dies, and passes on what its own signals ask for: the first
``SIGTERM`` or ``SIGINT`` lets running jobs finish, the second one stops them now and their messages go back.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

from .backoff import Backoff
from .control import Control, Failed, Ready, Start, Stop
from .exits import Exit
from .waiting import Waiter

__all__ = ["Supervisor"]

logger = logging.getLogger("mplite_tasks.worker")

#: Seconds that the template has to end when it is to stop now, before it is killed: longer than its consumers have.
KILL_SECONDS: Final = 8.0

_STOPS: Final = (signal.SIGTERM, signal.SIGINT)


class Supervisor:
    """Runs one worker.

    Parameters:
        start: what the template is told.
        on_ready: called once, when the first template has forked its consumers.
        on_failure: called with what keeps this worker from working; then :meth:`run` returns 2.
    """

    def __init__(
        self, start: Start, *, on_ready: Callable[[Ready], None], on_failure: Callable[[Failed], None]
    ) -> None:
        self._start = start
        self._on_ready = on_ready
        self._on_failure = on_failure
        self._template: subprocess.Popen[bytes] | None = None
        self._control: Control | None = None
        self._started = 0.0
        self._backoff = Backoff()
        self._stops = 0
        self._kill_at: float | None = None
        self._was_ready = False
        self._waiter = Waiter((*_STOPS, signal.SIGCHLD))

    def run(self) -> int:
        """Work until told to stop. Returns the exit status: 0 when every job was finished, 1 when some were broken
        off, 2 when this worker cannot work."""
        while True:
            if self._template is None and not self._stops and not self._backoff.remaining():
                self._launch()
            signals, readable = self._waiter.wait(self._timeout())
            if readable and self._hear():
                return Exit.CANNOT_WORK
            for number in signals:
                if number in _STOPS:
                    self._stop()
            status = self._reap()
            if status is not None:
                return status
            if self._kill_at is not None and time.monotonic() >= self._kill_at and self._template is not None:
                logger.warning("The template did not end in time and is killed")
                self._kill_at = None
                self._template.kill()

    def _timeout(self) -> float | None:
        if self._kill_at is not None:
            return max(0.0, self._kill_at - time.monotonic())
        return self._backoff.remaining() if self._template is None else None

    def _launch(self) -> None:
        ours, theirs = Control.pair()
        self._template = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "mplite_tasks.worker.template", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            # Away from the terminal's process group: a Ctrl-C reaches the supervisor only, not the programs of a job.
            start_new_session=True,
        )
        theirs.close()
        self._started = time.monotonic()
        self._control = ours
        self._waiter.watch(ours)
        ours.send(self._start)

    def _hear(self) -> bool:
        """Read what the template says. Returns whether it says that it cannot work."""
        if self._control is None:
            return False
        failed = False
        for note in self._control.receive():
            if isinstance(note, Ready) and not self._was_ready:
                self._was_ready = True
                self._on_ready(note)
            elif isinstance(note, Failed):
                failed = True
                self._on_failure(note)
        if self._control.ended:
            self._waiter.watch(None)
        if failed and self._template is not None:
            self._template.wait()
        return failed

    def _stop(self) -> None:
        self._stops += 1
        now = self._stops > 1
        if self._stops == 1:
            logger.warning("Stopping when the running jobs are done; signal once more to stop now")
        elif self._stops == 2:
            logger.warning("Stopping now; the running jobs go back to their queues")
            self._kill_at = time.monotonic() + KILL_SECONDS
        if self._control is not None:
            self._control.send(Stop(now=now))

    def _reap(self) -> int | None:
        """Return the exit status of the worker if it is at its end."""
        if self._template is None:
            return Exit.DONE if self._stops else None
        status = self._template.poll()
        if status is None:
            return None
        self._template = None
        self._waiter.watch(None)
        while self._control is not None and not self._control.ended:
            if self._hear():
                return Exit.CANNOT_WORK
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._stops:
            return Exit.DONE if self._stops == 1 else Exit.BROKEN_OFF
        if status == Exit.HOPELESS:
            return Exit.CANNOT_WORK
        self._backoff.died(self._started)
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        logger.error("The template %s; another one takes its place", how)
        return None

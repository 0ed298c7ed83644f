"""The template: the process that imports the app once, and whose forks are the consumers.

It is started by the supervisor as a fresh interpreter, with one end of their socket pair. It runs no task and opens no
connection. It ends when it is told to, or when the supervisor is gone: then its consumers finish what they run.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Final, NoReturn

from mplite_tasks_transport import InvalidURL

from ..errors import AppNotFound, BadOption, ForkRefused, HandlerNotFound, InvalidHandler
from .backoff import Backoff
from .consumer import Consumer
from .control import Control, Failed, Ready, Start, Stop
from .exits import Exit
from .forking import die_with_parent, refuse_threads
from .logs import name_process, set_up_logging
from .stopping import STOP_NOW, STOP_WHEN_DONE, StopSignals
from .waiting import Waiter
from .work import Work, find_work

__all__ = ["KILL_SECONDS", "main"]

logger = logging.getLogger("mplite_tasks.worker")

#: Seconds that a consumer has to give its job back when it is to stop now, before it is killed.
KILL_SECONDS: Final = 5.0

_TAKEN: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


class Template:
    """Keeps so many consumers running until it is told to stop."""

    def __init__(self, work: Work, start: Start, control: Control) -> None:
        self._work = work
        self._queues: Sequence[str] = start.queues or work.queues
        self._concurrency = start.concurrency or work.concurrency
        self._control = control
        self._waiter = Waiter(_TAKEN)
        self._waiter.watch(control)
        self._consumers: dict[int, float] = {}
        self._backoff = Backoff()
        self._stopping = False
        self._kill_at: float | None = None
        self._hopeless = False

    def run(self) -> int:
        """Work until told to stop and every consumer has ended. Returns the exit status of the process."""
        self._fill()
        work = self._work
        self._control.send(Ready(work.name, work.source.broker_url, tuple(self._queues), work.tasks, self._concurrency))
        while self._consumers or not self._stopping:
            signals, readable = self._waiter.wait(self._timeout())
            if readable:
                self._hear()
            if signal.SIGTERM in signals:
                self._stop()
            self._reap()
            self._fill()
            self._kill_if_due()
        return Exit.HOPELESS if self._hopeless else Exit.DONE

    def _timeout(self) -> float | None:
        """Return how long nothing has to be done: for ever, unless a replacement or a kill is due."""
        due = [] if self._kill_at is None else [max(0.0, self._kill_at - time.monotonic())]
        if not self._stopping and len(self._consumers) < self._concurrency:
            due.append(self._backoff.remaining())
        return min(due, default=None)

    def _hear(self) -> None:
        notes = self._control.receive()
        if self._control.ended and not self._stopping:
            logger.warning("The supervisor is gone; the consumers finish what they run")
            self._stop()
        if self._control.ended:
            self._waiter.watch(None)
        for note in notes:
            if isinstance(note, Stop):
                self._stop(now=note.now)

    def _stop(self, *, now: bool = False) -> None:
        self._stopping = True
        if now and self._kill_at is None:
            self._kill_at = time.monotonic() + KILL_SECONDS
        for pid in self._consumers:
            os.kill(pid, STOP_NOW if now else STOP_WHEN_DONE)
        logger.info("%d consumers were told to stop%s", len(self._consumers), " now" if now else " when they are done")

    def _kill_if_due(self) -> None:
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._kill_at = None
            for pid in self._consumers:
                logger.warning("Consumer %d did not give its job back in time and is killed", pid)
                os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        for pid, started in list(self._consumers.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            del self._consumers[pid]
            if self._stopping:
                continue
            if os.waitstatus_to_exitcode(status) == Exit.HOPELESS:
                self._hopeless = True
                self._stop()
                continue
            self._backoff.died(started)
            logger.error("Consumer %d %s; another one takes its place", pid, how_it_ended(status))

    def _fill(self) -> None:
        while not self._stopping and len(self._consumers) < self._concurrency and not self._backoff.remaining():
            self._fork()

    def _fork(self) -> None:
        refuse_threads()
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        # Blocked until the child has handlers of its own, so that no signal falls between the two.
        signal.pthread_sigmask(signal.SIG_BLOCK, (*_TAKEN, STOP_NOW))
        pid = os.fork()
        if pid == 0:
            self._become_consumer(parent)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (*_TAKEN, STOP_NOW))
        self._consumers[pid] = time.monotonic()

    def _become_consumer(self, parent: int) -> NoReturn:
        status: int = Exit.BROKEN
        try:
            name_process("consumer")
            self._waiter.close()
            self._control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            stop = StopSignals()
            stop.install()
            die_with_parent(parent, STOP_WHEN_DONE)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (*_TAKEN, STOP_NOW))
            status = Consumer(self._work.source, self._queues, stop, self._work.executor()).run()
        except BaseException:
            logger.critical("The consumer failed, which it should never do", exc_info=True)
        finally:
            try:
                logging.shutdown()
                sys.stdout.flush()
                sys.stderr.flush()
            finally:  # whatever the app did to its streams: this process must never go on as a second template
                os._exit(status)


def how_it_ended(status: int) -> str:
    """Return a wait status as words."""
    code = os.waitstatus_to_exitcode(status)
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


def main(descriptor: int) -> int:
    """Run the template over the socket with this descriptor. Returns the exit status of the process."""
    name_process("template")
    os.set_inheritable(descriptor, False)
    control = Control(socket.socket(fileno=descriptor))
    notes = control.receive()
    start = notes[0] if notes else None
    if not isinstance(start, Start) or len(notes) > 1:
        return Exit.DONE  # told to stop, or left alone, before anything began
    set_up_logging(start.level)
    failed, work = _load(start)
    if work is None:
        control.send(failed)
        return Exit.HOPELESS
    gc.collect()
    gc.freeze()  # what the app imported stays in pages that parent and consumers share
    try:
        return Template(work, start, control).run()
    except ForkRefused as exc:
        control.send(Failed(str(exc)))
        return Exit.HOPELESS


def _load(start: Start) -> tuple[Failed, Work | None]:
    try:
        return Failed(""), find_work(start)
    except (AppNotFound, BadOption, HandlerNotFound, InvalidHandler, InvalidURL) as exc:
        return Failed(str(exc)), None
    except BaseException as exc:  # whatever the user's own code raises, SystemExit too, is shown to its author
        text = f"{'' if start.is_handler else '-A '}{start.app}: importing it raised {type(exc).__name__}: {exc}"
        return Failed(" ".join(text.split()), "".join(traceback.format_exception(exc))), None


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))

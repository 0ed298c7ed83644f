"""Room in a queue: publishes that wait for some, and requests that wait until nothing is left."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..errors import Code
from ..frames import Failed, Ok, Publish, WaitDrained
from .queue import Queue
from .services import LATER, Services
from .session import Session
from .waits import check_wait

__all__ = ["Room"]


class Room:
    """Holds publishes back at queues that are full, and answers when a queue is done with."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def handlers(self) -> dict[type[Any], Callable[[Session, Any], Any]]:
        """Return the method for each request."""
        return {WaitDrained: self._wait_drained}

    def line_up(self, session: Session, frame: Publish, queue: Queue) -> object:
        """Let a publish wait until the queue has room. What waits is counted in the memory, as what was taken is."""
        check_wait(session, frame.r)
        place = (session, frame)
        queue.line.append(place)
        self._services.memory.add(frame.payload)
        self._services.crowded[queue] = None
        session.waits[frame.r] = partial(self._leave_line, queue, place)
        return LATER

    def admit(self, apply: Callable[[Session, Publish], None]) -> None:
        """Apply the publishes that there is room for now, in the order in which they came."""
        for queue in list(self._services.crowded):
            while queue.line and not queue.is_full:
                session, frame = queue.line.popleft()
                session.waits.pop(frame.r, None)
                self._services.memory.remove(frame.payload)
                apply(session, frame)
            if not queue.line:
                self._services.crowded.pop(queue, None)

    @property
    def may_admit(self) -> bool:
        """Whether publishes wait that have room now."""
        return any(not queue.is_full for queue in self._services.crowded)

    def tell_drained(self) -> None:
        """Answer those who wait for queues that have nothing left."""
        for queue in [queue for queue in self._services.joined if is_drained(queue)]:
            del self._services.joined[queue]
            for session, request in queue.joiners:
                session.waits.pop(request, None)
                self._answer(session, Ok(request, None))
            queue.joiners.clear()

    def forget(self, queue: Queue) -> None:
        """A queue was deleted: whoever waits for it is told."""
        text = f"Queue {queue.name!r} was deleted."
        self._services.crowded.pop(queue, None)
        self._services.joined.pop(queue, None)
        requests = [(session, frame.r) for session, frame in queue.line] + queue.joiners
        for session, request in requests:
            session.waits.pop(request, None)
            self._answer(session, Failed(request, Code.NOT_FOUND, text))
        for _, frame in queue.line:
            self._services.memory.remove(frame.payload)
        queue.line.clear()
        queue.joiners.clear()

    def _wait_drained(self, session: Session, frame: WaitDrained) -> object:
        queue = session.vhost.queue(frame.queue, session)
        check_wait(session, frame.r)
        joiner = (session, frame.r)
        queue.joiners.append(joiner)
        self._services.joined[queue] = None
        session.waits[frame.r] = partial(self._leave_joiners, queue, joiner)
        return LATER

    def _leave_line(self, queue: Queue, place: tuple[Session, Publish]) -> None:
        queue.line.remove(place)
        self._services.memory.remove(place[1].payload)

    @staticmethod
    def _leave_joiners(queue: Queue, joiner: tuple[Session, int]) -> None:
        queue.joiners.remove(joiner)

    def _answer(self, session: Session, frame: Ok | Failed) -> None:
        session.send(frame)
        self._services.talking[session] = None


def is_drained(queue: Queue) -> bool:
    """Return whether a queue has no message: none that waits, none that is delayed, none that is held."""
    return not queue.shared_queue and not queue.held

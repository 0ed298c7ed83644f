"""Publishes that wait at the memory watermark, in the order in which they came."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from ..frames import Blocked, Publish, Unblocked
from .services import Services
from .session import Session

__all__ = ["Parking"]


class Parking:
    """Holds publishes back while the broker has too much in memory.

    Their connections are told why. Everything else that a connection sends goes on: acks make the room that
    publishes wait for.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._waiting: deque[tuple[Session, Publish]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def closed(self) -> bool:
        """Whether a publish that comes now has to wait, also so as not to overtake others."""
        return self._services.memory.blocked or bool(self._waiting)

    @property
    def may_go(self) -> bool:
        """Whether publishes wait that have room now."""
        return bool(self._waiting) and not self._services.memory.blocked

    def park(self, session: Session, frame: Publish) -> None:
        """Keep a publish for later."""
        if not session.parked_bytes:
            session.send(Blocked(self._services.memory.reason))
            self._services.talking[session] = None
        session.parked_bytes += len(frame.payload) + 1
        place = (session, frame)
        self._waiting.append(place)
        if frame.wait and frame.r and frame.r not in session.waits:
            session.waits[frame.r] = partial(self._withdraw, place)

    def let_go(self, apply: Callable[[Session, Publish], None]) -> None:
        """Apply what waits, for as long as there is room."""
        while self._waiting and not self._services.memory.blocked:
            session, frame = self._waiting.popleft()
            if frame.wait:
                session.waits.pop(frame.r, None)
            apply(session, frame)
            self._unparked(session, frame)

    def _withdraw(self, place: tuple[Session, Publish]) -> None:
        """A publish that may be taken back (``wait``) is, or its connection ended."""
        self._waiting.remove(place)
        self._unparked(*place)

    def _unparked(self, session: Session, frame: Publish) -> None:
        session.parked_bytes -= len(frame.payload) + 1
        if not session.parked_bytes:
            session.send(Unblocked())
            self._services.talking[session] = None

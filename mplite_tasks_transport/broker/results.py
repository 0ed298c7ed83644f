"""Results of tasks: kept until they expire, and told to those who wait."""

from __future__ import annotations

from functools import partial

from ..frames import Ok, ResultRecord
from .agenda import Appointment
from .journal.port import DropResult, KeepResult
from .services import Services
from .session import Session

__all__ = ["Results"]


class Results:
    """The results of one vhost.

    Parameters:
        vhost: its name, for the journal.
    """

    def __init__(self, vhost: str, services: Services) -> None:
        self._vhost = vhost
        self._services = services
        self._kept: dict[str, tuple[KeepResult, Appointment]] = {}
        self._waiting: dict[str, list[tuple[Session, int]]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def store(self, record: ResultRecord) -> None:
        """Keep a result in the place of an earlier one, and answer those who wait for a final one."""
        expires = self._services.clock.now() + record.ttl
        kept = KeepResult(self._vhost, record.id, record.state, record.value, record.final, expires)
        self.restore(kept)
        self._services.records.append(kept)
        if record.final:
            for session, request in self._waiting.pop(record.id, ()):
                session.waits.pop(request, None)
                self._answer(session, request, kept)

    def restore(self, kept: KeepResult) -> None:
        """Take back what the journal has."""
        self._drop(kept.id)
        self._services.memory.add(kept.value)
        self._kept[kept.id] = kept, self._services.agenda.add(kept.expires, self.forget, kept.id)

    def get(self, id: str) -> KeepResult | None:
        """Return what is kept for a task."""
        found = self._kept.get(id)
        return None if found is None else found[0]

    def wait(self, session: Session, request: int, id: str) -> None:
        """Answer a request with the final result of a task: now, or as soon as it is there."""
        kept = self.get(id)
        if kept is not None and kept.final:
            self._answer(session, request, kept)
            return
        self._waiting.setdefault(id, []).append((session, request))
        session.waits[request] = partial(self._stop_waiting, session, request, id)

    def _stop_waiting(self, session: Session, request: int, id: str) -> None:
        others = [waiter for waiter in self._waiting[id] if waiter != (session, request)]
        if others:
            self._waiting[id] = others
        else:
            del self._waiting[id]

    def forget(self, id: str) -> bool:
        """Drop a result. Returns whether there was one."""
        dropped = self._drop(id)
        if dropped:
            self._services.records.append(DropResult(self._vhost, id))
        return dropped

    def _drop(self, id: str) -> bool:
        found = self._kept.pop(id, None)
        if found is None:
            return False
        kept, alarm = found
        self._services.memory.remove(kept.value)
        self._services.agenda.cancel(alarm)
        return True

    def _answer(self, session: Session, request: int, kept: KeepResult) -> None:
        session.send(Ok(request, [kept.state, kept.value]), len(kept.value) + 32)
        self._services.talking[session] = None

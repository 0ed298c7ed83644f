"""The requests about results, locks, identity and the broker itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import frames
from .holders import Holders
from .queue import Queue
from .services import LATER, Services
from .session import Session
from .traffic import check_result
from .vhost import check_name

__all__ = ["Enquiries"]


class Enquiries:
    """Answers the requests that move no message.

    Parameters:
        facts: gives what only the process around the core knows (pid, version, durability …) for ``Status``.
    """

    def __init__(self, services: Services, holders: Holders, facts: Callable[[], dict[str, Any]]) -> None:
        self._services = services
        self._holders = holders
        self._facts = facts

    def handlers(self) -> dict[type[Any], Callable[[Session, Any], Any]]:
        """Return the method for each request."""
        return {
            frames.StoreResult: self._store_result,
            frames.WaitResult: self._wait_result,
            frames.GetResult: self._get_result,
            frames.ForgetResults: self._forget_results,
            frames.StopWaiting: self._stop_waiting,
            frames.AcquireLock: self._acquire_lock,
            frames.ReleaseLock: self._release_lock,
            frames.Identify: self._identify,
            frames.Status: self._status,
            frames.Ping: self._ping,
        }

    # Results

    def _store_result(self, session: Session, frame: frames.StoreResult) -> None:
        check_result(frame.result)
        session.vhost.results.store(frame.result)

    def _wait_result(self, session: Session, frame: frames.WaitResult) -> object:
        session.vhost.results.wait(session, frame.r, frame.id)
        return LATER

    def _stop_waiting(self, session: Session, frame: frames.StopWaiting) -> None:
        withdraw = session.waits.pop(frame.request, None)
        if withdraw is not None:
            withdraw()

    def _get_result(self, session: Session, frame: frames.GetResult) -> list[Any] | None:
        kept = session.vhost.results.get(frame.id)
        if kept is not None and kept.final:
            return [kept.state, kept.value, True]
        if any(_works_on(queue, frame.id) for queue in session.vhost.queues.values()):
            return ["STARTED", b"", False]
        return None if kept is None else [kept.state, kept.value, False]

    def _forget_results(self, session: Session, frame: frames.ForgetResults) -> int:
        return sum(session.vhost.results.forget(id) for id in frame.ids)

    # Locks and identity

    def _acquire_lock(self, session: Session, frame: frames.AcquireLock) -> bool:
        return session.vhost.acquire_lock(frame.name, session)

    def _release_lock(self, session: Session, frame: frames.ReleaseLock) -> None:
        session.vhost.release_lock(frame.name, session)

    def _identify(self, session: Session, frame: frames.Identify) -> list[int]:
        check_name("consumer", frame.identity)
        return self._holders.identify(session, frame.identity)

    # The broker

    def _ping(self, session: Session, frame: frames.Ping) -> int:
        return self._services.clock.now()

    def _status(self, session: Session, frame: frames.Status) -> dict[str, Any]:
        memory = self._services.memory
        return {
            **self._facts(),
            "memory": {"held": memory.held, "limit": memory.limit, "blocked": memory.blocked},
            "vhost": session.vhost.name,
            "results": len(session.vhost.results),
            "queues": {queue.name: _counts(queue) for queue in session.vhost.queues.values()},
        }


def _works_on(queue: Queue, id: str) -> bool:
    held = queue.held.get(id)
    return held is not None and held.started


def _counts(queue: Queue) -> dict[str, int]:
    return {
        "waiting": len(queue.shared_index),
        "delayed": len(queue.delayed),
        "held": len(queue.held),
        "consumers": queue.consumers,
    }

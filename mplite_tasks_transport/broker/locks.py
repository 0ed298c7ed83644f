"""The lock of a queue: a lease of a connection, for consumers that take messages out by hand.

While a connection has it, nothing of the queue is matched; publishes and acks go on. It ends with the connection, and
is taken back when the lease is over, so that nobody's death or sleep stops a queue for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .. import frames
from ..errors import Code, PreconditionFailed, ResourceLocked, StaleDelivery
from ..limits import MAX_LOCK_LEASE_SECONDS
from .agenda import Appointment
from .queue import Queue
from .services import LATER, Services
from .session import Session
from .waits import check_wait

__all__ = ["LockWaiter", "QueueLocks"]


class LockWaiter:
    """Somebody who wants the lock."""

    __slots__ = ("deadline", "lease", "request", "session")

    def __init__(self, session: Session, request: int, lease: int) -> None:
        self.session = session
        self.request = request
        self.lease = lease
        self.deadline: Appointment | None = None


class QueueLocks:
    """Answers the requests about queues' locks."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._passing: dict[Queue, None] = {}
        #: Called when a lease is over, before the lock is free: what its holder had half done is undone.
        self.on_revoke: Callable[[Session, Queue], None] = lambda session, queue: None

    def handlers(self) -> dict[type[Any], Callable[[Session, Any], Any]]:
        """Return the method for each request."""
        return {frames.AcquireQueueLock: self._acquire, frames.ReleaseQueueLock: self._release}

    def check_lease(self, session: Session, queue: Queue) -> None:
        """Raise :class:`StaleDelivery`, once, if this connection had the lock until its lease was over."""
        if queue in session.leases_lost:
            session.leases_lost.discard(queue)
            raise StaleDelivery(
                f"The lock of queue {queue.name!r} was taken back, because its lease was over. "
                "Hold it only to take one message out, or ask for a longer lease."
            )

    def check(self, session: Session, queue: Queue) -> None:
        """Raise what :meth:`check_lease` does, and :class:`ResourceLocked` if another connection has the lock."""
        self.check_lease(session, queue)
        holder = queue.lock.holder
        if holder is not None and holder is not session:
            raise ResourceLocked(f"Another connection has the lock of queue {queue.name!r}; take the lock first.")

    def close(self, session: Session) -> None:
        """A connection ended: its locks are free."""
        for queue in list(session.queue_locks):
            self._free(queue)

    def forget(self, queue: Queue) -> None:
        """A queue was deleted: whoever waits for its lock is told."""
        if queue.lock.holder is not None:
            self._drop_holder(queue)
        for waiter in list(queue.lock.waiting):
            self._withdraw(queue, waiter)
            self._answer(waiter, frames.Failed(waiter.request, Code.NOT_FOUND, f"Queue {queue.name!r} was deleted."))

    def _acquire(self, session: Session, frame: frames.AcquireQueueLock) -> object:
        queue = session.vhost.queue(frame.queue, session)
        if not 0 < frame.lease <= MAX_LOCK_LEASE_SECONDS * 1_000_000:
            raise PreconditionFailed(
                f"The lease of a lock is more than 0 and at most {MAX_LOCK_LEASE_SECONDS:g} seconds."
            )
        self.check_lease(session, queue)
        if queue.lock.holder is session and frame.wait:
            raise ResourceLocked(f"This connection has the lock of queue {queue.name!r} already.")
        if frame.wait:
            check_wait(session, frame.r)
        waiter = LockWaiter(session, frame.r, frame.lease)
        if queue.lock.holder is None and not queue.lock.waiting:
            self._give(queue, waiter)
            return True
        if not frame.wait:
            return False
        queue.lock.waiting.append(waiter)
        session.waits[frame.r] = partial(self._withdraw, queue, waiter)
        if frame.wait > 0:
            when = self._services.clock.now() + frame.wait
            waiter.deadline = self._services.agenda.add(when, self._give_up, queue, waiter)
        return LATER

    def _release(self, session: Session, frame: frames.ReleaseQueueLock) -> None:
        queue = session.vhost.queue(frame.queue, session)
        self.check_lease(session, queue)
        if queue.lock.holder is not session:
            raise ResourceLocked(f"This connection does not have the lock of queue {queue.name!r}.")
        self._free(queue)

    def _give(self, queue: Queue, waiter: LockWaiter) -> None:
        queue.lock.holder = waiter.session
        waiter.session.queue_locks.add(queue)
        when = self._services.clock.now() + waiter.lease
        queue.lock.alarm = self._services.agenda.add(when, self._revoke, queue, waiter.session)

    def _revoke(self, queue: Queue, session: Session) -> None:
        if queue.lock.holder is session:
            session.leases_lost.add(queue)
            self.on_revoke(session, queue)
            self._free(queue)

    def _drop_holder(self, queue: Queue) -> None:
        holder, queue.lock.holder = queue.lock.holder, None
        if holder is not None:
            holder.queue_locks.discard(queue)
        if queue.lock.alarm is not None:
            self._services.agenda.cancel(queue.lock.alarm)
            queue.lock.alarm = None

    def _free(self, queue: Queue) -> None:
        self._drop_holder(queue)
        self._services.stirred[queue] = None
        if queue.lock.waiting:
            self._passing[queue] = None

    def pass_on(self) -> None:
        """Give free locks to those who wait for them.

        The broker's own matching is one of those who want the lock: it had its turn since the lock became free, so that
        consumers who take messages by hand and ordinary ones get theirs in turn.
        """
        for queue in self._passing:
            if queue.lock.holder is None and queue.lock.waiting:
                waiter = queue.lock.waiting[0]
                self._withdraw(queue, waiter)
                self._give(queue, waiter)
                self._answer(waiter, frames.Ok(waiter.request, True))
        self._passing.clear()

    def _give_up(self, queue: Queue, waiter: LockWaiter) -> None:
        self._withdraw(queue, waiter)
        self._answer(waiter, frames.Ok(waiter.request, False))

    def _withdraw(self, queue: Queue, waiter: LockWaiter) -> None:
        queue.lock.waiting.remove(waiter)
        waiter.session.waits.pop(waiter.request, None)
        if waiter.deadline is not None:
            self._services.agenda.cancel(waiter.deadline)

    def _answer(self, waiter: LockWaiter, frame: frames.Ok | frames.Failed) -> None:
        waiter.session.send(frame)
        self._services.talking[waiter.session] = None

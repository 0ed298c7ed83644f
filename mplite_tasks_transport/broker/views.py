"""The queue as two dicts: ``shared_index`` and ``shared_queue``, read and written by hand.

What a connection has written of one half only is staged: nobody else sees it until the other half is there, and it
goes with the connection. What it has popped of one half only is reserved: nobody else gets it, it is taken when the
other half is popped, and goes back to its old place if the connection ends in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from .. import frames
from ..errors import PreconditionFailed
from ..limits import MAX_ID_CHARS, MAX_VIEW_ITEMS
from .channel import Held
from .lifecycle import Lifecycle, QueueFull
from .locks import QueueLocks
from .queue import Queue
from .services import Services
from .session import Session
from .traffic import check_priority

__all__ = ["Half", "Reservation", "Staged", "Views"]

Half = frames.Half


class Staged(msgspec.Struct):
    """What a connection has written of a message that is not complete."""

    priority: int | None = None
    payload: bytes | None = None


class Reservation(msgspec.Struct):
    """A message of which a connection has popped one half."""

    held: Held
    popped: Half


class Views:
    """Answers the requests that read and write the two dicts."""

    def __init__(self, services: Services, lifecycle: Lifecycle, locks: QueueLocks) -> None:
        self._services = services
        self._lifecycle = lifecycle
        self._locks = locks

    def handlers(self) -> dict[type[Any], Callable[[Session, Any], Any]]:
        """Return the method for each request."""
        return {
            frames.ViewCount: self._count,
            frames.ViewList: self._list,
            frames.ViewGet: self._get,
            frames.ViewSet: self._set,
            frames.ViewPop: self._pop,
            frames.ViewClear: self._clear,
        }

    def close(self, session: Session) -> None:
        """A connection ended: what it staged is dropped, and what it reserved goes back to its old place."""
        session.staged.clear()
        for reservation in list(session.reserved.values()):
            self._lifecycle.put_back(reservation.held)
        session.reserved.clear()

    # Reading

    def _count(self, session: Session, frame: frames.ViewCount) -> int:
        return len(session.vhost.queue(frame.queue, session).shared_index)

    def _list(self, session: Session, frame: frames.ViewList) -> list[Any]:
        """Answer with a part of the dict in the order in which the messages run, and where the next part begins."""
        queue = session.vhost.queue(frame.queue, session)
        most = min(max(1, frame.most), MAX_VIEW_ITEMS)
        after = (frame.after[0], frame.after[1], frame.after[2]) if frame.after else None
        items: list[Any] = []
        last: list[Any] | None = None
        for entry in queue.shared_index.after(after):
            if len(items) == most:
                return [items, last]
            if frame.half is Half.INDEX:
                items.append([entry.id, [entry.priority, entry.stamp]])
            else:
                items.append([entry.id, queue.shared_queue[entry.id]])
            last = list(entry.key)
        return [items, None]

    def _get(self, session: Session, frame: frames.ViewGet) -> list[Any] | None:
        queue = session.vhost.queue(frame.queue, session)
        reservation = session.reserved.get((queue, frame.id))
        if reservation is not None:
            return None if reservation.popped is frame.half else [_half(reservation.held, frame.half)]
        staged = session.staged.get((queue, frame.id))
        if staged is not None:
            if frame.half is Half.QUEUE:
                return None if staged.payload is None else [staged.payload]
            return None if staged.priority is None else [[staged.priority, 0]]
        entry = queue.shared_index.get(frame.id)
        if entry is None:
            return None
        value = [entry.priority, entry.stamp] if frame.half is Half.INDEX else queue.shared_queue[frame.id]
        return [value]

    # Writing

    def _set(self, session: Session, frame: frames.ViewSet) -> bool:
        """Write one half. Answers whether it was written: ``if_absent`` leaves what is there."""
        queue = session.vhost.queue(frame.queue, session)
        check_set(frame)
        self._locks.check(session, queue)
        key = (queue, frame.id)
        reservation = session.reserved.get(key)
        if reservation is not None:
            if reservation.popped is not frame.half:
                raise PreconditionFailed(
                    f"Message {frame.id!r} of queue {queue.name!r} is being taken; pop its other half."
                )
            del session.reserved[key]
            self._return(reservation.held, frame)
            return True
        if queue.find(frame.id) is not None:
            if not frame.if_absent:
                self._change(queue, frame)
            return not frame.if_absent
        if frame.id in queue.held:
            raise PreconditionFailed(f"A consumer of queue {queue.name!r} has message {frame.id!r} now.")
        self._stage(session, queue, frame)
        return True

    def _change(self, queue: Queue, frame: frames.ViewSet) -> None:
        if frame.half is Half.INDEX:
            self._lifecycle.change_priority(queue, frame.id, frame.priority)
        else:
            self._lifecycle.change_payload(queue, frame.id, frame.payload)

    def _return(self, held: Held, frame: frames.ViewSet) -> None:
        """The half that was popped is written again: the message waits again."""
        self._lifecycle.put_back(held)
        self._change(held.queue, frame)

    def _stage(self, session: Session, queue: Queue, frame: frames.ViewSet) -> None:
        staged = session.staged.setdefault((queue, frame.id), Staged())
        if frame.half is Half.INDEX:
            staged.priority = frame.priority
        else:
            staged.payload = frame.payload
        if staged.priority is None or staged.payload is None:
            return
        if queue.is_full:
            raise QueueFull(queue)
        del session.staged[(queue, frame.id)]
        message = frames.Publish(0, "", queue.name, frame.id, staged.priority, staged.payload)
        self._lifecycle.publish(session.vhost, message, again=True)

    def _pop(self, session: Session, frame: frames.ViewPop) -> list[Any] | None:
        """Take one half out; the second one takes the message."""
        queue = session.vhost.queue(frame.queue, session)
        self._locks.check(session, queue)
        key = (queue, frame.id)
        reservation = session.reserved.get(key)
        if reservation is not None:
            if reservation.popped is frame.half:
                return None
            del session.reserved[key]
            self._lifecycle.done(reservation.held)
            return [_half(reservation.held, frame.half)]
        if key in session.staged:
            return self._pop_staged(session, key, frame.half)
        if queue.shared_index.get(frame.id) is None:
            return None
        removed = queue.remove(frame.id)
        if removed is None:
            return None
        held = Held(queue, *removed, session=session)
        self._lifecycle.hold(held)
        session.reserved[key] = Reservation(held, frame.half)
        return [_half(held, frame.half)]

    @staticmethod
    def _pop_staged(session: Session, key: tuple[Queue, str], half: Half) -> list[Any] | None:
        staged = session.staged[key]
        value: list[Any] | None
        if half is Half.INDEX:
            value = None if staged.priority is None else [[staged.priority, 0]]
            staged.priority = None
        else:
            value = None if staged.payload is None else [staged.payload]
            staged.payload = None
        if staged.priority is None and staged.payload is None:
            del session.staged[key]
        return value

    def _clear(self, session: Session, frame: frames.ViewClear) -> int:
        """Drop every waiting message: both halves of it, since a message is in both dicts or in none."""
        queue = session.vhost.queue(frame.queue, session)
        self._locks.check(session, queue)
        for key in [key for key in session.staged if key[0] is queue]:
            del session.staged[key]
        entries = queue.shared_index.clear()
        for entry in entries:
            self._lifecycle.leave(queue, entry, queue.shared_queue.pop(entry.id))
        return len(entries)


def _half(held: Held, half: Half) -> Any:
    return [held.entry.priority, held.entry.stamp] if half is Half.INDEX else held.payload


def check_set(frame: frames.ViewSet) -> None:
    """Raise :class:`PreconditionFailed` if what is to be written cannot be."""
    check_priority(frame.priority)
    if not 0 < len(frame.id) <= MAX_ID_CHARS:
        raise PreconditionFailed(f"A message id has 1 to {MAX_ID_CHARS} characters, not {len(frame.id)}.")

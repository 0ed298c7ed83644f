"""The queue as two dicts: ``shared_index`` and ``shared_queue``, read and written by hand.

What a connection has written of one half only is staged: nobody else sees it until the other half is there, and it
goes with the connection. What it has popped of one half only is reserved: nobody else gets it, it is taken when the
other half is popped, and goes back to its old place if the connection ends in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

import msgspec

from .. import frames
from ..errors import BrokerBusy, PreconditionFailed
from ..limits import MAX_ID_CHARS, MAX_VIEW_ITEMS
from .channel import Held
from .index import Entry
from .lifecycle import Lifecycle, QueueFull
from .locks import QueueLocks
from .queue import Queue
from .services import Services
from .session import Session
from .traffic import check_priority, check_size

__all__ = ["Half", "Reservation", "Staged", "Views"]

Half = frames.Half

#: Bytes of payloads in one answer, after which the next one goes into the next answer. An answer has to fit a frame.
_ANSWER_BYTES: Final = 1024 * 1024


class Staged(msgspec.Struct):
    """What a connection has written of a message that is not complete."""

    priority: int | None = None
    payload: bytes | None = None

    def half(self, half: Half) -> list[Any] | None:
        """Return one half as an answer has it: ``None`` if it was not written, and a stamp of 0 for none yet."""
        if half is Half.QUEUE:
            return None if self.payload is None else [self.payload]
        return None if self.priority is None else [[self.priority, 0]]


class Reservation(msgspec.Struct):
    """A message of which a connection has popped one half."""

    held: Held
    popped: Half


class Views:
    """Answers the requests that read and write the two dicts.

    A connection whose lock was taken back is told by the first request after that, also by one that reads.
    """

    def __init__(self, services: Services, lifecycle: Lifecycle, locks: QueueLocks) -> None:
        self._services = services
        self._lifecycle = lifecycle
        self._locks = locks
        locks.on_revoke = self._undo

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
        for key in list(session.staged):
            self._unstage(session, key)
        for reservation in list(session.reserved.values()):
            self._lifecycle.put_back(reservation.held)
        session.reserved.clear()

    def _undo(self, session: Session, queue: Queue) -> None:
        """A connection lost the lock of this queue: what it reserved there goes back to its old place."""
        for key in [key for key in session.reserved if key[0] is queue]:
            self._lifecycle.put_back(session.reserved.pop(key).held)

    # Reading

    def _read(self, session: Session, name: str) -> Queue:
        queue = session.vhost.queue(name, session)
        self._locks.check_lease(session, queue)
        return queue

    def _count(self, session: Session, frame: frames.ViewCount) -> int:
        return len(self._read(session, frame.queue).shared_index)

    def _list(self, session: Session, frame: frames.ViewList) -> list[Any]:
        """Answer with a part of the dict in the order in which the messages run, and where the next part begins."""
        queue = self._read(session, frame.queue)
        after = (frame.after[0], frame.after[1], frame.after[2]) if frame.after else None
        most = min(max(1, frame.most), MAX_VIEW_ITEMS)
        entries = queue.shared_index.after(after)
        if frame.half is Half.INDEX:
            part = list(islice(entries, most))
            more = next(entries, None) is not None
            items: list[Any] = [(entry.id, (entry.priority, entry.stamp)) for entry in part]
        else:
            part, more = _fitting(queue, entries, most)
            items = [(entry.id, queue.shared_queue[entry.id]) for entry in part]
        return [items, part[-1].key if more else None]

    def _get(self, session: Session, frame: frames.ViewGet) -> list[Any] | None:
        queue = self._read(session, frame.queue)
        reservation = session.reserved.get((queue, frame.id))
        if reservation is not None:
            return None if reservation.popped is frame.half else [_half(reservation.held, frame.half)]
        staged = session.staged.get((queue, frame.id))
        if staged is not None:
            return staged.half(frame.half)
        entry = queue.shared_index.get(frame.id)
        if entry is None:
            return None
        return [_value(queue, entry, frame.half)]

    # Writing

    def _set(self, session: Session, frame: frames.ViewSet) -> bool | None:
        """Write one half. Answers whether it is in the queue now, ``None`` if it is staged; ``if_absent`` writes over
        nothing.

        A new message is a publish, which the lock of another connection does not stop; a change of one that is there
        has to wait for the lock to be free.
        """
        queue = session.vhost.queue(frame.queue, session)
        check_set(frame)
        self._locks.check_lease(session, queue)
        key = (queue, frame.id)
        reservation = session.reserved.get(key)
        if reservation is not None:
            self._locks.check(session, queue)
            if reservation.popped is not frame.half:
                raise PreconditionFailed(
                    f"Message {frame.id!r} of queue {queue.name!r} is being taken; pop its other half."
                )
            del session.reserved[key]
            self._return(reservation.held, frame)
            return True
        if queue.find(frame.id) is not None:
            if not frame.if_absent:
                self._locks.check(session, queue)
                self._change(queue, frame)
            return not frame.if_absent
        if frame.id in queue.held:
            raise PreconditionFailed(f"A consumer of queue {queue.name!r} has message {frame.id!r} now.")
        return self._stage(session, queue, frame)

    def _change(self, queue: Queue, frame: frames.ViewSet) -> None:
        if frame.half is Half.INDEX:
            self._lifecycle.change_priority(queue, frame.id, frame.priority)
        else:
            self._lifecycle.change_payload(queue, frame.id, frame.payload)

    def _return(self, held: Held, frame: frames.ViewSet) -> None:
        """The half that was popped is written again: the message waits again."""
        self._lifecycle.put_back(held)
        self._change(held.queue, frame)

    def _stage(self, session: Session, queue: Queue, frame: frames.ViewSet) -> bool | None:
        """Write one half of a message that does not exist; with the second half it is published."""
        key = (queue, frame.id)
        staged = session.staged.get(key) or Staged()
        if frame.if_absent and staged.half(frame.half) is not None:
            return False
        memory = self._services.memory
        if frame.half is Half.INDEX:
            complete = Staged(frame.priority, staged.payload)
        elif memory.blocked:
            raise BrokerBusy(memory.reason)
        else:
            complete = Staged(staged.priority, frame.payload)
        if complete.priority is None or complete.payload is None:
            self._unstage(session, key)
            memory.add(complete.payload or b"")
            session.staged[key] = complete
            return None
        if queue.is_full:
            raise QueueFull(queue)
        self._unstage(session, key)
        message = frames.Publish(0, "", queue.name, frame.id, complete.priority, complete.payload)
        self._lifecycle.publish(session.vhost, message, again=True)
        return True

    def _unstage(self, session: Session, key: tuple[Queue, str]) -> None:
        staged = session.staged.pop(key, None)
        if staged is not None:
            self._services.memory.remove(staged.payload or b"")

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

    def _pop_staged(self, session: Session, key: tuple[Queue, str], half: Half) -> list[Any] | None:
        """Take back what was staged: there is one half only, since the second would have published it."""
        value = session.staged[key].half(half)
        if value is not None:
            self._unstage(session, key)
        return value

    def _clear(self, session: Session, frame: frames.ViewClear) -> int:
        """Drop every waiting message: both halves of it, since a message is in both dicts or in none."""
        queue = session.vhost.queue(frame.queue, session)
        self._locks.check(session, queue)
        for key in [key for key in session.staged if key[0] is queue]:
            self._unstage(session, key)
        entries = queue.shared_index.clear()
        for entry in entries:
            self._lifecycle.leave(queue, entry, queue.shared_queue.pop(entry.id))
        return len(entries)


def _fitting(queue: Queue, entries: Iterator[Entry], most: int) -> tuple[list[Entry], bool]:
    """Return as many entries as an answer may have payloads of, at least one, and whether there are more."""
    part: list[Entry] = []
    size = 0
    for entry in entries:
        size += len(queue.shared_queue[entry.id])
        if part and (len(part) == most or size > _ANSWER_BYTES):
            return part, True
        part.append(entry)
    return part, False


def _value(queue: Queue, entry: Entry, half: Half) -> Any:
    return [entry.priority, entry.stamp] if half is Half.INDEX else queue.shared_queue[entry.id]


def _half(held: Held, half: Half) -> Any:
    return [held.entry.priority, held.entry.stamp] if half is Half.INDEX else held.payload


def check_set(frame: frames.ViewSet) -> None:
    """Raise :class:`PreconditionFailed` if what is to be written cannot be."""
    check_priority(frame.priority)
    check_size("message", frame.payload)
    if not 0 < len(frame.id) <= MAX_ID_CHARS:
        raise PreconditionFailed(f"A message id has 1 to {MAX_ID_CHARS} characters, not {len(frame.id)}.")

"""Who works on which message, across connections and lives of the broker.

A consumer that names itself (:class:`~mplite_tasks_transport.frames.Identify`) has the messages that it started with
written to the journal. A broker that comes back after a crash keeps those messages for it: its process goes on working
and settles them when it has reconnected. So the death of the broker makes no job run twice.
"""

from __future__ import annotations

from collections.abc import Iterable

from .channel import Held
from .journal.port import DropHolder, KeepHolder
from .lifecycle import Lifecycle
from .queue import Queue
from .services import Services
from .session import Holder, Process, Session

__all__ = ["Holders"]


class Holders:
    """The consumers that named themselves."""

    def __init__(self, services: Services, lifecycle: Lifecycle) -> None:
        self._services = services
        self._lifecycle = lifecycle

    def identify(self, session: Session, identity: str) -> list[int]:
        """Let a session be this consumer; return the stamps of the deliveries that it takes over."""
        if session.holder is not None and session.holder.identity != identity:
            self.leave(session)
        holder = self._services.holders.setdefault(identity, Holder(identity, session.process))
        taken = list(holder.absent.values())
        holder.absent.clear()
        if holder.session is not None and holder.session is not session:
            taken += self._leave_to_successor(holder.session)
        holder.session, holder.process, session.holder = session, session.process, holder
        for held in taken:
            held.session, held.channel = session, None
            session.resumed[held.entry.stamp] = held
        self._lifecycle.note_holder(holder)
        return [held.entry.stamp for held in taken]

    @staticmethod
    def _leave_to_successor(session: Session) -> list[Held]:
        """Take the started deliveries from a connection whose end has not been noticed yet."""
        session.holder = None
        taken = [held for held in session.resumed.values() if held.started]
        session.resumed.clear()
        for channel in session.channels.values():
            started = {tag: held for tag, held in channel.held.items() if held.started}
            taken += started.values()
            for tag in started:
                del channel.held[tag]
        return taken

    def leave(self, session: Session) -> None:
        """A session is this consumer no more: it ended and what it held was put back, or it has a new name."""
        holder, session.holder = session.holder, None
        if holder is not None:
            self._forget(holder)

    def write(self) -> None:
        """Tell the journal what has changed in this turn."""
        for holder in self._services.holders_changed.values():
            session = holder.session
            if session is None or session.holder is not holder:
                continue
            stamps = [held.entry.stamp for held in session.held() if held.started and held.entry.kept]
            holder.kept = True
            process = holder.process
            self._services.records.append(KeepHolder(holder.identity, process.pid, process.started, stamps))
        self._services.holders_changed.clear()

    def restore(self, records: Iterable[KeepHolder], queues: Iterable[Queue]) -> None:
        """Set the messages apart that consumers of an earlier broker hold."""
        by_stamp = {stamp: record.identity for record in records for stamp in record.stamps}
        for record in records:
            process = Process(record.pid, record.pid_started)
            self._services.holders[record.identity] = Holder(record.identity, process, kept=True)
        if not by_stamp:
            return
        for queue in queues:
            # Among the delayed too: the wall clock may have been set back since the message came due.
            for entry in [e for e in (*queue.shared_index, *queue.delayed.values()) if e.stamp in by_stamp]:
                _, payload = queue.remove(entry.id) or (entry, b"")
                if entry.alarm is not None:
                    self._services.agenda.cancel(entry.alarm)
                held = Held(queue, entry, payload, session=None, started=True)
                queue.held[entry.id] = held
                self._services.holders[by_stamp[entry.stamp]].absent[entry.stamp] = held

    def absentees(self) -> list[Holder]:
        """Return the consumers that have not come back to this broker yet."""
        return [holder for holder in self._services.holders.values() if holder.session is None]

    def give_up(self, holder: Holder) -> None:
        """A consumer that has not come back never will: what it held goes back to its place."""
        if holder.session is not None:
            return
        for held in holder.absent.values():
            self._lifecycle.put_back(held, died=True)
        holder.absent.clear()
        self._forget(holder)

    def _forget(self, holder: Holder) -> None:
        self._services.holders.pop(holder.identity, None)
        self._services.holders_changed.pop(holder.identity, None)
        if holder.kept:
            self._services.records.append(DropHolder(holder.identity))

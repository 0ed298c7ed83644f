"""The broker core: frames of sessions in, frames to sessions and journal records out. No sockets, no files.

The server applies every frame of one turn of its loop, then calls :meth:`Core.finish_turn`, commits the records, and
only then sends what the sessions have to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .. import frames
from ..errors import ReplyError, TooManyConnections
from ..limits import MAX_ERROR_CHARS, MAX_VHOSTS
from .clock import Clock
from .enquiries import Enquiries
from .exchange import Binding
from .holders import Holders
from .journal.port import KeepBinding, KeepExchange, KeepHolder, KeepMessage, KeepQueue, KeepRecent, KeepResult, Record
from .lifecycle import Lifecycle
from .locks import QueueLocks
from .matching import Matcher
from .memory import Memory
from .parking import Parking
from .queue import Queue
from .roles import ALL_ROLES, Role, refuse, refused_frames
from .room import Room
from .services import LATER, Services
from .session import Holder, Process, Session
from .topology import Topology
from .traffic import Traffic
from .vhost import VHost
from .views import Views

__all__ = ["Core"]

#: Messages that one turn hands out, and calls of the agenda that it makes, before other clients get theirs.
TURN_SLICE = 500

#: Bytes of an answer beside its value, and of a number or a short text in a list, about.
_ANSWER_BYTES = 32
_ITEM_BYTES = 16


class Core:
    """All vhosts of one broker.

    Parameters:
        clock: gives out the stamps.
        memory: counts what messages take.
        facts: what the process around the core adds to the answer of ``Status``.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        memory: Memory | None = None,
        facts: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self.services = Services(clock or Clock(), memory or Memory())
        self.vhosts: dict[str, VHost] = {}
        self._lifecycle = Lifecycle(self.services)
        self._matcher = Matcher(self.services, self._lifecycle)
        self._holders = Holders(self.services, self._lifecycle)
        self._locks = QueueLocks(self.services)
        self._room = Room(self.services)
        self._views = Views(self.services, self._lifecycle, self._locks)
        self._topology = Topology(self.services, self._lifecycle, self._matcher, self._locks, self._room)
        self._traffic = Traffic(self.services, self._lifecycle, self._matcher, self._room)
        self._parking = Parking(self.services)
        # The table is written out by hand: what a peer sends never picks a method by its name.
        self._handlers: dict[type[Any], Callable[[Session, Any], Any]] = {
            **self._topology.handlers(),
            **self._traffic.handlers(),
            **self._views.handlers(),
            **self._locks.handlers(),
            **self._room.handlers(),
            **Enquiries(self.services, self._holders, facts).handlers(),
        }

    # Sessions

    def vhost(self, name: str) -> VHost:
        """Return a vhost; it is made when it is first named."""
        vhost = self.vhosts.get(name)
        if vhost is None:
            vhost = self.vhosts[name] = VHost(name, self.services)
        return vhost

    def check_vhost(self, name: str) -> None:
        """Raise :class:`TooManyConnections` if a vhost would have to be made, and there are too many."""
        if name not in self.vhosts and len(self.vhosts) >= MAX_VHOSTS:
            raise TooManyConnections(f"There are {MAX_VHOSTS} vhosts, and no more are made; use one of those.")

    def open_session(
        self,
        vhost: str,
        *,
        user: str = "",
        process: Process | None = None,
        roles: Iterable[Role] = ALL_ROLES,
    ) -> Session:
        """Let a client in, who may do what the roles say."""
        session = Session(self.vhost(vhost), user=user, process=process)
        session.refused = refused_frames(roles)
        session.vhost.sessions.add(session)
        return session

    def close_session(self, session: Session) -> None:
        """The connection ended: everything that belongs to it ends, and what it held goes back to its old place."""
        for channel in list(session.channels.values()):
            self._topology.close_channel(channel, died=True)
        for held in list(session.resumed.values()):
            self._lifecycle.put_back(held, died=True)
        session.resumed.clear()
        self._holders.leave(session)
        for name in list(session.locks):
            session.vhost.release_lock(name, session)
        for withdraw in list(session.waits.values()):
            withdraw()
        session.waits.clear()
        self._views.close(session)
        self._locks.close(session)
        for queue in list(session.exclusive):
            self._topology.delete_queue(queue)
        session.vhost.sessions.discard(session)
        self.services.talking.pop(session, None)

    def pause_output(self, session: Session) -> None:
        """The client has too much to read: it gets no deliveries for now."""
        session.writable = False
        for channel in session.channels.values():
            self._matcher.update(channel)

    def resume_output(self, session: Session) -> None:
        """The client has read what was sent: it may have deliveries again."""
        session.out_bytes = 0
        if not session.writable:
            session.writable = True
            for channel in session.channels.values():
                self._matcher.update(channel)

    # The turn

    def apply(self, session: Session, frame: frames.Request) -> None:
        """Do what one frame asks, and answer it if it wants an answer. An error changes nothing and is told."""
        if type(frame) is frames.Publish and self._parking.closed and type(frame) not in session.refused:
            self._parking.park(session, frame)
            return
        self._apply(session, frame)

    def _apply(self, session: Session, frame: frames.Request) -> None:
        try:
            if session.refused:
                refuse(session.refused, session.user, frame)
            value = self._handlers[type(frame)](session, frame)
        except ReplyError as error:
            session.send(frames.Failed(frame.r, error.reply_code, str(error)[:MAX_ERROR_CHARS]))
        else:
            if not frame.r or value is LATER:
                return
            session.send(frames.Ok(frame.r, value), _ANSWER_BYTES + (size_of(value) if type(value) is list else 0))
        self.services.talking[session] = None

    def finish_turn(self) -> bool:
        """Do what is due, let publishes in that waited for memory, and match. Returns whether there is more to do."""
        for call in self.services.agenda.due(self.services.clock.now(), TURN_SLICE):
            call()
        self._parking.let_go(self._apply)
        self._room.admit(self._apply)
        due = self.services.agenda.next_due()
        # Nothing is handed out while a better message may be about to come due.
        late = due is not None and due <= self.services.clock.now()
        more = late or self._matcher.match(TURN_SLICE)
        self._locks.pass_on()
        self._room.tell_drained()
        self._holders.write()
        self._lifecycle.write_settled()
        return more or self._parking.may_go or self._room.may_admit

    @property
    def is_stirred(self) -> bool:
        """Whether there is something to match."""
        return bool(self.services.stirred)

    def take_records(self) -> list[Record]:
        """Return what the journal has to keep of this turn."""
        records = self.services.records
        self.services.records = []
        return records

    def take_talking(self) -> list[Session]:
        """Return the sessions that have frames to be sent."""
        talking = list(self.services.talking)
        self.services.talking.clear()
        return talking

    def next_due(self) -> int | None:
        """Return when something is due next, in microseconds since the epoch; ``None`` for nothing."""
        return self.services.agenda.next_due()

    # The life before

    def restore(self, records: Iterable[Record]) -> None:
        """Take back what a journal has, before the first session."""
        queues: dict[int, Queue] = {}
        holders: list[KeepHolder] = []
        for record in records:
            match record:
                case KeepMessage():
                    self._lifecycle.restore(queues[record.queue], record)
                case KeepQueue():
                    queues[record.number] = self.vhost(record.vhost).restore_queue(record)
                case KeepExchange():
                    self.vhost(record.vhost).restore_exchange(record)
                case KeepBinding():
                    exchange = self.vhost(record.vhost).exchange(record.exchange)
                    exchange.bind(Binding(queues[record.queue], record.routing_key, record.arguments))
                case KeepHolder():
                    holders.append(record)
                case KeepResult():
                    self.vhost(record.vhost).results.restore(record)
                case KeepRecent():
                    queues[record.queue].recent.restore(record.ids, record.stamp)
                case _:
                    raise TypeError(f"A journal gives back what is kept, not {type(record).__name__}.")
        self._holders.restore(holders, queues.values())

    def absentees(self) -> list[Holder]:
        """Return the consumers of an earlier broker that have not come back yet."""
        return self._holders.absentees()

    def give_up(self, holder: Holder) -> None:
        """A consumer of an earlier broker ended without coming back: what it held goes back to its place."""
        self._holders.give_up(holder)


def size_of(value: Any) -> int:
    """Return about how many bytes an answer's value has: it counts towards what its client has not read yet."""
    if type(value) in (list, tuple):
        return _ITEM_BYTES + sum(map(size_of, value))
    return _ITEM_BYTES + (len(value) if isinstance(value, bytes | str) else 0)

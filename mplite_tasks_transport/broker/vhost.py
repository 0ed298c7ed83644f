"""A vhost: queues, exchanges, bindings, results and locks that no other vhost sees."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from ..errors import BrokerBusy, NotFound, PreconditionFailed, ResourceLocked
from ..limits import MAX_ARGUMENT_DEPTH, MAX_BINDINGS, MAX_EXCHANGES, MAX_NAME_BYTES, MAX_QUEUES
from .exchange import EXCHANGE_TYPES, Binding, Exchange, HeadersOf
from .journal.port import DropBinding, DropExchange, DropQueue, KeepBinding, KeepExchange, KeepQueue
from .queue import Lock, Queue
from .results import Results
from .services import Services
from .session import Session

__all__ = ["VHost"]


class VHost:
    """The named things of one vhost.

    The default exchange (the empty name) reaches each queue by its name. Exchanges ``amq.direct``, ``amq.fanout``,
    ``amq.topic`` and ``amq.headers`` exist from the start, as in AMQP 0-9-1.
    """

    def __init__(self, name: str, services: Services) -> None:
        self.name = name
        self.queues: dict[str, Queue] = {}
        self.exchanges: dict[str, Exchange] = {
            f"amq.{kind}": cls(f"amq.{kind}", durable=True, auto_delete=False, arguments={})
            for kind, cls in EXCHANGE_TYPES.items()
        }
        self.results = Results(name, services)
        self.locks: dict[str, Lock] = {}
        self.sessions: set[Session] = set()
        self._services = services

    # Queues

    def queue(self, name: str, session: Session | None = None) -> Queue:
        """Return a queue. Raises :class:`NotFound`, and :class:`ResourceLocked` if it is another's."""
        queue = self.queues.get(name)
        if queue is None:
            raise NotFound(f"There is no queue {name!r} in vhost {self.name!r}; declare it first.")
        if queue.owner is not None and session is not None and queue.owner is not session:
            raise ResourceLocked(f"Queue {name!r} is exclusive to another connection.")
        return queue

    def declare_queue(
        self,
        name: str,
        session: Session,
        *,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        arguments: dict[str, Any],
    ) -> Queue:
        """Return the queue of this name, made now if there is none; an empty name is picked.

        Raises :class:`ResourceLocked` if the queue is another connection's, and :class:`PreconditionFailed` if it
        exists with other properties: as in AMQP 0-9-1, the first declaration stands and the second is told. Raises
        :class:`BrokerBusy` if there are too many.
        """
        if name in self.queues:
            known = self.queue(name, session)
            check_equivalent(known, durable, exclusive, auto_delete, arguments)
            return known
        check_name("queue", name)
        check_arguments("queue", arguments)
        if len(self.queues) >= MAX_QUEUES:
            raise BrokerBusy(f"Vhost {self.name!r} has {MAX_QUEUES} queues, and takes no more; delete some.")
        queue = Queue(
            self,
            name or f"amq.gen-{uuid.uuid4().hex}",
            auto_delete=auto_delete,
            arguments=arguments,
            owner=session if exclusive else None,
        )
        if durable and not exclusive:
            queue.number = self._services.next_queue
            self._services.next_queue += 1
            self._services.records.append(KeepQueue(queue.number, self.name, queue.name, auto_delete, arguments))
        if exclusive:
            session.exclusive.append(queue)
        self.queues[queue.name] = queue
        return queue

    def restore_queue(self, record: KeepQueue) -> Queue:
        """Take back a queue that the journal has."""
        queue = Queue(
            self, record.name, number=record.number, auto_delete=record.auto_delete, arguments=record.arguments
        )
        self.queues[queue.name] = queue
        self._services.next_queue = max(self._services.next_queue, record.number + 1)
        return queue

    def forget_queue(self, queue: Queue) -> None:
        """Take a queue and its bindings out of the vhost; its messages are the caller's to settle."""
        for exchange in list(self.exchanges.values()):
            for binding in [b for b in exchange.bindings if b.queue is queue]:
                exchange.unbind(binding)
                self._auto_delete_exchange(exchange)
        if queue.durable:
            self._services.records.append(DropQueue(queue.number))
        if queue.owner is not None:
            queue.owner.exclusive.remove(queue)
        del self.queues[queue.name]

    # Exchanges and bindings

    def exchange(self, name: str) -> Exchange:
        """Return a named exchange. Raises :class:`NotFound`."""
        exchange = self.exchanges.get(name)
        if exchange is None:
            raise NotFound(f"There is no exchange {name!r} in vhost {self.name!r}; declare it first.")
        return exchange

    def declare_exchange(
        self, name: str, kind: str, *, durable: bool, auto_delete: bool, arguments: dict[str, Any]
    ) -> None:
        """Make sure that an exchange exists. Raises :class:`PreconditionFailed` for another or an unknown type."""
        known = self.exchanges.get(name)
        if known is not None:
            if known.kind != kind:
                raise PreconditionFailed(f"Exchange {name!r} exists with type {known.kind!r}, not {kind!r}.")
            return
        if kind not in EXCHANGE_TYPES:
            types = ", ".join(EXCHANGE_TYPES)
            raise PreconditionFailed(f"Exchange {name!r}: there is no exchange type {kind!r}; there are {types}.")
        check_name("exchange", name)
        check_arguments("exchange", arguments)
        if len(self.exchanges) >= MAX_EXCHANGES:
            raise BrokerBusy(f"Vhost {self.name!r} has {MAX_EXCHANGES} exchanges, and takes no more; delete some.")
        if not name or name.startswith("amq."):
            raise PreconditionFailed(f"Exchange {name!r}: the empty name and names with 'amq.' belong to the broker.")
        self.restore_exchange(KeepExchange(self.name, name, kind, auto_delete, arguments), durable=durable)
        if durable:
            self._services.records.append(KeepExchange(self.name, name, kind, auto_delete, arguments))

    def restore_exchange(self, record: KeepExchange, *, durable: bool = True) -> None:
        """Take back an exchange that the journal has."""
        self.exchanges[record.name] = EXCHANGE_TYPES[record.kind](
            record.name, durable=durable, auto_delete=record.auto_delete, arguments=record.arguments
        )

    def delete_exchange(self, name: str, *, if_unused: bool) -> None:
        """Delete an exchange and its bindings; one that does not exist is no error.

        Raises :class:`PreconditionFailed` if it has bindings and must not, or belongs to the broker.
        """
        exchange = self.exchanges.get(name)
        if exchange is None:
            return
        if name.startswith("amq."):
            raise PreconditionFailed(f"Exchange {name!r} belongs to the broker and cannot be deleted.")
        if if_unused and exchange.bindings:
            raise PreconditionFailed(f"Exchange {name!r} has {len(exchange.bindings)} bindings.")
        del self.exchanges[name]
        if exchange.durable:
            self._services.records.append(DropExchange(self.name, name))

    def bind(self, queue: Queue, exchange: str, routing_key: str, arguments: dict[str, Any]) -> None:
        """Bind a queue to an exchange; a repetition changes nothing."""
        check_name("routing key", routing_key)
        check_arguments("binding", arguments)
        source = self.exchange(exchange)
        if len(source.bindings) >= MAX_BINDINGS:
            raise BrokerBusy(f"Exchange {exchange!r} has {MAX_BINDINGS} bindings, and takes no more; unbind some.")
        if source.bind(Binding(queue, routing_key, arguments)) and source.durable and queue.durable:
            record = KeepBinding(self.name, exchange, queue.number, routing_key, arguments)
            self._services.records.append(record)

    def unbind(self, queue: Queue, exchange: str, routing_key: str, arguments: dict[str, Any]) -> None:
        """Take a binding back; one that does not exist is no error."""
        source = self.exchange(exchange)
        if not source.unbind(Binding(queue, routing_key, arguments)):
            return
        if source.durable and queue.durable:
            record = DropBinding(self.name, exchange, queue.number, routing_key, arguments)
            self._services.records.append(record)
        self._auto_delete_exchange(source)

    def route(self, exchange: str, routing_key: str, headers: HeadersOf) -> Iterable[Queue]:
        """Return the queues that a message goes to. Raises :class:`NotFound` for an unknown exchange."""
        if not exchange:
            queue = self.queues.get(routing_key)
            return () if queue is None else (queue,)
        return self.exchange(exchange).route(routing_key, headers)

    def _auto_delete_exchange(self, exchange: Exchange) -> None:
        if exchange.auto_delete and not exchange.bindings:
            self.delete_exchange(exchange.name, if_unused=False)

    # Locks

    def acquire_lock(self, name: str, session: Session) -> bool:
        """Take a named lock for a session. Returns whether it has it now."""
        check_name("lock", name)
        lock = self.locks.setdefault(name, Lock())
        if lock.acquire(session):
            session.locks[name] = lock
            return True
        return False

    def release_lock(self, name: str, session: Session) -> None:
        """Give a named lock back. Raises :class:`ResourceLocked` if the session does not have it."""
        if session.locks.pop(name, None) is None:
            raise ResourceLocked(f"Lock {name!r} is not held by this connection.")
        del self.locks[name]


def check_equivalent(
    queue: Queue, durable: bool, exclusive: bool, auto_delete: bool, arguments: dict[str, Any]
) -> None:
    """Raise :class:`PreconditionFailed` if a queue was declared with other properties than these."""
    declared = {"exclusive": queue.owner is not None, "auto_delete": queue.auto_delete, "arguments": queue.arguments}
    wanted = {"exclusive": exclusive, "auto_delete": auto_delete, "arguments": arguments}
    if not exclusive:
        declared["durable"], wanted["durable"] = queue.durable, durable
    for name, value in wanted.items():
        if declared[name] != value:
            raise PreconditionFailed(
                f"Queue {queue.name!r} exists with {name}={declared[name]!r}, not {value!r}. "
                "Declare it the same way everywhere, or delete it first."
            )


def check_arguments(what: str, arguments: dict[str, Any]) -> None:
    """Raise :class:`PreconditionFailed` for arguments that the journal could not keep and give back."""
    level: list[Any] = [arguments]
    for _ in range(MAX_ARGUMENT_DEPTH):
        inner = [v for each in level for v in (each.values() if isinstance(each, dict) else each)]
        level = [value for value in inner if isinstance(value, dict | list | tuple)]
        if any(isinstance(each, dict) and not all(isinstance(key, str) for key in each) for each in level):
            raise PreconditionFailed(f"The keys in the arguments of a {what} are strings.")
    if level:
        raise PreconditionFailed(f"The arguments of a {what} are nested deeper than {MAX_ARGUMENT_DEPTH} levels.")


def check_name(what: str, name: str) -> None:
    """Raise :class:`PreconditionFailed` if a name is longer than AMQP's short string."""
    if len(name) * 4 > MAX_NAME_BYTES and len(name.encode()) > MAX_NAME_BYTES:  # no character has more than 4 bytes
        raise PreconditionFailed(
            f"The name of a {what} may have {MAX_NAME_BYTES} bytes; {name[:40]!r}… has {len(name.encode())}."
        )

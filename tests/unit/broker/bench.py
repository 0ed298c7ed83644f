"""A broker core on a bench: frames in, frames out, by a clock that only moves when a test moves it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mplite_tasks_transport import frames
from mplite_tasks_transport.broker.clock import Clock
from mplite_tasks_transport.broker.core import Core
from mplite_tasks_transport.broker.journal import port
from mplite_tasks_transport.broker.memory import Memory
from mplite_tasks_transport.broker.queue import Queue
from mplite_tasks_transport.broker.session import Process, Session
from mplite_tasks_transport.payload import Payload, encode_payload

__all__ = ["SECOND", "Bench", "Client", "Kept", "letter"]

SECOND = 1_000_000

#: When every test begins, in microseconds since the epoch.
BEGINNING = 1_700_000_000 * SECOND


class Kept:
    """What a journal would have after the records of every turn: the reading that the port's docstrings give."""

    def __init__(self) -> None:
        self.exchanges: dict[tuple[str, str], port.KeepExchange] = {}
        self.queues: dict[int, port.KeepQueue] = {}
        self.bindings: list[port.KeepBinding] = []
        self.messages: dict[int, port.KeepMessage] = {}
        self.holders: dict[str, port.KeepHolder] = {}
        self.results: dict[tuple[str, str], port.KeepResult] = {}
        self.recent: list[port.KeepRecent] = []

    def append(self, records: Iterable[port.Record]) -> None:
        """Take the records of one turn."""
        for record in records:
            self._take(record)

    def _take(self, record: port.Record) -> None:
        match record:
            case port.KeepExchange():
                self.exchanges[record.vhost, record.name] = record
            case port.DropExchange():
                del self.exchanges[record.vhost, record.name]
                self.bindings = [b for b in self.bindings if (b.vhost, b.exchange) != (record.vhost, record.name)]
            case port.KeepQueue():
                self.queues[record.number] = record
            case port.DropQueue():
                del self.queues[record.number]
                self.bindings = [b for b in self.bindings if b.queue != record.number]
                self.messages = {s: m for s, m in self.messages.items() if m.queue != record.number}
                self.recent = [each for each in self.recent if each.queue != record.number]
            case port.KeepBinding():
                self.bindings.append(record)
            case port.DropBinding():
                self.bindings.remove(
                    port.KeepBinding(record.vhost, record.exchange, record.queue, record.routing_key, record.arguments)
                )
            case port.KeepMessage():
                assert record.queue in self.queues, "a message is kept in a queue that is not"
                self.messages[record.stamp] = record
            case port.DropMessage():
                self.messages.pop(record.stamp, None)
            case port.KeepHolder():
                self.holders[record.identity] = record
            case port.DropHolder():
                del self.holders[record.identity]
            case port.KeepResult():
                self.results[record.vhost, record.id] = record
            case port.DropResult():
                del self.results[record.vhost, record.id]
            case port.KeepRecent():
                assert record.queue in self.queues, "ids are kept of a queue that is not"
                assert all((e.queue, e.stamp) != (record.queue, record.stamp) for e in self.recent), (
                    "one replaces another"
                )
                self.recent.append(record)
            case port.DropRecent():
                self.recent = [e for e in self.recent if e.queue != record.queue or e.stamp >= record.before]

    def load(self) -> Iterator[port.Record]:
        """Give everything back in the order that a journal does."""
        yield from self.exchanges.values()
        yield from self.queues.values()
        yield from self.bindings
        yield from (self.messages[stamp] for stamp in sorted(self.messages))
        yield from self.holders.values()
        yield from self.results.values()
        yield from sorted(self.recent, key=lambda record: (record.queue, record.stamp))


class Client:
    """One session on the bench, with channel 1 open.

    :meth:`request` makes a turn of its own; :meth:`ask` is for several frames in one turn.
    """

    def __init__(self, bench: Bench, vhost: str = "/", process: Process | None = None) -> None:
        self.bench = bench
        self.session: Session = bench.core.open_session(vhost, process=process)
        self._requests = 0
        self.deliveries: list[frames.Deliver] = []
        self.pushes: list[Any] = []
        self.answers: dict[int, Any] = {}
        bench.clients.append(self)
        self.request(frames.OpenChannel, channel=1)

    def ask(self, kind: type[Any], *args: Any, **fields: Any) -> int:
        """Apply a request in the turn that is going on, and return its number."""
        self._requests += 1
        self.bench.core.apply(self.session, kind(self._requests, *args, **fields))
        return self._requests

    def request(self, kind: type[Any], *args: Any, **fields: Any) -> Any:
        """Make a request in a turn of its own; return the value of its answer. An error is returned as ``Failed``."""
        number = self.ask(kind, *args, **fields)
        self.bench.turn()
        return self.answer(number)

    def answer(self, number: int) -> Any:
        """Return the value of an answer that came, or ``Failed``. Fails the test if there is none."""
        assert number in self.answers, f"request {number} was not answered"
        answer = self.answers[number]
        return answer.value if isinstance(answer, frames.Ok) else answer

    def read(self) -> None:
        """Take what the broker says to this client."""
        out, self.session.out = self.session.out, []
        for frame in out:
            if isinstance(frame, frames.Deliver):
                self.deliveries.append(frame)
            elif isinstance(frame, frames.Ok | frames.Failed) and frame.r:
                assert frame.r not in self.answers, f"request {frame.r} was answered twice"
                self.answers[frame.r] = frame
            else:
                self.pushes.append(frame)

    def taken(self) -> list[str]:
        """Return the ids of the deliveries since the last call."""
        ids = [frame.id for frame in self.deliveries]
        self.deliveries.clear()
        return ids

    def next(self) -> frames.Deliver:
        """Return the one delivery that has come since the last look. Fails the test if it is not exactly one."""
        assert len(self.deliveries) == 1, f"one delivery was expected, not {self.deliveries}"
        return self.deliveries.pop()

    # Short forms of what most tests need

    def declare(self, name: str = "q", **fields: Any) -> Any:
        return self.request(frames.DeclareQueue, name, **fields)

    def publish(self, id: str, priority: int = 0, queue: str = "q", **fields: Any) -> Any:
        return self.request(
            frames.Publish, fields.pop("exchange", ""), queue, id, priority, fields.pop("payload", b"x"), **fields
        )

    def consume(self, queue: str = "q", tag: str = "", channel: int = 1, **fields: Any) -> Any:
        return self.request(frames.Consume, channel, tag or f"on {queue}", queue, **fields)

    def qos(self, prefetch: int, channel: int = 1) -> Any:
        return self.request(frames.Qos, channel, prefetch)

    def ack(self, delivery: int, channel: int = 1, **fields: Any) -> Any:
        return self.request(frames.Ack, channel, delivery, **fields)

    def reject(self, delivery: int, channel: int = 1, **fields: Any) -> Any:
        return self.request(frames.Reject, channel, delivery, **fields)

    def close(self) -> None:
        """End the connection as a death does."""
        self.bench.core.close_session(self.session)
        self.bench.clients.remove(self)
        self.bench.turn()


class Bench:
    """A core, its clock and everything that it would have journaled."""

    def __init__(self, *, memory_limit: int = 1 << 40, kept: Kept | None = None, now: int = BEGINNING) -> None:
        self.time = now
        self.clock = Clock(now=lambda: self.time)
        self.core = Core(self.clock, Memory(memory_limit))
        self.kept = kept or Kept()
        self.clients: list[Client] = []
        if kept is not None:
            self.core.restore(kept.load())

    def client(self, vhost: str = "/", process: Process | None = None) -> Client:
        """Let a client in."""
        return Client(self, vhost, process)

    def turn_output(self) -> None:
        """Let the clients read what was said so far, in the middle of a turn."""
        for client in self.clients:
            client.read()

    def turn(self) -> None:
        """End the turn, and go on as the server does for as long as there is more to do."""
        for _ in range(10_000):
            more = self.core.finish_turn()
            self.kept.append(self.core.take_records())
            self.core.take_talking()
            for client in self.clients:
                client.read()
            due = self.core.next_due()
            if not more and (due is None or due > self.time):
                return
        raise AssertionError("the broker goes on for ever")

    def step(self, microseconds: int) -> None:
        """Move the clock and let happen what is due."""
        self.time += microseconds
        self.turn()

    def queue(self, name: str = "q", vhost: str = "/") -> Queue:
        """Return a queue of the core, to look into."""
        return self.core.vhosts[vhost].queues[name]

    def waiting(self, name: str = "q") -> list[str]:
        """Return the ids that wait in a queue, in the order in which they run."""
        return [entry.id for entry in self.queue(name).shared_index]

    def crashed(self) -> Bench:
        """Return the bench of a broker that was started after this one was killed."""
        return Bench(kept=self.kept, now=self.time)

    @property
    def memory(self) -> Memory:
        """The count of what is held."""
        return self.core.services.memory


def letter(headers: dict[str, Any] | None = None, body: bytes = b"body", **properties: Any) -> bytes:
    """Return a payload with headers."""
    return encode_payload(Payload(body, {"headers": headers or {}, **properties}))

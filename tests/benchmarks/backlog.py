"""Does a backlog slow the broker down? Put and get with 0, 10,000 and 1,000,000 messages waiting.

Once in the broker core (no socket, no journal), once through a broker on a unix socket that confirms each put after
its commit. Priorities are random, so a put lands anywhere in the order. Target: within 1.5 times the empty queue.
"""

from __future__ import annotations

import contextlib
import gc
import random
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from mplite_tasks_transport import BrokerClient, frames
from mplite_tasks_transport.broker.core import Core
from mplite_tasks_transport.broker.journal import SQLiteJournal
from mplite_tasks_transport.broker.journal.port import KeepMessage, KeepQueue, Record
from mplite_tasks_transport.broker.memory import Memory
from mplite_tasks_transport.broker.session import Session
from mplite_tasks_transport.home import journal_path
from mplite_tasks_transport.payload import Payload, encode_payload

from .harness import Finding, Limit, compare
from .servers import broker, home

__all__ = ["run"]

BACKLOGS = (0, 10_000, 1_000_000)

_QUEUE = "backlog"
_PAYLOAD = encode_payload(Payload(b"x" * 100, {"content_type": "text/plain", "content_encoding": "binary"}))
_TARGET = Limit(1.5, at_most=True)

#: Puts, then as many gets, and so on: an empty queue never holds more than this.
_GROUP = 50


def run(rounds: int) -> list[Finding]:
    """Measure."""
    return [*_core(rounds), *_broker(rounds)]


def _core(rounds: int) -> list[Finding]:
    cores = {_label(size): _filled_core(size) for size in BACKLOGS}
    gc.collect()
    gc.freeze()  # as a broker does that has read its journal
    return _compare("broker core", {name: lambda c=each: _visit_core(*c, 100) for name, each in cores.items()}, rounds)


def _broker(rounds: int) -> list[Finding]:
    with contextlib.ExitStack() as stack:
        clients = {_label(size): stack.enter_context(_filled_broker(size)) for size in BACKLOGS}
        visits = {name: lambda c=client: _visit_broker(c, 10) for name, client in clients.items()}
        return _compare("unix socket, durability os", visits, rounds)


def _compare(where: str, visits: dict[str, Callable[[], tuple[float, float]]], rounds: int) -> list[Finding]:
    """Compare puts and gets, each against those of the empty queue. One visit does both."""
    empty = _label(0)
    gets: dict[str, float] = {}

    def put(name: str) -> float:
        seconds, gets[name] = visits[name]()
        return seconds * 1e6

    findings: list[Finding] = []
    pairs = {(name, empty): _TARGET for name in visits if name != empty}
    contenders: dict[str, Callable[[], float]] = {}
    for name in visits:
        contenders[f"put, {name}"] = lambda n=name: put(n)
        contenders[f"get and ack, {name}"] = lambda n=name: (put(n), gets[n] * 1e6)[1]
    for verb in ("put", "get and ack"):
        chosen = {name: run for name, run in contenders.items() if name.startswith(verb)}
        targets = {(f"{verb}, {a}", f"{verb}, {b}"): limit for (a, b), limit in pairs.items()}
        findings += compare("backlog", where, "µs", chosen, rounds, targets)
    return findings


def _label(size: int) -> str:
    return f"{size:,} waiting" if size else "empty"


def _publish() -> frames.Publish:
    return frames.Publish(1, "", _QUEUE, uuid.uuid4().hex, random.randrange(-1000, 1000), _PAYLOAD)


def _filled_core(size: int) -> tuple[Core, Session]:
    core = Core(memory=Memory(2**40))
    session = core.open_session("/")
    core.apply(session, frames.OpenChannel(1, 1))
    core.apply(session, frames.DeclareQueue(1, _QUEUE))
    for _ in range(size):
        core.apply(session, _publish())
        if len(session.out) >= 1000:
            _end_turn(core, session)
    _end_turn(core, session)
    return core, session


def _end_turn(core: Core, session: Session) -> None:
    core.finish_turn()
    core.take_records()
    core.take_talking()
    session.out.clear()


def _visit_core(core: Core, session: Session, groups: int) -> tuple[float, float]:
    """Return the seconds of a put and of a get with its ack, each in a turn of its own."""
    putting = getting = 0.0
    get = frames.Get(1, 1, _QUEUE)
    for _ in range(groups):
        messages = [_publish() for _ in range(_GROUP)]
        began = time.perf_counter()
        for message in messages:
            core.apply(session, message)
            _end_turn(core, session)
        middle = time.perf_counter()
        for _ in messages:
            core.apply(session, get)
            delivery: int = session.out[-1].value[2]
            _end_turn(core, session)
            core.apply(session, frames.Ack(0, 1, delivery))
            _end_turn(core, session)
        getting += time.perf_counter() - middle
        putting += middle - began
    return putting / groups / _GROUP, getting / groups / _GROUP


@contextlib.contextmanager
def _filled_broker(size: int) -> Iterator[BrokerClient]:
    """Run a broker that found its backlog in its journal, and connect to it."""
    with home() as directory:
        _fill_journal(directory, size)
        with broker("os", directory=directory) as running, running.client() as client:
            client.call(frames.OpenChannel(0, 1))
            yield client


def _fill_journal(directory: Path, size: int) -> None:
    journal = SQLiteJournal(journal_path(directory))
    list(journal.load())
    records: list[Record] = [KeepQueue(1, "/", _QUEUE, False, {})]
    stamp = time.time_ns() // 1000 - size
    for number in range(stamp, stamp + size):
        priority = random.randrange(-1000, 1000)
        records.append(KeepMessage(number, 1, uuid.uuid4().hex, priority, 0, 0, 0, "", _QUEUE, _PAYLOAD))
        if len(records) == 10_000:
            journal.append(records, number)
            records = []
    journal.append(records, stamp + size)
    journal.close()


def _visit_broker(client: BrokerClient, groups: int) -> tuple[float, float]:
    """Return the seconds of a confirmed put and of a get with its ack, one at a time."""
    putting = getting = 0.0
    for _ in range(groups):
        messages = [_publish() for _ in range(_GROUP)]
        began = time.perf_counter()
        for message in messages:
            client.call(message)
        middle = time.perf_counter()
        for _ in messages:
            fields = client.call(frames.Get(0, 1, _QUEUE))
            client.call(frames.Ack(0, 1, fields[2]))
        getting += time.perf_counter() - middle
        putting += middle - began
    return putting / groups / _GROUP, getting / groups / _GROUP

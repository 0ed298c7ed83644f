"""What does it cost that confirmed messages survive? The three levels of durability, on enqueue and drain.

``memory`` keeps nothing, ``os`` survives ``kill -9`` of the broker, ``fsync`` a power cut. Enqueue: confirmed one at a
time, and pipelined. Drain: a consumer that acks each message, at prefetch 100. Target for ``os``: at most 1.3 times
``memory``.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable

from mplite_tasks_transport import BrokerClient, frames
from mplite_tasks_transport.payload import Payload, encode_payload

from .harness import Finding, Limit, compare
from .servers import broker

__all__ = ["run"]

LEVELS = ("memory", "os", "fsync")

_QUEUE = "durability"
_PAYLOAD = encode_payload(Payload(b"x" * 100, {"content_type": "text/plain", "content_encoding": "binary"}))
_TARGETS: dict[tuple[str, str], Limit | None] = {
    ("os", "memory"): Limit(1.3, at_most=True),
    ("fsync", "memory"): None,
}

_ONE_BY_ONE = 300
_MANY = 5000


def run(rounds: int) -> list[Finding]:
    """Measure."""
    with contextlib.ExitStack() as stack:
        clients: dict[str, BrokerClient] = {}
        for level in LEVELS:
            client = clients[level] = stack.enter_context(stack.enter_context(broker(level)).client())
            client.call(frames.DeclareQueue(0, _QUEUE))
        questions: list[tuple[str, Callable[[BrokerClient], float]]] = [
            ("enqueue one at a time", _enqueue_one_by_one),
            ("enqueue pipelined", _enqueue_pipelined),
            ("drain, prefetch 1", lambda client: _drain(client, 1)),
            ("drain, prefetch 100", lambda client: _drain(client, 100)),
        ]
        findings: list[Finding] = []
        for what, measure in questions:
            contenders = {level: lambda m=measure, c=client: m(c) for level, client in clients.items()}
            findings += compare("durability", what, "µs a message", contenders, rounds, _TARGETS)
        return findings


def _publish() -> frames.Publish:
    return frames.Publish(0, "", _QUEUE, uuid.uuid4().hex, 0, _PAYLOAD)


def _enqueue_one_by_one(client: BrokerClient) -> float:
    messages = [_publish() for _ in range(_ONE_BY_ONE)]
    began = time.perf_counter()
    for message in messages:
        client.call(message)
    seconds = time.perf_counter() - began
    client.call(frames.PurgeQueue(0, _QUEUE))
    return seconds / _ONE_BY_ONE * 1e6


def _enqueue_pipelined(client: BrokerClient) -> float:
    messages = [_publish() for _ in range(_MANY)]
    began = time.perf_counter()
    client.call_many(messages)
    seconds = time.perf_counter() - began
    client.call(frames.PurgeQueue(0, _QUEUE))
    return seconds / _MANY * 1e6


def _drain(client: BrokerClient, prefetch: int) -> float:
    client.call_many([_publish() for _ in range(_MANY)])
    client.call(frames.OpenChannel(0, 1))
    client.call(frames.Qos(0, 1, prefetch))
    began = time.perf_counter()
    client.call(frames.Consume(0, 1, "drain", _QUEUE))
    for _ in range(_MANY):
        event = client.drain(timeout=30)
        if isinstance(event, frames.Deliver):
            client.send(frames.Ack(0, 1, event.delivery))
    client.call(frames.Ping(0))
    seconds = time.perf_counter() - began
    client.call(frames.CloseChannel(0, 1))
    return seconds / _MANY * 1e6

"""How fast is it through Kombu, next to Redis and RabbitMQ? The same program on each broker, by its URL.

Publish: ``Producer.publish`` one at a time (MPLite confirms after its commit, RabbitMQ confirms, Redis cannot),
and ``Producer.batch`` where the transport has it. Consume: ``Consumer`` and ``drain_events`` with an ack for each
message, at prefetch 1 and 100, from a queue that is full. Queues are durable, messages persistent, 100 bytes of JSON.
Targets: at least a third of Redis's rate and half of RabbitMQ's.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import kombu

from .harness import Finding, Limit, compare
from .servers import RABBITMQ, REDIS, broker, flush_redis, is_there

__all__ = ["run"]

_QUEUE = kombu.Queue("mplite-benchmark", kombu.Exchange(""), "mplite-benchmark", durable=True)
_BODY = {"text": "x" * 80}
_MPLITE, _REDIS, _RABBITMQ = "MPLite (os)", "Redis", "RabbitMQ"
_TARGETS: dict[tuple[str, str], Limit | None] = {
    (_MPLITE, _REDIS): Limit(1 / 3, at_most=False),
    (_MPLITE, _RABBITMQ): Limit(1 / 2, at_most=False),
}

_ONE_BY_ONE = 1000
_BATCH = 5000


class Peer:
    """One broker with an open connection to it."""

    def __init__(self, connection: kombu.Connection) -> None:
        self.connection = connection
        self._channel = connection.channel()
        self._queue = _QUEUE(self._channel)
        self._queue.declare()
        self._queue.purge()
        self._producer = kombu.Producer(self._channel, auto_declare=False)

    @property
    def batches(self) -> bool:
        """Whether publishes can be grouped."""
        return bool(self._channel.supports_batch_publish) if hasattr(self._channel, "supports_batch_publish") else False

    def publish(self, count: int) -> float:
        """Return the rate of publishing one at a time. The queue is empty before and after."""
        began = time.perf_counter()
        for _ in range(count):
            self._publish()
        seconds = time.perf_counter() - began
        self._queue.purge()
        return count / seconds

    def publish_batches(self, count: int) -> float:
        """Return the rate of publishing in batches of 100, or one at a time where there are no batches."""
        began = time.perf_counter()
        self.fill(count)
        seconds = time.perf_counter() - began
        self._queue.purge()
        return count / seconds

    def fill(self, count: int) -> None:
        """Put so many messages into the queue."""
        with self._producer.batch(max_size=100):
            for _ in range(count):
                self._publish()

    def consume(self, count: int, prefetch: int) -> float:
        """Return the rate of consuming and acking messages, of which as many wait."""
        self.fill(count)
        done = 0

        def on_message(message: Any) -> None:
            nonlocal done
            message.ack()
            done += 1

        began = time.perf_counter()
        # Closing is asked for and answered, so every ack has arrived then.
        with self.connection.channel() as channel:
            consumer = kombu.Consumer(
                channel, [_QUEUE], on_message=on_message, auto_declare=False, prefetch_count=prefetch
            )
            with consumer:
                while done < count:
                    self.connection.drain_events(timeout=10)
        seconds = time.perf_counter() - began
        self._queue.purge()
        return count / seconds

    def _publish(self) -> None:
        self._producer.publish(_BODY, exchange="", routing_key=_QUEUE.name, serializer="json", delivery_mode=2)

    def close(self) -> None:
        """Delete the queue and close the connection."""
        self._queue.delete()
        self.connection.release()


def run(rounds: int) -> list[Finding]:
    """Measure."""
    with _peers() as peers:
        batching = {name: peer for name, peer in peers.items() if peer.batches}
        questions: list[tuple[str, dict[str, Callable[[], float]]]] = [
            ("publish one at a time", {name: lambda p=peer: p.publish(_ONE_BY_ONE) for name, peer in peers.items()}),
            ("publish in batches", {name: lambda p=peer: p.publish_batches(_BATCH) for name, peer in batching.items()}),
            ("consume and ack, prefetch 1", {n: lambda p=peer: p.consume(_ONE_BY_ONE, 1) for n, peer in peers.items()}),
            ("consume and ack, prefetch 100", {n: lambda p=peer: p.consume(_BATCH, 100) for n, peer in peers.items()}),
        ]
        findings: list[Finding] = []
        for what, contenders in questions:
            findings += compare("kombu", what, "messages/s", contenders, rounds, _TARGETS)
        return findings


@contextlib.contextmanager
def _peers() -> Iterator[dict[str, Peer]]:
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(broker("os"))
        peers = {_MPLITE: Peer(ours.connection())}
        if is_there(REDIS):
            stack.callback(flush_redis)
            peers[_REDIS] = Peer(kombu.Connection(REDIS))
        if is_there(RABBITMQ):
            peers[_RABBITMQ] = Peer(kombu.Connection(RABBITMQ, transport_options={"confirm_publish": True}))
        try:
            yield peers
        finally:
            for peer in peers.values():
                peer.close()

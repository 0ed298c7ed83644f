"""The whole core against a model of plain lists, through any sequence of requests, deaths and clock steps."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mplite_tasks_transport import frames
from mplite_tasks_transport.broker.memory import ENTRY_BYTES

from .bench import SECOND, Bench, Client

#: What each queue is declared with. Letters of "a" go to "dead"; "b" gives up after two deaths; "c" is not kept.
QUEUES = {
    "a": {"arguments": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}},
    "b": {"arguments": {"x-delivery-limit": 2}},
    "c": {"durable": False},
    "dead": {},
}
LIVE = ("a", "b", "c")
PAYLOAD = b"x"

T = TypeVar("T")
queues = st.sampled_from(LIVE)
priorities = st.integers(-1, 2) | st.integers(-(2**31), 2**31 - 1)
ids = st.sampled_from([f"m{n}" for n in range(14)])
indexes = st.integers(0, 1_000)


@dataclass(eq=False)
class Message:
    """One message as the model sees it."""

    id: str
    queue: str
    priority: int
    stamp: int
    due: int
    expires: int
    persistent: bool
    deliveries: int = 0

    @property
    def place(self) -> tuple[int, int]:
        return -self.priority, max(self.due, self.stamp)


@dataclass(eq=False)
class Holding:
    """A message that a channel has."""

    message: Message
    started: bool
    credit: bool


@dataclass(eq=False)
class ModelChannel:
    """One channel as the model sees it."""

    client: Client
    number: int
    prefetch: int = 0
    used: int = 0
    consumers: dict[str, tuple[str, bool, bool]] = field(default_factory=dict)
    held: dict[int, Holding] = field(default_factory=dict)

    @property
    def has_credit(self) -> bool:
        return self.prefetch == 0 or self.used < self.prefetch

    def open_queues(self) -> set[str]:
        """Return the queues that it may be sent messages of."""
        if not self.client.session.writable:
            return set()
        return {queue for queue, no_ack, _ in self.consumers.values() if no_ack or self.has_credit}


class CoreMachine(RuleBasedStateMachine):
    """Rules apply frames; ``turn`` ends the turn and compares what the core did with what the model allows."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.producer = self.bench.client()
        for name, fields in QUEUES.items():
            self.producer.declare(name, **fields)
        self.waiting: list[Message] = []
        self.delayed: list[Message] = []
        self.dead: Counter[str] = Counter()
        self.settled: set[tuple[str, str]] = set()
        self.channels: list[ModelChannel] = []
        self.tags = itertools.count()
        self.ids = itertools.count()
        self.last_stamp = 0
        self.turned = True

    # The model

    def best(self, names: set[str]) -> Message | None:
        return min((m for m in self.waiting if m.queue in names), key=lambda m: m.place, default=None)

    def holdings(self) -> list[Holding]:
        return [holding for channel in self.channels for holding in channel.held.values()]

    def has(self, queue: str, id: str) -> bool:
        present = [*self.waiting, *self.delayed, *(h.message for h in self.holdings())]
        return any(m.queue == queue and m.id == id for m in present)

    def leave(self, message: Message) -> None:
        self.settled.add((message.queue, message.id))

    def bury(self, message: Message) -> None:
        self.leave(message)
        if message.queue == "a":
            self.dead[message.id] += 1

    def put_back(self, holding: Holding, *, died: bool = False) -> None:
        message = holding.message
        if died and holding.started:
            message.deliveries += 1
            if message.queue == "b" and message.deliveries >= 2:
                self.bury(message)
                return
        self.waiting.append(message)

    def arrive(self, queue: str, id: str, priority: int, delay: int, ttl: int, persistent: bool) -> None:
        """Take over from the core what it has just taken in: the stamp is its to give, and must rise."""
        entry = self.bench.queue(queue).find(id)
        assert entry is not None
        assert entry.stamp > self.last_stamp, "stamps rise"
        self.last_stamp = entry.stamp
        due = self.bench.time + delay if delay else 0
        expires = max(due, self.bench.time) + ttl if ttl else 0
        message = Message(entry.id, queue, priority, entry.stamp, due, expires, persistent)
        (self.delayed if due else self.waiting).append(message)

    # Rules: what producers do

    @rule(queue=queues, id=ids, priority=priorities, delay=st.sampled_from([0, 0, 0, 1, 3 * SECOND]),
          ttl=st.sampled_from([0, 0, 2 * SECOND, 4 * SECOND]), persistent=st.booleans(),
          fresh=st.booleans())  # fmt: skip
    def publish(self, queue: str, id: str, priority: int, delay: int, ttl: int, persistent: bool, fresh: bool) -> None:
        id = f"f{next(self.ids)}" if fresh else id
        self.turned = False
        known = self.has(queue, id) or (queue, id) in self.settled
        self.producer.ask(frames.Publish, "", queue, id, priority, PAYLOAD, delay=delay, ttl=ttl, persistent=persistent)
        if not known:
            self.arrive(queue, id, priority, delay, ttl, persistent)

    @rule(placed=st.lists(st.tuples(queues, priorities, st.booleans()), min_size=2, max_size=8))
    def publish_many(self, placed: list[tuple[str, int, bool]]) -> None:
        for queue, priority, persistent in placed:
            self.publish(queue, "", priority, 0, 0, persistent, fresh=True)

    @rule(pick=indexes, priority=priorities)
    def reprioritise(self, pick: int, priority: int) -> None:
        self.turned = False
        for message in self.one([*self.waiting, *self.delayed], pick):
            self.producer.ask(frames.Reprioritise, message.queue, message.id, priority)
            message.priority = priority

    @rule(pick=indexes)
    def cancel_message(self, pick: int) -> None:
        self.turned = False
        for message in self.one([*self.waiting, *self.delayed], pick):
            self.producer.ask(frames.CancelMessage, message.queue, message.id)
            self.drop(message)

    @rule(queue=queues)
    def purge(self, queue: str) -> None:
        self.turned = False
        self.producer.ask(frames.PurgeQueue, queue)
        for message in [m for m in (*self.waiting, *self.delayed) if m.queue == queue]:
            self.drop(message)

    @rule(microseconds=st.sampled_from([1, SECOND, 2 * SECOND]))
    def step(self, microseconds: int) -> None:
        self.turned = False
        self.bench.time += microseconds

    def drop(self, message: Message) -> None:
        place = self.waiting if message in self.waiting else self.delayed
        place.remove(message)
        self.leave(message)

    @staticmethod
    def one(items: list[T], pick: int) -> list[T]:
        """Return one of the items in a list, or an empty list if there is none."""
        return [items[pick % len(items)]] if items else []

    # Rules: what consumers do

    @initialize(credits=st.lists(st.integers(0, 3), min_size=3, max_size=3))
    def first_channels(self, credits: list[int]) -> None:
        for number, prefetch in enumerate(credits):
            self.open()
            self.qos(number, prefetch)
            for queue in LIVE:
                self.consume(number, queue, no_ack=False, starts=number == 0)

    @precondition(lambda self: len(self.channels) < 5)
    @rule()
    def open(self) -> None:
        self.channels.append(ModelChannel(self.bench.client(), 1))
        self.turn()  # letting a client in makes one

    @precondition(lambda self: len(self.channels) < 5)
    @rule(pick=indexes)
    def open_second(self, pick: int) -> None:
        for channel in self.one(self.channels, pick):
            number = max(c.number for c in self.channels if c.client is channel.client) + 1
            channel.client.ask(frames.OpenChannel, number)
            self.channels.append(ModelChannel(channel.client, number))

    @rule(pick=indexes, queue=queues, no_ack=st.booleans(), starts=st.booleans())
    def consume(self, pick: int, queue: str, no_ack: bool, starts: bool) -> None:
        self.turned = False
        for channel in self.one(self.channels, pick):
            tag = f"t{next(self.tags)}"
            arguments = {"x-starts-on-delivery": starts}
            channel.client.ask(frames.Consume, channel.number, tag, queue, no_ack, arguments=arguments)
            channel.consumers[tag] = queue, no_ack, starts

    @rule(pick=indexes)
    def cancel_consumer(self, pick: int) -> None:
        for channel, tag in self.one([(c, t) for c in self.channels for t in c.consumers], pick):
            channel.client.ask(frames.CancelConsumer, channel.number, tag)
            del channel.consumers[tag]

    @rule(pick=indexes, prefetch=st.integers(0, 3))
    def qos(self, pick: int, prefetch: int) -> None:
        self.turned = False
        for channel in self.one(self.channels, pick):
            channel.client.ask(frames.Qos, channel.number, prefetch)
            channel.prefetch = prefetch

    @rule(pick=indexes, count=st.integers(1, 3))
    def credit(self, pick: int, count: int) -> None:
        self.turned = False
        for channel in self.one(self.channels, pick):
            channel.client.ask(frames.Credit, channel.number, count)
            channel.used = max(0, channel.used - count)

    @rule(pick=indexes)
    def started(self, pick: int) -> None:
        for channel, tag in self.one([(c, t) for c in self.channels for t in c.held], pick):
            channel.client.ask(frames.Started, channel.number, tag)
            channel.held[tag].started = True

    @rule(pick=indexes, verb=st.sampled_from(["ack", "reject", "requeue", "settle", "retry"]),
          multiple=st.booleans(), credit=st.booleans(), priority=priorities)  # fmt: skip
    def settle(self, pick: int, verb: str, multiple: bool, credit: bool, priority: int) -> None:
        self.turned = False
        for channel, tag in self.one([(c, t) for c in self.channels for t in c.held], pick):
            if verb in ("settle", "retry"):
                multiple = False
            tags = [t for t in channel.held if t <= tag] if multiple else [tag]
            holdings = [channel.held.pop(t) for t in tags]
            if credit:
                channel.used = max(0, channel.used - sum(h.credit for h in holdings))
            ask = channel.client.ask
            message = holdings[-1].message
            if verb in ("settle", "retry"):
                again = frames.Publish(0, "", message.queue, message.id, priority, PAYLOAD)
                ask(frames.Settle, channel.number, tag, publish=[again] if verb == "retry" else [], credit=credit)
            elif verb == "ack":
                ask(frames.Ack, channel.number, tag, multiple, credit)
            else:
                ask(frames.Reject, channel.number, tag, verb == "requeue", multiple, credit)
            for holding in holdings:
                if verb == "requeue":
                    self.put_back(holding)
                elif verb == "reject":
                    self.bury(holding.message)
                else:
                    self.leave(holding.message)
            if verb == "retry":
                self.arrive(message.queue, message.id, priority, 0, 0, True)

    @rule(pick=indexes)
    def recover(self, pick: int) -> None:
        self.turned = False
        for channel in self.one(self.channels, pick):
            channel.client.ask(frames.Recover, channel.number)
            holdings, channel.held = list(channel.held.values()), {}
            channel.used = max(0, channel.used - sum(h.credit for h in holdings))
            for holding in holdings:
                self.put_back(holding)

    @rule(pick=indexes, queue=queues, no_ack=st.booleans())
    def get(self, pick: int, queue: str, no_ack: bool) -> None:
        self.turned = False
        for channel in self.one(self.channels, pick):
            number = channel.client.ask(frames.Get, channel.number, queue, no_ack)
            while (message := self.best({queue})) is not None and 0 < message.expires <= self.bench.time:
                self.waiting.remove(message)
                self.bury(message)
            self.bench.turn_output()
            answer = channel.client.answer(number)
            if message is None:
                assert answer is None
                continue
            delivery = frames.Deliver(*answer)
            assert delivery.id == message.id
            self.last_stamp = delivery.delivered_at
            self.waiting.remove(message)
            if no_ack:
                self.leave(message)
            else:
                channel.held[delivery.delivery] = Holding(message, started=False, credit=False)

    @rule(pick=indexes)
    def close_channel(self, pick: int) -> None:
        self.turned = False
        for channel in self.one(self.channels, pick):
            channel.client.ask(frames.CloseChannel, channel.number)
            self.channels.remove(channel)
            for holding in channel.held.values():
                self.put_back(holding)

    @rule(pick=indexes)
    def die(self, pick: int) -> None:
        self.turned = False
        for channel in self.one(self.channels, pick):
            client = channel.client
            self.bench.core.close_session(client.session)
            self.bench.clients.remove(client)
            for lost in [c for c in self.channels if c.client is client]:
                self.channels.remove(lost)
                for holding in lost.held.values():
                    self.put_back(holding, died=True)

    @rule(pick=indexes, reads=st.booleans())
    def read_or_not(self, pick: int, reads: bool) -> None:
        self.turned = False
        for channel in self.one(self.channels, pick):
            (self.bench.core.resume_output if reads else self.bench.core.pause_output)(channel.client.session)

    # The turn

    @rule(times=st.integers(1, 8), pick=indexes, verb=st.sampled_from(["ack", "requeue", "retry"]))
    def work(self, times: int, pick: int, verb: str) -> None:
        """Settle one delivery a turn, as a worker does."""
        for n in range(times):
            self.settle(pick + n, verb, multiple=False, credit=True, priority=n)
            self.turn()

    @rule()
    def turn(self) -> None:
        self.bench.turn()
        self.turned = True
        now = self.bench.time
        for message in [m for m in self.delayed if m.due <= now]:
            self.delayed.remove(message)
            self.waiting.append(message)
        for message in [m for m in self.waiting if 0 < m.expires <= now]:
            self.waiting.remove(message)
            self.bury(message)
        handed_out = []
        for client in {c.client for c in self.channels}:
            handed_out += [(d.delivered_at, d, client) for d in client.deliveries]
            client.deliveries.clear()
        for stamp, delivery, client in sorted(handed_out, key=lambda each: each[0]):
            assert stamp > delivery.posted_at
            self.last_stamp = max(self.last_stamp, stamp)
            self.hand_out(delivery, client)
        for channel in self.channels:
            assert self.best(channel.open_queues()) is None, "nobody waits while there is a message for it"

    def hand_out(self, delivery: frames.Deliver, client: Client) -> None:
        channel = next(c for c in self.channels if c.client is client and c.number == delivery.channel)
        best = self.best(channel.open_queues())
        assert best is not None, "a channel without credit got a message"
        assert (delivery.id, delivery.queue) == (best.id, best.queue), "it is the best that waits"
        assert (delivery.priority, delivery.posted_at) == (best.priority, best.stamp)
        assert delivery.deliveries == best.deliveries
        queue, no_ack, starts = channel.consumers[delivery.consumer]
        assert queue == best.queue
        assert no_ack or channel.has_credit
        self.waiting.remove(best)
        if no_ack:
            self.leave(best)
        else:
            channel.used += 1
            channel.held[delivery.delivery] = Holding(best, starts, credit=True)

    # What always holds

    @invariant()
    def every_message_is_in_one_place(self) -> None:
        if not self.turned:
            return
        held = [h.message for h in self.holdings()]
        for name in LIVE:
            queue = self.bench.queue(name)
            order = sorted((m for m in self.waiting if m.queue == name), key=lambda m: m.place)
            assert [e.id for e in queue.shared_index] == [m.id for m in order]
            assert sorted(queue.delayed) == sorted(m.id for m in self.delayed if m.queue == name)
            assert sorted(queue.held) == sorted(m.id for m in held if m.queue == name)
            assert set(queue.shared_queue) == {e.id for e in queue.shared_index} | set(queue.delayed)
        assert Counter(e.id.partition("~")[0] for e in self.bench.queue("dead").shared_index) == self.dead
        count = len(self.waiting) + len(self.delayed) + len(held) + self.dead.total()
        assert self.bench.memory.held == count * (ENTRY_BYTES + len(PAYLOAD))

    @invariant()
    def a_new_broker_has_what_was_kept_in_the_same_order(self) -> None:
        if not self.turned:
            return
        after = self.bench.crashed()
        held = [h.message for h in self.holdings()]
        for name in ("a", "b"):
            kept = [m for m in (*self.waiting, *held) if m.queue == name and m.persistent]
            assert after.waiting(name) == [m.id for m in sorted(kept, key=lambda m: m.place)]
            assert sorted(after.queue(name).delayed) == sorted(
                m.id for m in self.delayed if m.queue == name and m.persistent
            )
            for message in kept:
                assert after.queue(name).find(message.id).deliveries == message.deliveries  # type: ignore[union-attr]
        assert after.waiting("dead") == self.bench.waiting("dead")
        assert "c" not in after.core.vhosts["/"].queues

    def teardown(self) -> None:
        """Nothing is left of anything when everything is gone."""
        for client in list(self.bench.clients):
            if client is not self.producer:
                client.close()
        for name in QUEUES:
            self.producer.request(frames.PurgeQueue, name)
        assert self.bench.memory.held == 0
        assert self.bench.kept.messages == {}
        assert len(self.bench.core.services.agenda) == 0


TestCore = CoreMachine.TestCase
TestCore.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

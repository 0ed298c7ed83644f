"""The credit of a queue object: as many messages as gets wait, never one more."""

from __future__ import annotations

import random

import pytest

from mplite_tasks_transport.frames import CancelConsumer, Consume, Deliver, Qos, Reject, Request
from mplite_tasks_transport.priority_queue.intake import CHANNEL, Intake

from ..broker.bench import Bench, Client


def delivery(tag: int) -> Deliver:
    return Deliver(CHANNEL, "get", tag, "q", "", "q", f"id{tag}", 0, tag, tag, 0, False, b"")


def test_the_first_get_registers_a_consumer_for_one_message_and_the_next_ones_ask_for_one_more() -> None:
    intake = Intake("q")
    qos, consume = intake.enter()
    assert isinstance(qos, Qos) and qos.prefetch == 1
    assert isinstance(consume, Consume) and consume.arguments == {"x-starts-on-delivery": True}
    (qos,) = intake.enter()
    assert isinstance(qos, Qos) and qos.prefetch == 2
    intake.deliver(delivery(1))
    assert intake.take().delivery == 1
    (qos,) = intake.enter()
    assert isinstance(qos, Qos) and qos.prefetch == 3


def test_a_get_that_gives_up_before_anything_came_ends_the_consumer_since_no_prefetch_would_mean_any() -> None:
    intake = Intake("q")
    intake.enter()
    assert isinstance(intake.leave()[0], CancelConsumer)
    assert intake.left() is None
    assert [type(request) for request in intake.enter()] == [Qos, Consume]


def test_what_came_for_a_get_that_gave_up_is_given_to_it_after_all() -> None:
    intake = Intake("q")
    intake.enter()
    intake.leave()
    intake.deliver(delivery(1))
    assert intake.surplus() == []
    late = intake.left()
    assert late is not None and late.delivery == 1


def test_what_came_for_a_get_that_is_gone_goes_back() -> None:
    intake = Intake("q")
    intake.enter()
    intake.leave()
    intake.leaving -= 1
    intake.deliver(delivery(1))
    (back,) = intake.surplus()
    assert isinstance(back, Reject) and (back.delivery, back.requeue, back.credit) == (1, True, False)
    assert intake.surplus() == []


class Getter:
    """The gets of one queue object, on a bench whose answers come when a turn ends."""

    def __init__(self, bench: Bench) -> None:
        self.client = Client(bench)
        self.intake = Intake("q")
        self.got: list[Deliver] = []
        self.unread: list[Deliver] = []

    def send(self, requests: list[Request]) -> None:
        for request in requests:
            fields = {name: getattr(request, name) for name in request.__struct_fields__ if name != "r"}
            self.client.ask(type(request), **fields)

    def read(self, rng: random.Random) -> None:
        """Read some of what was delivered, and give it to those who wait."""
        self.unread += self.client.deliveries
        self.client.deliveries.clear()
        for _ in range(rng.randint(0, len(self.unread))):
            self.intake.deliver(self.unread.pop(0))
            self.send(self.intake.surplus())
        while self.intake.arrived and self.intake.waiting and rng.random() < 0.8:
            self.got.append(self.intake.take())


@pytest.mark.parametrize("seed", range(30))
def test_whatever_gets_do_nothing_is_lost_or_held_that_nobody_asked_for(seed: int) -> None:
    rng = random.Random(seed)
    bench = Bench()
    producer = bench.client()
    producer.declare()
    getter = Getter(bench)
    put = 0
    for _ in range(300):
        match rng.randrange(5):
            case 0 | 1:
                getter.send(getter.intake.enter())
            case 2 if getter.intake.waiting:
                getter.send(getter.intake.leave())
                bench.turn()
                getter.read(rng)
                late = getter.intake.left()
                if late is not None:
                    getter.got.append(late)
                getter.send(getter.intake.surplus())
            case 3:
                put += 1
                producer.publish(f"id{put}", rng.randint(0, 3))
        if rng.random() < 0.7:
            bench.turn()
        getter.read(rng)
        held = len(bench.queue().held)
        here = len(getter.got) + len(getter.intake.arrived) + len(getter.unread) + len(getter.client.deliveries)
        assert held == here
        if not getter.unread and not getter.client.deliveries:
            assert len(getter.intake.arrived) <= getter.intake.waiting, "what nobody waits for was sent back"
    assert len(bench.queue().held) + len(bench.waiting()) == put
    assert len({each.id for each in getter.got}) == len(getter.got)

"""Handlers in threads of this process, on real brokers."""

from __future__ import annotations

import functools
import logging
import os
import queue
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tenacity
from kombu import Connection, Message, Queue

from mplite_tasks import ReceivedMessage, Registration, Retry, handler, register_handler
from mplite_tasks_transport import HandshakeRefused, MPLiteManager, PriorityQueue
from tests.support.brokers import BrokerProcess
from tests.support.secure import SecureBroker
from tests.support.shared import connection, shared_broker, vhost_url
from tests.support.workers import PATIENCE, ROOT, wait_until

__all__ = ["connection", "shared_broker", "vhost_url"]

Start = Callable[..., Registration]


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "mplite_tasks.worker")


@pytest.fixture
def start(vhost_url: str) -> Iterator[Start]:
    """Register a handler that is stopped with the test."""
    started: list[Registration] = []

    def start(function: Callable[..., Any], queues: Any = ("q",), concurrency: int = 1, **options: Any) -> Registration:
        registration = register_handler(function, queues, concurrency, **{"broker": vhost_url, **options})
        started.append(registration)
        return registration

    yield start
    for registration in started:
        assert registration.stop(PATIENCE), "the handler did not stop"


def declare(connection: Connection, name: str = "q", **options: Any) -> Queue:
    declared = Queue(name, durable=True, **options)(connection.default_channel)
    declared.queue_declare()
    return declared


def put(connection: Connection, body: Any, queue: str = "q", **options: Any) -> None:
    options = {"serializer": "mplite-json", **options}
    connection.Producer().publish(body, exchange="", routing_key=queue, **options)


def length(connection: Connection, name: str = "q") -> int:
    """How many messages wait; -1 if there is no such queue."""
    try:
        return int(Queue(name)(connection.default_channel).queue_declare(passive=True).message_count)
    except connection.channel_errors:
        return -1


def exists(connection: Connection, name: str) -> bool:
    return length(connection, name) >= 0


def take(connection: Connection, name: str) -> Message:
    """Wait for a message in a queue and take it out."""
    wait_until(lambda: length(connection, name) > 0, f"there is a message in {name}")
    message = Queue(name)(connection.default_channel).get()
    message.ack()
    return message


class Recorder:
    """A handler that hands on what it gets, to wait for."""

    def __init__(self) -> None:
        self.seen: queue.Queue[Any] = queue.Queue()

    def __call__(self, body: Any) -> None:
        self.seen.put(body)

    def next(self) -> Any:
        return self.seen.get(timeout=PATIENCE)


class Gate(Recorder):
    """A handler that waits until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.done: list[Any] = []

    def __call__(self, body: Any) -> None:
        super().__call__(body)
        assert self.open.wait(PATIENCE)
        self.done.append(body)


def test_each_message_is_handled_once_by_four_threads_at_a_time(start: Start, connection: Connection) -> None:
    declare(connection)
    together = threading.Barrier(4)
    record = Recorder()
    threads = set()

    def handle(body: int) -> None:
        if body < 4:
            together.wait(PATIENCE)
        threads.add(threading.current_thread().name)
        record(body)

    for n in range(400):
        put(connection, n)
    start(handle, concurrency=4)
    assert sorted(record.next() for _ in range(400)) == list(range(400))
    wait_until(lambda: length(connection) == 0, "the queue is empty")
    assert record.seen.empty()
    assert len(threads) == 4


def test_the_best_message_of_all_the_queues_is_handled_next(start: Start, connection: Connection) -> None:
    for name in ("q", "r"):
        declare(connection, name)
    for n, (name, priority) in enumerate([("q", 0), ("r", 5), ("q", 9), ("r", 0), ("q", -7)]):
        put(connection, n, name, priority=priority)
    seen: queue.Queue[ReceivedMessage] = queue.Queue()
    start(lambda body, message: seen.put(message), ["q", "r"])
    messages = [seen.get(timeout=PATIENCE) for _ in range(5)]
    assert [(m.queue, m.priority) for m in messages] == [("q", 9), ("r", 5), ("q", 0), ("r", 0), ("q", -7)]
    assert all(m.posted_at and m.delivered_at and m.posted_at < m.delivered_at for m in messages)


def test_what_a_priority_queue_and_the_dicts_put_is_handled_and_counts_as_done(start: Start, vhost_url: str) -> None:
    record = Recorder()
    with PriorityQueue("q", vhost_url, maxsize=3) as items, MPLiteManager(vhost_url) as manager:
        items.put({"n": [1, None]}, priority=1)
        items.put(b"\x00\xff", priority=3)
        manager.shared_index("q")["by hand"] = 2
        manager.shared_queue("q")["by hand"] = "text"
        start(lambda body, message: record((body, message.priority)))
        assert [record.next() for _ in range(3)] == [(b"\x00\xff", 3), ("text", 2), ({"n": [1, None]}, 1)]
        items.join()


def test_a_retry_has_its_place_in_a_full_queue(start: Start, vhost_url: str) -> None:
    record = Gate()

    def handle(body: str, message: ReceivedMessage) -> None:
        record((body, message.retries))
        if body == "flaky" and not message.retries:
            raise ConnectionError("not yet")

    with PriorityQueue("q", vhost_url, maxsize=1) as items:
        items.put("flaky", priority=9)
        start(handle, retry=Retry(wait=tenacity.wait_fixed(0)))
        assert record.next() == ("flaky", 0)
        items.put("steady")
        record.open.set()
        assert sorted(record.next() for _ in range(2)) == [("flaky", 1), ("steady", 0)]


def test_a_queue_that_does_not_exist_is_made_with_one_for_its_dead_letters(
    start: Start, connection: Connection
) -> None:
    record = Recorder()
    start(record)
    wait_until(lambda: length(connection, "q.dead") == 0, "both queues are there")
    put(connection, "first")
    assert record.next() == "first"


def test_a_queue_that_exists_with_other_properties_is_used_as_it_is(start: Start, connection: Connection) -> None:
    declare(connection, queue_arguments={"x-message-ttl": 3_600_000}, max_length=None)
    record = Recorder()
    start(record)
    put(connection, "first")
    assert record.next() == "first"


def test_what_raises_is_a_dead_letter_with_the_reason_and_the_next_one_is_handled(
    start: Start, connection: Connection
) -> None:
    declare(connection)
    record = Recorder()

    def handle(body: str) -> None:
        if body == "bad":
            raise ValueError("not this one")
        record(body)

    put(connection, "bad", headers={"tenant": "t"}, correlation_id="c")
    put(connection, "good")
    start(handle)
    assert record.next() == "good"
    letter = take(connection, "q.dead")
    assert letter.headers["x-dead-reason"] == "failed"
    assert letter.headers["x-dead-error"] == "ValueError: not this one"
    assert 'raise ValueError("not this one")' in letter.headers["x-dead-traceback"]
    assert (letter.headers["tenant"], letter.properties["correlation_id"]) == ("t", "c")
    assert letter.body == b'"bad"'
    assert length(connection) == 0


def test_what_cannot_be_decoded_is_a_dead_letter_and_the_next_one_is_handled(
    start: Start, connection: Connection
) -> None:
    declare(connection)
    put(connection, b"cos\nsystem\n(S'true'\ntR.", serializer=None, content_type="application/x-python-serialize")
    put(connection, b"{", serializer=None, content_type="application/json", content_encoding="utf-8")
    put(connection, "good")
    record = Recorder()
    start(record)
    assert record.next() == "good"
    letters = [take(connection, "q.dead") for _ in range(2)]
    assert {letter.headers["x-dead-reason"] for letter in letters} == {"undecodable"}


def test_a_retry_waits_in_the_broker_and_not_in_the_handler(start: Start, connection: Connection) -> None:
    declare(connection)
    record = Recorder()

    def handle(body: str, message: ReceivedMessage) -> None:
        record((body, message.retries, message.id))
        if body == "flaky" and message.retries == 0:
            raise ConnectionError("not yet")

    put(connection, "flaky", priority=9)
    put(connection, "steady")
    start(handle, retry=Retry(wait=tenacity.wait_fixed(0.3)))
    first, second, third = record.next(), record.next(), record.next()
    assert [first[:2], second[:2], third[:2]] == [("flaky", 0), ("steady", 0), ("flaky", 1)]
    assert first[2] == third[2]
    assert length(connection, "q.dead") == 0


def test_a_handler_that_fails_each_time_is_given_up_after_its_retries(start: Start, connection: Connection) -> None:
    declare(connection)
    put(connection, 1)

    def handle(body: int) -> None:
        raise ConnectionError("never")

    start(handle, retry=Retry(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(0.01)))
    letter = take(connection, "q.dead")
    assert letter.headers["x-dead-retries"] == 2
    assert len(letter.headers["x-mplite-history"]) == 2


@pytest.mark.parametrize("first", ["q", "q.dead"])
def test_a_handler_may_listen_to_the_dead_letters_of_another(start: Start, connection: Connection, first: str) -> None:
    record = Recorder()

    def fail(body: int) -> None:
        raise ValueError("no")

    for name in sorted(["q", "q.dead"], key=lambda name: name != first):
        start(fail if name == "q" else record, [name])
        wait_until(functools.partial(exists, connection, name), f"there is a queue {name}")
    put(connection, 1)
    assert record.next() == 1


def test_a_dead_letter_queue_that_somebody_has_deleted_is_made_again(start: Start, connection: Connection) -> None:
    record = Recorder()

    def handle(body: int) -> None:
        record(body)
        raise ValueError

    start(handle)
    wait_until(lambda: length(connection, "q.dead") == 0, "both queues are there")
    for n in range(3):
        Queue("q.dead")(connection.default_channel).delete()
        put(connection, n)
        assert record.next() == n
        assert take(connection, "q.dead").decode() == n


def test_an_idle_handler_stops_at_once_and_takes_nothing_more(start: Start, connection: Connection) -> None:
    record = Recorder()
    registration = start(record, concurrency=3)
    wait_until(lambda: length(connection) == 0, "the handler consumes")
    assert registration.running
    assert registration.stop(PATIENCE)
    assert not registration.running
    assert registration.join()
    put(connection, "late")
    assert length(connection) == 1
    assert record.seen.empty()
    assert "stopped" in repr(registration)


def test_a_stop_waits_for_what_is_being_handled_and_starts_no_other(start: Start, connection: Connection) -> None:
    declare(connection)
    gate = Gate()
    for n in range(2):
        put(connection, n)
    registration = start(gate)
    assert gate.next() == 0
    assert not registration.stop(timeout=0)
    assert not registration.join(timeout=0)
    gate.open.set()
    assert registration.stop(PATIENCE)
    assert gate.done == [0]
    assert length(connection) == 1


def test_a_block_stops_its_handler(vhost_url: str) -> None:
    record = Recorder()

    @handler(queues=["q"], broker=vhost_url)
    def handle(body: Any) -> None:
        record(body)

    with Connection(vhost_url) as other, handle.start() as registration:
        wait_until(lambda: length(other) == 0, "the handler consumes")
        put(other, "x")
        assert record.next() == "x"
    assert not registration.running


def test_a_handler_may_stop_itself(start: Start, connection: Connection) -> None:
    declare(connection)
    put(connection, 1)
    put(connection, 2)
    started = threading.Event()
    holder: list[Registration] = []

    def handle(body: int) -> None:
        assert started.wait(PATIENCE)
        holder[0].stop()

    holder.append(start(handle))
    started.set()
    assert holder[0].join(PATIENCE)
    assert length(connection) == 1


def test_what_the_broker_refuses_the_handler_with_is_raised_by_join(start: Start, shared_broker: BrokerProcess) -> None:
    registration = start(print, broker=shared_broker.plain_url, transport_options={"key": "x" * 32}, concurrency=2)
    with pytest.raises(HandshakeRefused):
        registration.join(PATIENCE)
    assert not registration.running


def test_a_forked_child_does_not_stop_the_handler_of_its_parent(start: Start, connection: Connection) -> None:
    record = Recorder()
    registration = start(record)
    wait_until(lambda: length(connection) == 0, "the handler consumes")
    code = os.fork()
    if code == 0:
        os._exit(0 if registration.stop(0) and registration.join(0) and not registration.running else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(code, 0)[1]) == 0
    put(connection, "x")
    assert record.next() == "x"


@pytest.mark.parametrize("when", ["before the broker is back", "after the broker is back"])
def test_a_killed_broker_makes_no_running_handler_run_twice(broker: BrokerProcess, when: str) -> None:
    gate = Gate()
    with Connection(broker.url) as connection:
        declare(connection)
        for n in range(2):
            put(connection, n)
    with register_handler(gate, ["q"], broker=broker.url):
        assert gate.next() == 0
        broker.kill()
        if when.startswith("before"):
            gate.open.set()
            wait_until(lambda: gate.done == [0], "the handler is done")
            broker.start()
        else:
            broker.start()
            gate.open.set()
        assert gate.next() == 1
        wait_until(lambda: gate.done == [0, 1], "the next one is handled")
    with Connection(broker.url) as connection:
        assert length(connection) == 0
    assert gate.seen.empty()


def test_an_idle_handler_finds_a_broker_that_was_killed_and_is_back(broker: BrokerProcess) -> None:
    record = Recorder()
    with register_handler(record, ["q"], concurrency=2, broker=broker.url):
        for n in range(2):
            with Connection(broker.url) as connection:
                wait_until(lambda: length(connection) == 0, "the queue is there")
                put(connection, n)
            assert record.next() == n
            broker.kill()
            broker.start()


def test_a_handler_that_looks_for_its_broker_can_be_stopped(broker: BrokerProcess) -> None:
    registration = register_handler(print, ["q"], broker=broker.url)
    with Connection(broker.url) as connection:
        wait_until(lambda: length(connection) == 0, "the queue is there")
    broker.kill()
    assert registration.stop(PATIENCE)


def test_handlers_work_over_tls_with_a_credentials_file(secure_broker: Callable[..., SecureBroker]) -> None:
    options = {"credentials": str(secure_broker().user("someone", "produce", "consume"))}
    record = Recorder()
    with (
        Connection("mplites://", transport_options=options) as connection,
        register_handler(record, ["q"], 2, broker="mplites://", transport_options=options),
    ):
        wait_until(lambda: exists(connection, "q"), "the queue is there")
        for n in range(20):
            put(connection, [n, "x" * 100_000])
        assert sorted(record.next()[0] for _ in range(20)) == list(range(20))


PROGRAM = """
import sys, threading
from mplite_tasks import register_handler

started, told = threading.Event(), threading.Event()

def handle(body):
    started.set()
    told.wait()
    print("handled", body)

register_handler(handle, ["q"], broker=sys.argv[1])
started.wait()
threading.Timer(0.2, told.set).start()
"""


def test_the_end_of_the_program_waits_for_what_is_being_handled(vhost_url: str, connection: Connection) -> None:
    declare(connection)
    put(connection, 1)
    command = [sys.executable, "-W", "error", "-c", PROGRAM, vhost_url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("handled 1\n", "", 0)
    assert length(connection) == 0


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("redis://127.0.0.1:6379/9", marks=pytest.mark.redis),
        pytest.param("amqp://guest:guest@127.0.0.1:5672//", marks=pytest.mark.rabbitmq),
    ],
)
def test_other_brokers_have_handlers_too(url: str) -> None:
    name = f"mplite-test-{uuid.uuid4().hex}"
    record = Recorder()

    def handle(body: str) -> None:
        if body == "bad":
            raise ValueError("no")
        record(body)

    with Connection(url) as connection:
        for body in ("bad", "good"):
            declare(connection, name)
            put(connection, body, name)
        try:
            with register_handler(handle, [name], broker=url):
                assert record.next() == "good"
                assert take(connection, f"{name}.dead").headers["x-dead-error"] == "ValueError: no"
        finally:
            for queue_name in (name, f"{name}.dead"):
                Queue(queue_name)(connection.default_channel).delete()

"""What Kombu programs do about lost connections, over ``mplite://``: nothing confirmed is lost, nothing is doubled."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Consumer, Message, Producer, Queue
from kombu.exceptions import OperationalError

from mplite_tasks_transport.errors import BrokerUnreachable, ConnectionLost, HandshakeRefused
from tests.support.brokers import BrokerProcess, listener_pid
from tests.support.proxy import Proxy

RETRY = {"max_retries": 20, "interval_start": 0, "interval_step": 0.05, "interval_max": 0.2}


@pytest.fixture
def proxy(broker: BrokerProcess) -> Iterator[Proxy]:
    with Proxy(broker.port) as made:
        yield made


def through(proxy: Proxy, broker: BrokerProcess) -> str:
    return f"mplite://:{broker.key}@127.0.0.1:{proxy.port}/"


def declared(connection: Connection, name: str = "q") -> Any:
    queue = Queue(name, durable=True)(connection.default_channel)
    queue.declare()
    return queue


def test_what_was_confirmed_before_the_broker_was_killed_is_there_afterwards_at_its_place(
    broker: BrokerProcess,
) -> None:
    with Connection(broker.url) as connection:
        queue = declared(connection)
        producer = Producer(connection)
        for number in range(50):
            producer.publish(number, routing_key="q", priority=number % 3)
        held = queue.get()
        assert held.decode() == 2
        broker.kill()
        with pytest.raises(connection.connection_errors):
            queue.get()
        broker.start()
    with Connection(broker.url) as connection:
        queue = Queue("q")(connection.default_channel)
        expected = sorted(range(50), key=lambda number: -(number % 3))
        assert [queue.get(no_ack=True).decode() for _ in range(50)] == expected


def test_a_publish_with_retry_goes_on_over_a_new_connection(broker: BrokerProcess) -> None:
    with Connection(broker.url) as connection:
        declared(connection)
        producer = Producer(connection)
        broker.kill()
        broker.start()
        producer.publish("x", routing_key="q", retry=True, retry_policy=RETRY)
        assert Queue("q")(connection.default_channel).get().decode() == "x"


def test_a_publish_whose_confirm_was_lost_is_repeated_and_kept_once(broker: BrokerProcess, proxy: Proxy) -> None:
    with Connection(through(proxy, broker)) as connection:
        queue = declared(connection)
        producer = Producer(connection)
        errors: list[Exception] = []
        policy = {**RETRY, "errback": lambda exc, interval: errors.append(exc)}
        proxy.deaf.set()
        producer.publish("x", routing_key="q", retry=True, retry_policy=policy)
        assert errors
        assert isinstance(errors[0], ConnectionLost)
        queue = Queue("q")(connection.default_channel)
        assert queue.queue_declare(passive=True).message_count == 1


def test_a_publish_whose_confirm_was_lost_is_in_doubt_without_retry(broker: BrokerProcess, proxy: Proxy) -> None:
    with Connection(through(proxy, broker)) as connection:
        declared(connection)
        proxy.deaf.set()
        with pytest.raises(ConnectionLost):
            Producer(connection).publish("x", routing_key="q")


def test_ensure_revives_the_producer_and_autoretry_the_function(broker: BrokerProcess) -> None:
    with Connection(broker.url) as connection:
        declared(connection)
        producer = Producer(connection)
        publish = connection.ensure(producer, producer.publish, **RETRY)
        broker.kill()
        broker.start()
        publish("one", routing_key="q")
        broker.kill()
        broker.start()

        def count(channel: Any) -> int:
            return int(channel.queue_declare("q", passive=True).message_count)

        found, channel = connection.autoretry(count, connection.default_channel, **RETRY)()
        assert found == 1
        assert channel.is_open


def test_a_loop_that_reconnects_gets_every_message_and_none_twice_though_its_connection_is_cut(
    broker: BrokerProcess, proxy: Proxy
) -> None:
    with Connection(broker.url) as direct:
        declared(direct)
        producer = Producer(direct)
        for number in range(30):
            producer.publish(number, routing_key="q")
        got: list[int] = []
        connection = Connection(through(proxy, broker))

        def receive(message: Message) -> None:
            message.ack()
            # Waits until the broker has the ack: then a cut connection cannot take it back.
            message.channel.queue_declare("q", passive=True)
            got.append(message.decode())
            if len(got) in (10, 20):
                proxy.cut()

        def consume() -> None:
            queue = Queue("q")(connection.default_channel)
            with Consumer(connection.default_channel, [queue], on_message=receive, prefetch_count=1):
                while len(got) < 30:
                    connection.drain_events(timeout=10)

        while len(got) < 30:
            try:
                consume()
            except connection.connection_errors:
                connection.collect()
                connection.ensure_connection(max_retries=20, interval_start=0, interval_step=0.05)
        connection.close()
    assert got == list(range(30))


def test_a_failover_url_is_used_when_the_first_broker_does_not_answer(
    make_broker: Callable[..., BrokerProcess],
) -> None:
    first, second = make_broker(), make_broker()
    with Connection(f"{first.url};{second.url}") as connection:
        declared(connection)
        producer = Producer(connection)
        producer.publish("first", routing_key="q")
        first.kill()
        queue = Queue("q", durable=True)
        producer.publish("second", routing_key="q", retry=True, retry_policy=RETRY, declare=[queue])
        assert connection.connection.broker.welcome.pid == second.pid
    with Connection(second.url) as connection:
        assert Queue("q")(connection.default_channel).get().decode() == "second"


def test_nobody_there_is_kombus_operational_error_and_names_the_address(broker: BrokerProcess) -> None:
    url = broker.url
    broker.kill()
    connection = Connection(url)
    with pytest.raises(OperationalError, match=rf"127\.0\.0\.1:{broker.port}") as failed:
        connection.ensure_connection(max_retries=1, interval_start=0)
    assert isinstance(failed.value.__cause__, BrokerUnreachable)
    assert broker.key not in str(failed.value)


def test_a_wrong_key_is_not_tried_again(broker: BrokerProcess) -> None:
    connection = Connection(broker.plain_url, transport_options={"key": "wrong-but-long-enough"})
    tries: list[Exception] = []
    with pytest.raises(HandshakeRefused):
        connection.ensure_connection(errback=lambda exc, interval: tries.append(exc), max_retries=5)
    assert not tries
    assert issubclass(HandshakeRefused, connection.connection_errors)


def test_the_key_comes_from_options_a_file_or_the_environment(
    broker: BrokerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.touch(mode=0o600)
    file.write_text(broker.key)
    for options in ({"key": broker.key}, {"key_file": str(file)}):
        with Connection(broker.plain_url, transport_options=options) as connection:
            connection.connect()
    monkeypatch.setenv("MPLITE_KEY_FILE", str(file))
    with Connection(broker.plain_url) as connection:
        connection.connect()


def test_a_connection_of_the_parent_is_not_disturbed_by_a_child_that_closes_or_uses_it(broker: BrokerProcess) -> None:
    with Connection(broker.url) as connection:
        queue = declared(connection)
        Producer(connection).publish("x", routing_key="q")
        held = queue.get()
        pid = os.fork()
        if not pid:
            status = 1
            try:
                assert not connection.connected
                connection.collect()
                # The same object makes a connection of its own in the child.
                assert connection.default_channel.queue_declare("q", passive=True).message_count == 0
                connection.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        held.ack()
        assert queue.queue_declare(passive=True).message_count == 0
        assert queue.get() is None


def test_a_message_goes_back_when_its_consumer_is_killed_though_a_child_of_it_lives(broker: BrokerProcess) -> None:
    with Connection(broker.url) as connection:
        queue = declared(connection)
        Producer(connection).publish("x", routing_key="q")
        ready, tell = os.pipe()
        hold, let_go = os.pipe()
        consumer = os.fork()
        if not consumer:
            os.close(let_go)
            with Connection(broker.url) as own:
                Queue("q")(own.default_channel).get()
                if not os.fork():  # outlives its parent, until the test lets go
                    os.read(hold, 1)
                    os._exit(0)
                os.write(tell, b"!")
                signal.pause()
            os._exit(0)
        os.close(hold)
        assert os.read(ready, 1) == b"!"
        os.kill(consumer, signal.SIGKILL)
        os.waitpid(consumer, 0)
        got: list[Message] = []
        with Consumer(connection.default_channel, [queue], on_message=got.append):
            while not got:
                connection.drain_events(timeout=5)
        os.close(let_go)
        for descriptor in (ready, tell):
            os.close(descriptor)


def test_the_local_broker_needs_no_start_and_comes_back_after_a_crash(local_home: Path) -> None:
    with Connection("mplite:///proj") as connection:
        declared(connection)
        producer = Producer(connection)
        producer.publish("one", routing_key="q")
        pid = connection.connection.broker.welcome.pid
        assert pid == listener_pid(connection.connection.sock.getpeername())
        os.kill(pid, signal.SIGKILL)
        producer.publish("two", routing_key="q", retry=True, retry_policy=RETRY)
        queue = Queue("q")(connection.default_channel)
        assert [queue.get().decode(), queue.get().decode()] == ["one", "two"]
        assert connection.connection.broker.welcome.pid != pid

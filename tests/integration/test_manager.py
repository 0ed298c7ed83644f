"""The queue as stock manager dicts, against a real broker: in threads, in forked and spawned children, after losses."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from multiprocessing import ProcessError, managers
from pathlib import Path
from typing import Any

import kombu
import pytest

from mplite_tasks_transport import MPLiteManager, PriorityQueue, frames
from mplite_tasks_transport.client import BrokerClient
from mplite_tasks_transport.errors import (
    ConnectionLost,
    HandshakeRefused,
    InvalidKey,
    ReplyError,
    ResourceLocked,
    StaleDelivery,
)
from mplite_tasks_transport.payload import Payload, encode_payload
from mplite_tasks_transport.url import BrokerURL
from mplite_tasks_transport.values import UnreadableValue
from tests.support.brokers import BrokerProcess
from tests.support.shared import shared_broker, vhost_url

__all__ = ["shared_broker", "vhost_url"]

fork = multiprocessing.get_context("fork")
spawn = multiprocessing.get_context("spawn")


@pytest.fixture
def manager(vhost_url: str) -> Iterator[MPLiteManager]:
    with MPLiteManager(vhost_url) as made:
        yield made


def put(manager: MPLiteManager, id: str, priority: int = 0, payload: Any = None, queue: str = "q") -> None:
    manager.shared_index(queue)[id] = priority
    manager.shared_queue(queue)[id] = payload


def best(index: Any) -> str:
    """Sort the index as the original algorithm does, and return the id that runs next."""
    ordered = sorted(index.items(), key=lambda item: (-item[1][0], item[1][1]))
    return str(ordered[0][0])


def in_thread(work: Callable[[], Any]) -> Any:
    """Do something in another thread and return what it returned or raised."""
    answer: list[Any] = []

    def run() -> None:
        try:
            answer.append(work())
        except Exception as exc:
            answer.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    return answer[0]


def test_the_proxies_are_the_stock_classes(manager: MPLiteManager) -> None:
    assert type(manager.shared_index("q")) is managers.DictProxy
    assert type(manager.shared_queue("q")) is managers.DictProxy
    assert type(manager.lock("q")) is managers.AcquirerProxy  # type: ignore[attr-defined]


def test_the_original_algorithm_by_hand_takes_the_best_message(manager: MPLiteManager) -> None:
    index, queue, lock = manager.shared_index("q"), manager.shared_queue("q"), manager.lock("q")
    for id, priority in (("low", -5), ("first", 9), ("second", 9)):
        put(manager, id, priority, {"job": id})
    taken = []
    while True:
        with lock:
            if not index:
                break
            id = best(index)
            priority, posted_at = index.pop(id)
            payload = queue.pop(id)
        assert posted_at > 1_700_000_000_000_000
        taken.append((id, priority, payload["job"]))
    assert taken == [("first", 9, "first"), ("second", 9, "second"), ("low", -5, "low")]


def test_values_are_tuples_and_data_of_every_kind_comes_back_as_it_was(manager: MPLiteManager) -> None:
    index, queue = manager.shared_index("q"), manager.shared_queue("q")
    values = [None, True, 1, 1.5, "text", "ü", [1, [2]], {"a": {"b": None}}, b"\x00\xff"]
    for n, value in enumerate(values):
        put(manager, f"id{n}", 0, value)
    assert [queue[f"id{n}"] for n in range(len(values))] == values
    assert all(type(value) is tuple for value in [index["id0"], *index.values(), *dict(index.items()).values()])


def test_what_has_no_form_as_data_is_refused_and_changes_nothing(manager: MPLiteManager) -> None:
    queue = manager.shared_queue("q")
    with pytest.raises(TypeError, match=r"value\['when'\]"):
        queue["a"] = {"when": object()}
    with pytest.raises(TypeError):
        queue.update({"a": 1, "b": object()})
    assert "a" not in queue


def test_iteration_gives_the_ids_in_their_order_and_more_than_one_answer_has(manager: MPLiteManager) -> None:
    index = manager.shared_index("q")
    count = 2500
    index.update({f"id{n:04}": n for n in range(count)})
    manager.shared_queue("q").update({f"id{n:04}": n for n in range(count)})
    assert len(index) == count
    expected = [f"id{n:04}" for n in reversed(range(count))]
    walk = iter(index)
    assert next(walk) == expected[0]
    assert [expected[0], *walk] == expected
    assert list(index.keys()) == list(manager.shared_queue("q").keys()) == expected
    assert manager.shared_queue("q").values() == list(reversed(range(count)))


def test_a_missing_id_is_a_key_error_that_names_it(manager: MPLiteManager) -> None:
    index = manager.shared_index("q")
    for use in (lambda: index["no"], lambda: index.pop("no"), lambda: index.__delitem__("no")):
        with pytest.raises(KeyError, match="no"):
            use()
    assert index.get("no") is None
    assert index.get("no", 1) == 1
    assert index.pop("no", None) is None


def test_a_queue_is_used_as_it_exists_and_else_declared_durable(manager: MPLiteManager, vhost_url: str) -> None:
    with BrokerClient.connect(BrokerURL.parse(vhost_url)) as client:
        client.call(frames.DeclareQueue(0, "odd", durable=False, arguments={"x-message-ttl": 1_000_000}))
        put(manager, "a", queue="odd")
        put(manager, "a", queue="new")
        client.call(frames.DeclareQueue(0, "new", durable=True))
        assert client.call(frames.DeclareQueue(0, "odd", passive=True))[1] == 1


def test_kombu_consumers_read_what_was_written_by_hand_and_the_other_way_round(
    manager: MPLiteManager, vhost_url: str
) -> None:
    put(manager, "by hand", 5, {"n": 1})
    with kombu.Connection(vhost_url) as connection:
        simple = connection.SimpleQueue("q")
        message = simple.get(timeout=10)
        assert (message.payload, message.delivery_info["priority"]) == ({"n": 1}, 5)
        message.ack()
        for value, serializer in (({"n": 2}, "json"), ("text", None), (b"raw", None), ({"n": 3}, "mplite-json")):
            simple.put(value, serializer=serializer)
        simple.put({"n": 4}, serializer="json", compression="zlib")
        simple.close()
    assert manager.shared_queue("q").values() == [{"n": 2}, "text", b"raw", {"n": 3}, {"n": 4}]


def test_a_pickle_is_refused_by_its_name_and_not_taken(manager: MPLiteManager, vhost_url: str) -> None:
    index, queue = manager.shared_index("q"), manager.shared_queue("q")
    payload = encode_payload(Payload(b"cos\nsystem\n", {"content_type": "application/x-python-serialize"}))
    with BrokerClient.connect(BrokerURL.parse(vhost_url)) as client:
        client.call(frames.Publish(0, "", "q", "evil", 0, payload))
        for use in (lambda: queue["evil"], lambda: queue.pop("evil"), queue.items):
            with pytest.raises(UnreadableValue, match="x-python-serialize"):
                use()
        assert list(index) == ["evil"]
        del index["evil"], queue["evil"]
        assert len(index) == 0


def test_a_lock_is_a_threads_and_works_as_threading_lock_does(manager: MPLiteManager) -> None:
    lock = manager.lock("q")
    assert lock.acquire() is True
    assert in_thread(lambda: lock.acquire(False)) is False
    assert in_thread(lambda: lock.acquire(True, 0.01)) is False
    assert isinstance(in_thread(lock.release), RuntimeError)
    assert isinstance(in_thread(lambda: manager.shared_index("q").pop("a", None)), ResourceLocked)
    with pytest.raises(RuntimeError, match="already"):
        lock.acquire()
    assert lock.acquire(False) is False
    lock.release()
    with pytest.raises(RuntimeError, match="does not have"):
        lock.release()
    assert in_thread(lambda: lock.acquire(False)) is True
    assert lock.acquire(True, 20) is True, "the lock of a thread that ended is free"
    lock.release()
    for bad in ((False, 1.0), (True, -2.0)):
        with pytest.raises(ValueError, match="timeout"):
            lock.acquire(*bad)


def test_a_lock_that_was_held_too_long_is_taken_back_and_its_holder_told(vhost_url: str) -> None:
    with MPLiteManager(vhost_url, lock_timeout=0.05) as manager:
        put(manager, "a")
        lock = manager.lock("q")
        lock.acquire()
        manager.shared_index("q").pop("a")
        assert in_thread(lambda: lock.acquire(True, 20)) is True
        with pytest.raises(StaleDelivery, match="taken back"):
            manager.shared_queue("q").pop("a")
        assert list(manager.shared_index("q")) == ["a"]


def test_proxies_that_are_used_once_and_thrown_away_keep_the_threads_connection(manager: MPLiteManager) -> None:
    put(manager, "a", 1, "x")
    manager.shared_index("q").pop("a")
    gc.collect()
    assert manager.shared_queue("q").pop("a") == "x"
    assert len(manager.shared_index("q")) == 0


def test_closing_the_manager_gives_back_what_was_half_taken_and_the_proxies_still_work(manager: MPLiteManager) -> None:
    index = manager.shared_index("q")
    put(manager, "a", 1)
    index.pop("a")
    manager.close()
    assert list(index) == ["a"]


def _child(index: Any, queue: Any, lock: Any, answers: Any) -> None:
    with lock:
        id = best(index)
        index.pop(id)
        answers.put((id, queue.pop(id), list(index)))


@pytest.mark.parametrize("context", [fork, spawn], ids=["fork", "spawn"])
def test_proxies_work_in_children(manager: MPLiteManager, context: Any) -> None:
    put(manager, "a", 1, "x")
    put(manager, "b", 2, "y")
    proxies = manager.shared_index("q"), manager.shared_queue("q"), manager.lock("q")
    answers = context.SimpleQueue()
    child = context.Process(target=_child, args=(*proxies, answers))
    child.start()
    assert answers.get() == ("b", "y", ["a"])
    child.join(20)
    assert child.exitcode == 0
    assert list(proxies[0]) == ["a"]


def test_a_child_made_by_os_fork_has_a_connection_of_its_own(manager: MPLiteManager) -> None:
    put(manager, "a", 1, "x")
    index, queue, lock = manager.shared_index("q"), manager.shared_queue("q"), manager.lock("q")
    lock.acquire()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            status = 0 if lock.acquire(False) is False and list(index) == ["a"] else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    index.pop("a")
    assert queue.pop("a") == "x"
    lock.release()


def _unpickle(data: bytes, answers: Any) -> None:
    answers.put(list(pickle.loads(data)))


def test_a_pickled_proxy_has_no_key_in_it_and_its_reader_takes_the_configured_one(
    manager: MPLiteManager, shared_broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(manager, "a")
    data = pickle.dumps(manager.shared_index("q"))
    assert shared_broker.key.encode() not in data
    assert list(pickle.loads(data)) == ["a"]
    monkeypatch.setenv("MPLITE_KEY", shared_broker.key)
    answers = spawn.SimpleQueue()
    child = spawn.Process(target=_unpickle, args=(data, answers))
    child.start()
    assert answers.get() == ["a"]
    child.join(20)


def test_an_unpickled_copy_that_is_collected_leaves_the_original_its_connection(manager: MPLiteManager) -> None:
    index, lock = manager.shared_index("q"), manager.lock("q")
    lock.acquire()
    copy = pickle.loads(pickle.dumps(index))
    del copy
    gc.collect()
    lock.release()


def test_nobody_has_the_key_in_a_text(manager: MPLiteManager, shared_broker: BrokerProcess) -> None:
    index = manager.shared_index("q")
    texts = [repr(each) for each in (manager, index, manager.address, index._token)]  # type: ignore[attr-defined]
    assert not any(shared_broker.key in text for text in texts)


def test_the_key_is_the_given_one_or_the_configured_one_and_never_multiprocessings(
    shared_broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = ("127.0.0.1", shared_broker.port)
    key = shared_broker.key.encode()
    MPLiteManager(address, key, vhost="keys").connect()
    for wrong in (None, b"x" * 16, bytes(multiprocessing.current_process().authkey)):
        with pytest.raises(HandshakeRefused):
            MPLiteManager(address, wrong, vhost="others").connect()
    with pytest.raises(InvalidKey, match="5 bytes"):
        MPLiteManager(address, b"short")
    monkeypatch.setenv("MPLITE_KEY", shared_broker.key)
    MPLiteManager(address, vhost="configured").connect()


def test_vhosts_do_not_see_each_other(shared_broker: BrokerProcess) -> None:
    with MPLiteManager(shared_broker.url, vhost="one") as one, MPLiteManager(shared_broker.url, vhost="two") as two:
        put(one, "a")
        assert (len(one.shared_index("q")), len(two.shared_index("q"))) == (1, 0)
    with pytest.raises(ValueError, match="another vhost"):
        MPLiteManager(shared_broker.url + "one", vhost="two")


def test_what_is_no_name_of_a_queue_is_a_type_error(manager: MPLiteManager) -> None:
    name: Any = 5
    with pytest.raises(TypeError, match="text, not 5"):
        manager.shared_index(name)
    put(manager, "a")


def test_it_is_no_server_and_says_so(shared_broker: BrokerProcess) -> None:
    manager = MPLiteManager(shared_broker.url)
    for use in (manager.start, manager.get_server, lambda: manager.lock("q")):
        with pytest.raises(ProcessError, match=r"connect\(\)|mplite broker"):
            use()


def test_the_local_broker_needs_no_address_and_no_key(local_home: Path) -> None:
    with MPLiteManager() as manager:
        put(manager, "a")
        assert list(manager.shared_index("q")) == ["a"]


def test_a_restart_of_the_broker_is_not_seen_by_who_had_nothing_in_hand(broker: BrokerProcess) -> None:
    with MPLiteManager(broker.url) as manager:
        index, lock = manager.shared_index("q"), manager.lock("q")
        put(manager, "a")
        lock.acquire()
        lock.release()
        broker.kill()
        broker.start()
        assert list(index) == ["a"]
        broker.kill()
        broker.start()
        assert lock.acquire() is True


def test_a_restart_of_the_broker_is_told_to_who_had_something_in_hand(broker: BrokerProcess) -> None:
    with MPLiteManager(broker.url) as manager:
        index = manager.shared_index("q")
        put(manager, "a")
        queue = manager.shared_queue("q")
        with pytest.raises(ConnectionLost, match="lock of queue 'q' was lost") as lost, manager.lock("q"):
            index.pop("a")
            broker.kill()
            broker.start()
            queue.pop("a")
        assert isinstance(lost.value.__context__, ConnectionLost)
        assert list(index) == ["a"]


def restart(broker: BrokerProcess) -> None:
    broker.kill()
    broker.start()


def test_a_restart_is_not_seen_when_every_half_has_met_the_other(broker: BrokerProcess) -> None:
    with MPLiteManager(broker.url) as manager:
        index, queue = manager.shared_index("q"), manager.shared_queue("q")
        put(manager, "a")
        index["a"] = 7
        queue.update({"a": "changed"})
        restart(broker)
        assert index["a"][0] == 7
        index.pop("a")
        index["a"] = 8
        restart(broker)
        assert index["a"][0] == 8
        queue["b"] = 1
        del queue["b"]
        queue["c"] = 1
        index.clear()
        restart(broker)
        assert list(index) == []


@pytest.mark.parametrize("half", ["staged", "popped"])
def test_a_half_that_outlived_the_lock_and_not_a_restart_is_told(broker: BrokerProcess, half: str) -> None:
    with MPLiteManager(broker.url) as manager:
        index, queue = manager.shared_index("q"), manager.shared_queue("q")
        put(manager, "a")
        with manager.lock("q"):
            if half == "staged":
                index["b"] = 1
            else:
                index.pop("a")
        restart(broker)
        with pytest.raises(ConnectionLost):
            queue["b"] = 1
        assert list(index) == ["a"], "it is back, and told once"


def test_the_loss_of_one_of_two_locks_is_told_after_the_other_was_released(broker: BrokerProcess) -> None:
    with MPLiteManager(broker.url) as manager:
        put(manager, "a", queue="r")
        one, other = manager.lock("q"), manager.lock("r")
        one.acquire()
        other.acquire()
        one.release()
        restart(broker)
        with pytest.raises(ConnectionLost):
            manager.shared_index("r").pop("a")
        with pytest.raises(ConnectionLost, match="lock of queue 'r' was lost"):
            other.release()


def test_a_lease_that_was_over_is_forgotten_by_its_holder(broker: BrokerProcess) -> None:
    with MPLiteManager(broker.url, lock_timeout=0.05) as manager:
        index, lock = manager.shared_index("q"), manager.lock("q")
        put(manager, "a")
        lock.acquire()
        index.pop("a")
        with PriorityQueue("q", broker.url) as jobs:
            jobs.get(timeout=20)
            jobs.task_done()
        with pytest.raises(StaleDelivery):
            lock.release()
        restart(broker)
        assert list(index) == []


def test_a_refused_call_leaves_the_connection_and_the_lock(manager: MPLiteManager) -> None:
    with manager.lock("q"):
        with pytest.raises(ReplyError):
            manager.shared_queue("q")["a"] = b"x" * (64 * 1024 * 1024)
        put(manager, "a")
    assert list(manager.shared_index("q")) == ["a"]

"""``PriorityQueue`` and its asynchronous twin against a real broker."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import pickle
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest

from mplite_tasks_transport import AsyncPriorityQueue, MPLiteManager, PriorityQueue, UnreadableValue, frames
from mplite_tasks_transport.client import BrokerClient
from mplite_tasks_transport.errors import (
    BrokerUnreachable,
    NotFound,
    PreconditionFailed,
    StaleDelivery,
)
from mplite_tasks_transport.url import BrokerURL
from tests.support.brokers import BrokerProcess
from tests.support.secure import SecureBroker
from tests.support.shared import shared_broker, vhost_url
from tests.support.workers import wait_until

__all__ = ["shared_broker", "vhost_url"]

fork = multiprocessing.get_context("fork")


@pytest.fixture
def jobs(vhost_url: str) -> Iterator[PriorityQueue]:
    with PriorityQueue("jobs", vhost_url) as made:
        yield made


@pytest.fixture
def control(vhost_url: str) -> Iterator[BrokerClient]:
    """A connection to the same vhost, to see what the broker says."""
    with BrokerClient.connect(BrokerURL.parse(vhost_url)) as client:
        yield client


def counts(control: BrokerClient, name: str = "jobs") -> dict[str, int]:
    found: dict[str, int] = control.call(frames.Status(0))["queues"][name]
    return found


class Background:
    """Something done in a thread, whose end can be waited for."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._answer: list[Any] = []
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            self._answer.append(work())
        except Exception as exc:
            self._answer.append(exc)

    @property
    def ended(self) -> bool:
        return bool(self._answer)

    def result(self) -> Any:
        self._thread.join(20)
        assert self._answer, "it does not end"
        return self._answer[0]


def wait_for_consumer(control: BrokerClient) -> None:
    wait_until(lambda: counts(control)["consumers"], "a get waits")


def test_higher_priorities_come_first_and_equal_ones_in_the_order_of_arrival(jobs: PriorityQueue) -> None:
    for item, priority in (("low", -1), ("a", 5), ("b", 5), ({"any": ["data"]}, 9), (b"\x00", 0)):
        jobs.put(item, priority=priority)
    assert jobs.qsize() == 5
    assert [jobs.get() for _ in range(5)] == [{"any": ["data"]}, "a", "b", b"\x00", "low"]
    assert jobs.empty()


def test_a_get_takes_one_message_and_holds_no_other(jobs: PriorityQueue, control: BrokerClient) -> None:
    for n in range(3):
        jobs.put(n)
    assert jobs.get(timeout=10) == 0
    jobs.put("urgent", priority=9)
    assert {key: counts(control)[key] for key in ("waiting", "held")} == {"waiting": 3, "held": 1}
    jobs.task_done()
    assert counts(control)["held"] == 0
    assert jobs.get() == "urgent"


def test_an_empty_queue_says_so_at_once_or_in_time(jobs: PriorityQueue, control: BrokerClient) -> None:
    for get in (jobs.get_nowait, lambda: jobs.get(False), lambda: jobs.get(timeout=0), lambda: jobs.get(timeout=0.01)):
        with pytest.raises(queue.Empty):
            get()
    jobs.put("a")
    assert counts(control) == {"waiting": 1, "delayed": 0, "held": 0, "consumers": 0}, "nobody asks any more"
    assert jobs.get_nowait() == "a"
    with pytest.raises(queue.Empty):
        jobs.get_nowait()
    jobs.put("b")
    assert counts(control)["waiting"] == 1
    assert jobs.get(timeout=10) == "b"


@pytest.mark.parametrize("use", [lambda q: q.get(timeout=-1), lambda q: q.put(1, timeout=-1)])
def test_a_negative_timeout_is_a_value_error_as_in_the_standard_library(jobs: PriorityQueue, use: Any) -> None:
    with pytest.raises(ValueError, match="non-negative"):
        use(jobs)


def test_a_get_that_waits_is_woken_by_a_put_of_another_thread_of_the_same_object(
    jobs: PriorityQueue, control: BrokerClient
) -> None:
    waiting = Background(jobs.get)
    wait_for_consumer(control)
    assert jobs.qsize() == 0
    jobs.put("a")
    assert waiting.result() == "a"
    jobs.task_done()


def test_many_threads_share_an_object_and_each_item_is_got_once(jobs: PriorityQueue, vhost_url: str) -> None:
    count, threads = 400, 8
    got: list[int] = []

    def consume() -> None:
        while (item := jobs.get()) is not None:
            got.append(item)
            jobs.task_done()
        jobs.task_done()

    consumers = [Background(consume) for _ in range(threads)]
    producers = [Background(lambda n=n: [jobs.put(n * 100 + i, priority=1) for i in range(100)]) for n in range(4)]
    for producer in producers:
        producer.result()
    for _ in range(threads):
        jobs.put(None, priority=0)
    assert [consumer.result() for consumer in consumers] == [None] * threads
    assert sorted(got) == list(range(count))
    jobs.join()


def test_gets_that_give_up_among_others_lose_and_keep_nothing(jobs: PriorityQueue, control: BrokerClient) -> None:
    patient = [Background(lambda: jobs.get(timeout=20)) for _ in range(3)]
    hasty = [Background(lambda n=n: jobs.get(timeout=0.002 * n)) for n in range(10)]
    for n in range(13):
        jobs.put(n)
    results = [each.result() for each in patient + hasty]
    got = [item for item in results if not isinstance(item, Exception)]
    assert all(isinstance(item, int | queue.Empty) for item in results), results
    assert counts(control)["held"] == len(got)
    while not jobs.empty():
        got.append(jobs.get_nowait())
    assert sorted(got) == list(range(13))


def test_an_interrupted_get_gives_its_message_back(jobs: PriorityQueue, control: BrokerClient) -> None:
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        wait_for_consumer(control)
        signal.pthread_kill(main, signal.SIGINT)

    interrupter = Background(interrupt)
    with pytest.raises(KeyboardInterrupt):
        jobs.get()
    interrupter.result()
    jobs.put("a")
    jobs.qsize()
    wait_until(lambda: counts(control)["waiting"] == 1, "the message waits")
    assert jobs.get(timeout=10) == "a"


def test_a_full_queue_refuses_or_waits_and_a_get_makes_room(vhost_url: str, control: BrokerClient) -> None:
    with PriorityQueue("jobs", vhost_url, 2) as jobs:
        jobs.put(1)
        assert not jobs.full()
        jobs.put(2)
        assert jobs.full()
        for put in (lambda: jobs.put_nowait(3), lambda: jobs.put(3, timeout=0.01), lambda: jobs.put(3, False)):
            with pytest.raises(queue.Full):
                put()
        assert jobs.qsize() == 2
        waiting = Background(lambda: jobs.put(3))
        assert jobs.get() == 1
        assert waiting.result() is None
        assert [jobs.get(), jobs.get()] == [2, 3]
        assert counts(control)["waiting"] == 0, "a put that gave up is not done later"
    with PriorityQueue("jobs", vhost_url) as as_it_is:
        assert as_it_is.qsize() == 3
    with pytest.raises(PreconditionFailed, match="jobs"):
        PriorityQueue("jobs", vhost_url, 5)


def test_a_put_that_waited_for_the_brokers_memory_is_full_at_its_time_and_not_done_later(
    make_broker: Callable[..., BrokerProcess],
) -> None:
    broker = make_broker(options=("--memory-limit", "1M"))
    with PriorityQueue("jobs", broker.url) as jobs:
        jobs.put(b"x" * 1_100_000)
        with pytest.raises(queue.Full):
            jobs.put("late", timeout=0.05)
        waiting = Background(lambda: jobs.put("patient"))
        assert len(jobs.get(timeout=20)) == 1_100_000
        jobs.task_done()
        assert waiting.result() is None
        assert jobs.get(timeout=20) == "patient"
        assert jobs.empty()


def test_a_large_item_that_is_sent_while_another_thread_reads_comes_whole(
    jobs: PriorityQueue, control: BrokerClient
) -> None:
    waiting = [Background(jobs.get) for _ in range(3)]
    wait_for_consumer(control)
    large = [bytes([n]) * 5_000_000 for n in range(3)]
    puts = [Background(lambda item=item: jobs.put(item)) for item in large]
    assert sorted(each.result() for each in waiting) == large
    assert [each.result() for each in puts] == [None] * 3


def test_task_done_is_for_the_oldest_item_and_not_more_often_than_items_were_got(
    jobs: PriorityQueue, vhost_url: str
) -> None:
    with pytest.raises(ValueError, match="too many times"):
        jobs.task_done()
    for item in "ab":
        jobs.put(item)
    jobs.get()
    jobs.get()
    jobs.task_done()
    jobs.close()
    with PriorityQueue("jobs", vhost_url) as other:
        assert other.get(timeout=10) == "b"
        assert other.empty()


def test_join_waits_for_the_items_of_all_objects(jobs: PriorityQueue, vhost_url: str, control: BrokerClient) -> None:
    jobs.join()
    jobs.put("a")
    with PriorityQueue("jobs", vhost_url) as other:
        assert other.get() == "a"
        joining = Background(jobs.join)
        jobs.put("b")
        assert jobs.get() == "b"
        jobs.task_done()
        assert not joining.ended
        other.task_done()
        assert joining.result() is None


def _get_and_hang(url: str, ready: Any) -> None:
    jobs = PriorityQueue("jobs", url)
    ready.put(jobs.get())
    signal.pause()


def test_what_a_process_had_got_when_it_was_killed_is_back_at_its_place(jobs: PriorityQueue, vhost_url: str) -> None:
    jobs.put("first", priority=5)
    jobs.put("second", priority=5)
    ready = fork.SimpleQueue()
    child = fork.Process(target=_get_and_hang, args=(vhost_url, ready))
    child.start()
    assert ready.get() == "first"
    child.kill()
    child.join(20)
    jobs.put("third", priority=5)
    wait_until(lambda: jobs.qsize() == 3, "the item is back")
    assert [jobs.get() for _ in range(3)] == ["first", "second", "third"]


def test_a_forked_child_uses_its_own_connection_and_what_the_parent_got_stays_the_parents(jobs: PriorityQueue) -> None:
    jobs.put("parent's")
    jobs.put("child's")
    assert jobs.get() == "parent's"
    pid = os.fork()
    if not pid:
        status = 1
        try:
            assert jobs.get(timeout=10) == "child's"
            jobs.task_done()
            try:
                jobs.task_done()
            except ValueError:
                status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    jobs.task_done()
    jobs.join()


def _double(jobs: PriorityQueue) -> None:
    jobs.put(2 * jobs.get(timeout=20))
    jobs.task_done()
    jobs.close()


def test_a_spawned_child_is_given_the_queue(jobs: PriorityQueue) -> None:
    jobs.put(21)
    child = multiprocessing.get_context("spawn").Process(target=_double, args=(jobs,))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert jobs.get(timeout=20) == 42


def test_a_pickled_queue_has_no_key_in_it_and_its_reader_takes_the_configured_one(
    jobs: PriorityQueue, shared_broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pickle.dumps(jobs)
    assert shared_broker.key.encode() not in data
    monkeypatch.setenv("MPLITE_KEY", shared_broker.key)
    jobs.put("a")
    with pickle.loads(data) as copy:
        assert copy.get(timeout=20) == "a"


def test_a_closed_queue_gives_back_what_it_had_and_can_not_be_used(jobs: PriorityQueue, control: BrokerClient) -> None:
    jobs.put("a")
    jobs.get()
    waiting = Background(jobs.get)
    wait_for_consumer(control)
    jobs.close()
    jobs.close()
    assert counts(control)["waiting"] == 1
    assert isinstance(waiting.result(), ValueError)
    with pytest.raises(ValueError, match="closed"):
        jobs.put("b")


def test_an_object_that_nobody_has_any_more_gives_back_what_it_had(jobs: PriorityQueue, vhost_url: str) -> None:
    jobs.put("a")
    forgotten = PriorityQueue("jobs", vhost_url)
    assert forgotten.get() == "a"
    del forgotten
    gc.collect()
    assert jobs.get(timeout=20) == "a"


def test_a_restart_of_the_broker_is_not_seen_by_puts_gets_and_items_in_hand(broker: BrokerProcess) -> None:
    with PriorityQueue("jobs", broker.url) as jobs, PriorityQueue("jobs", broker.url) as other:
        jobs.put("in hand", priority=9)
        jobs.put("waits")
        assert jobs.get() == "in hand"
        broker.kill()
        broker.start()
        assert other.get(timeout=20) == "waits", "what is in hand is nobody else's"
        other.task_done()
        jobs.task_done()
        broker.kill()
        broker.start()
        jobs.join()
        jobs.put("after")
        assert jobs.get() == "after"


def test_a_get_and_a_put_that_wait_go_on_when_the_broker_is_back(broker: BrokerProcess) -> None:
    with PriorityQueue("jobs", broker.url, 1) as jobs, PriorityQueue("empty", broker.url) as empty:
        jobs.put("a")
        with BrokerClient.connect(broker.broker_url) as control:
            put = Background(lambda: jobs.put("b"))
            get = Background(empty.get)
            wait_until(lambda: counts(control, "empty")["consumers"], "the get waits")
        broker.kill()
        broker.start()
        empty.put("came")
        assert get.result() == "came"
        assert jobs.get() == "a"
        assert put.result() is None
        assert jobs.get() == "b"
        assert jobs.empty(), "it is kept once"


def test_a_broker_that_does_not_come_back_is_an_error_after_the_time_for_it(broker: BrokerProcess) -> None:
    with PriorityQueue("jobs", broker.url, reconnect=0.1) as jobs:
        broker.kill()
        with pytest.raises(BrokerUnreachable):
            jobs.get(timeout=20)


def test_an_item_that_went_back_with_its_connection_is_not_done_by_whoever_had_it(
    jobs: PriorityQueue, vhost_url: str
) -> None:
    jobs.put("a")
    jobs.get()
    line = jobs._side.line
    assert line is not None
    line.client.abandon()
    with PriorityQueue("jobs", vhost_url) as other:
        assert other.get(timeout=20) == "a"
        with pytest.raises(StaleDelivery, match="went back"):
            jobs.task_done()


def test_a_deleted_queue_is_told_to_who_waits_and_who_puts(jobs: PriorityQueue, control: BrokerClient) -> None:
    waiting = Background(jobs.get)
    wait_for_consumer(control)
    control.call(frames.DeleteQueue(0, "jobs"))
    assert isinstance(waiting.result(), NotFound)
    with pytest.raises(NotFound, match="jobs"):
        jobs.put("a")


def test_kombu_reads_what_is_put_and_what_kombu_writes_is_got(vhost_url: str) -> None:
    with PriorityQueue("jobs", vhost_url, serializer="json") as jobs, kombu.Connection(vhost_url) as connection:
        with connection.SimpleQueue("jobs") as simple:
            jobs.put({"n": 1}, priority=3)
            message = simple.get(timeout=10)
            assert (message.payload, message.content_type) == ({"n": 1}, "application/json")
            message.ack()
        producer = connection.Producer(routing_key="jobs")
        producer.publish({"n": 2}, serializer="json", compression="bzip2")
        assert jobs.get(timeout=10) == {"n": 2}
        producer.publish({"n": 3}, serializer="pickle")
        with pytest.raises(UnreadableValue, match="x-python-serialize"):
            jobs.get(timeout=10)
        jobs.task_done()
        jobs.task_done()
        jobs.join()


def test_what_is_no_data_or_no_priority_is_refused_before_it_is_sent(jobs: PriorityQueue) -> None:
    with pytest.raises(TypeError, match="value"):
        jobs.put(object())
    with pytest.raises(ValueError, match="outside"):
        jobs.put(1, priority=2**31)
    with pytest.raises(ValueError, match="mplite-json or json"):
        PriorityQueue("jobs", serializer="pickle")
    with pytest.raises(ValueError, match="empty"):
        PriorityQueue("")
    assert jobs.empty()


@pytest.mark.parametrize(("name", "maxsize"), [(5, 0), (None, 0), (b"q", 0), ("q", 1.5), ("q", "3")])
def test_what_is_no_name_or_no_size_is_a_type_error_before_anything_is_sent(name: Any, maxsize: Any) -> None:
    with pytest.raises(TypeError, match="not"):
        PriorityQueue(name, "mplite://127.0.0.1:1", maxsize)


def test_nobody_has_the_key_in_a_text(jobs: PriorityQueue, shared_broker: BrokerProcess) -> None:
    assert shared_broker.key not in repr(jobs) + repr(jobs._settings)


def test_the_local_broker_starts_by_itself(local_home: Path) -> None:
    with PriorityQueue("jobs") as jobs:
        jobs.put("a")
        assert jobs.get() == "a"


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_all_of_it_works_over_tls(secure_broker: Callable[..., SecureBroker], size: int) -> None:
    broker = secure_broker()
    url, credentials = f"mplites://localhost:{broker.port}/", str(broker.user("root"))
    items = [bytes([n]) * size for n in range(3)]

    async def run() -> list[bytes]:
        async with AsyncPriorityQueue("jobs", url, credentials=credentials) as jobs:
            waiting = [asyncio.create_task(jobs.get()) for _ in items]
            for item in items:
                await jobs.put(item)
            return sorted([await task for task in waiting])

    with PriorityQueue("jobs", url, credentials=credentials) as jobs:
        waiting = [Background(jobs.get) for _ in items]
        for item in items:
            jobs.put(item)
        assert sorted(each.result() for each in waiting) == items
    with MPLiteManager(url, credentials=credentials) as manager:
        assert sorted(manager.shared_queue("jobs").values()) == items
        manager.shared_queue("jobs").clear()
    assert asyncio.run(asyncio.wait_for(run(), 30)) == items


# The asynchronous twin


def test_the_asynchronous_queue_does_the_same(vhost_url: str) -> None:
    async def run() -> None:
        async with AsyncPriorityQueue("jobs", vhost_url, 2) as jobs:
            with pytest.raises(asyncio.QueueEmpty):
                await jobs.get_nowait()
            await jobs.put("low")
            await jobs.put("high", priority=5)
            assert (await jobs.qsize(), await jobs.full(), await jobs.empty()) == (2, True, False)
            with pytest.raises(asyncio.QueueFull):
                await jobs.put_nowait("more")
            with pytest.raises(asyncio.QueueFull):
                await jobs.put("more", timeout=0.01)
            waiting = asyncio.create_task(jobs.put("more"))
            assert await jobs.get() == "high"
            await waiting
            assert [await jobs.get(), await jobs.get()] == ["low", "more"]
            joining = asyncio.create_task(jobs.join())
            for _ in range(3):
                assert not joining.done()
                await jobs.task_done()
            await joining
            with pytest.raises(ValueError, match="too many"):
                await jobs.task_done()
        with pytest.raises(ValueError, match="closed"):
            await jobs.get()

    asyncio.run(run())


def test_a_get_that_is_cancelled_loses_no_message_at_whatever_moment(vhost_url: str) -> None:
    async def run() -> None:
        async with AsyncPriorityQueue("jobs", vhost_url) as jobs, AsyncPriorityQueue("jobs", vhost_url) as other:
            got = []
            for n in range(100):
                task = asyncio.create_task(jobs.get())
                await other.put(n)
                for _ in range(n % 5):
                    await asyncio.sleep(0)
                task.cancel()
                try:
                    got.append(await task)
                except asyncio.CancelledError:
                    continue
            async with asyncio.timeout(20):
                while len(got) < 100:
                    got.append(await other.get())
            assert sorted(got) == list(range(100))

    asyncio.run(run())


def test_asynchronous_items_in_hand_and_gets_that_wait_outlive_the_broker(broker: BrokerProcess) -> None:
    async def run() -> None:
        async with AsyncPriorityQueue("jobs", broker.url) as jobs:
            await jobs.put("a")
            assert await jobs.get() == "a"
            waiting = asyncio.create_task(jobs.get())
            await asyncio.sleep(0)
            broker.kill()
            broker.start()
            await jobs.put("b")
            assert await waiting == "b"
            await jobs.task_done()
            await jobs.task_done()
            await jobs.join()

    asyncio.run(run())

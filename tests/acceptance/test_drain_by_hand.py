"""The original algorithm, written by hand, beside ordinary consumers of the same queue, some of which are killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from queue import Empty
from typing import Any

import kombu
import pytest

from mplite_tasks_transport import MPLiteManager, PriorityQueue
from tests.support.brokers import BrokerProcess
from tests.support.workers import wait_until

spawn = multiprocessing.get_context("spawn")

ITEMS = 10_000
LEAST = 500

#: Deliveries that a Kombu consumer may hold, so that each kind of consumer gets its share between two locks.
PREFETCH = 2

#: What a consumer writes into its file.
LINE = "{}\n"


def by_hand(url: str, path: Path) -> None:
    """Take the lock, sort the index, pop the best from both dicts, release, and only then work on it."""
    with MPLiteManager(url) as manager, path.open("w") as done:
        index, queue, lock = manager.shared_index("q"), manager.shared_queue("q"), manager.lock("q")
        while True:
            with lock:
                ordered = sorted(index.items(), key=lambda item: (-item[1][0], item[1][1]))
                if not ordered:
                    return
                id, _ = ordered[0]
                index.pop(id)
                payload = queue.pop(id)
            done.write(LINE.format(payload))


def by_kombu(url: str, path: Path) -> None:
    """Consume as any Kombu program does, until nothing comes any more."""
    with kombu.Connection(url) as connection, path.open("w") as done:
        queue = kombu.Queue("q", no_declare=True)

        def on_message(body: Any, message: kombu.Message) -> None:
            done.write(LINE.format(body))
            message.ack()

        with connection.Consumer([queue], callbacks=[on_message], prefetch_count=PREFETCH):
            while True:
                try:
                    connection.drain_events(timeout=0.5)
                except TimeoutError:
                    # Only now: while something comes, some of it may be here and in the queue no more.
                    if not _left(connection):
                        return


def _left(connection: kombu.Connection) -> int:
    return int(connection.default_channel.queue_declare("q", passive=True).message_count)


def by_priority_queue(url: str, path: Path) -> None:
    """Consume with ``PriorityQueue``, until nothing is left."""
    with PriorityQueue("q", url) as jobs, path.open("w") as done:
        while not jobs.empty():
            try:
                item = jobs.get(timeout=1)
            except Empty:
                continue
            done.write(LINE.format(item))
            jobs.task_done()


def dies(url: str, pops: int, told: Pipe) -> None:
    """Take the lock, pop so many halves of the best message, say so, and wait for the end."""
    with MPLiteManager(url) as manager:
        index, lock = manager.shared_index("q"), manager.lock("q")
        lock.acquire()
        id = next(iter(index))
        if pops:
            index.pop(id)
        told.send(id)
        signal.pause()


def kill_one_that_holds_the_lock(url: str, pops: int) -> str:
    """Let a consumer by hand take the lock, kill it, and return which message it was about to take."""
    here, there = spawn.Pipe()
    process = spawn.Process(target=dies, args=(url, pops, there))
    process.start()
    try:
        assert here.poll(30), "it did not get the lock"
        id: str = here.recv()
    finally:
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join(20)
    return id


@pytest.mark.timeout(180)
def test_by_hand_and_otherwise_each_item_is_taken_once_though_two_who_hold_the_lock_are_killed(
    broker: BrokerProcess, tmp_path: Path
) -> None:
    url = broker.url
    with MPLiteManager(url) as manager:
        index, queue = manager.shared_index("q"), manager.shared_queue("q")
        queue.update({f"id{n}": n for n in range(ITEMS)})
        index.update({f"id{n}": n % 10 for n in range(ITEMS)})
        assert len(index) == ITEMS
        kinds = [by_hand, by_hand, by_kombu, by_kombu, by_priority_queue, by_priority_queue]
        paths = [tmp_path / f"{n}-{kind.__name__}" for n, kind in enumerate(kinds)]
        with manager.lock("q"):  # nobody begins before all are there
            consumers = [spawn.Process(target=kind, args=(url, path)) for kind, path in zip(kinds, paths, strict=True)]
            for consumer in consumers:
                consumer.start()
            wait_until(lambda: all(path.exists() for path in paths), "all six are there", 60)
        for pops in (0, 1):
            kill_one_that_holds_the_lock(url, pops)
        for consumer in consumers:
            consumer.join(120)
            assert consumer.exitcode == 0
        taken = {path.name: path.read_text().split() for path in paths}
        assert sorted(int(n) for each in taken.values() for n in each) == list(range(ITEMS))
        shares = {name: len(each) for name, each in taken.items()}
        assert min(shares.values()) >= LEAST, shares
        assert len(index) == 0
    print(shares)


@pytest.mark.parametrize("pops", [0, 1])
def test_what_a_killed_holder_had_is_free_at_once_and_the_message_is_at_its_place(
    broker: BrokerProcess, pops: int
) -> None:
    with MPLiteManager(broker.url) as manager, PriorityQueue("q", broker.url) as jobs:
        for item in ("first", "second"):
            jobs.put(item)
        first = next(iter(manager.shared_index("q")))
        assert kill_one_that_holds_the_lock(broker.url, pops) == first
        assert manager.lock("q").acquire(True, 20) is True
        manager.lock("q").release()
        assert [jobs.get(timeout=20), jobs.get(timeout=20)] == ["first", "second"]

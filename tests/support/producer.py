"""A program that sends jobs of random priorities until it gets SIGTERM, and puts each call on record.

``python -m tests.support.producer NAME SEED WINDOW``: at most WINDOW of its jobs are unfinished at a time.
It sends one by one, many at once, and now and then an urgent one whose result it waits for.
"""

from __future__ import annotations

import random
import signal
import sys
import time

from tests.acceptance.apps.chaos import PATIENCE, app, log_directory, work

from .chronicle import Follower, Writer

#: Jobs of one ``send_many``.
BATCHES = (2, 30, 300)

#: Milliseconds that a job takes at most.
LONGEST = 4.0


class Producer:
    """Sends jobs."""

    def __init__(self, name: str, seed: int, window: int) -> None:
        self._name = name
        self._window = window
        self._random = random.Random(seed)
        self._record = Writer(log_directory() / f"calls-{name}")
        self._runs = Follower(log_directory() / "runs")
        self._done: set[str] = set()
        self._sent = 0
        self.stopping = False

    def run(self) -> None:
        """Send until told to stop."""
        while not self.stopping:
            self._wait_for_room()
            kind = self._random.random()
            if kind < 0.1:
                self._send_many()
            elif kind < 0.2:
                self._ask()
            else:
                self._send(self._priority())

    def _wait_for_room(self) -> None:
        while not self.stopping:
            self._done.update(id for kind, id, *_ in self._runs.lines() if kind == "end" and id.startswith(self._name))
            if self._sent - len(self._done) < self._window:
                return
            time.sleep(0.005)

    def _priority(self) -> int:
        wide = self._random.random() < 0.5
        return self._random.randint(-(2**31), 2**31 - 1) if wide else self._random.randint(-2, 2)

    def _id(self) -> str:
        self._sent += 1
        return f"{self._name}{self._sent}"

    def _send(self, priority: int) -> str:
        id = self._id()
        self._record.attempt(id, priority)
        work.options(priority=priority, id=id).delay(self._random.uniform(0, LONGEST))
        self._record.confirm(id)
        return id

    def _send_many(self) -> None:
        calls = [(self._id(), self._priority()) for _ in range(self._random.choice(BATCHES))]
        for id, priority in calls:
            self._record.attempt(id, priority)
        app.send_many([work.options(priority=p, id=id).si(self._random.uniform(0, LONGEST)) for id, p in calls])
        for id, _ in calls:
            self._record.confirm(id)

    def _ask(self) -> None:
        app.result(self._send(2**31 - 1)).get(timeout=PATIENCE)


def main(name: str, seed: str, window: str) -> None:
    """Run one producer."""
    producer = Producer(name, int(seed), int(window))

    def stop(signum: int, frame: object) -> None:
        producer.stopping = True

    signal.signal(signal.SIGTERM, stop)
    producer.run()
    app.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

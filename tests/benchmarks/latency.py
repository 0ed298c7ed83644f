"""How long does a caller wait, and what does waiting cost? A round trip, and the processor time of doing nothing.

The round trip is ``nothing.delay(1).get()`` with nothing else to do: publish, confirm, deliver, run, settle, tell the
caller. Idle: a broker and a worker of four consumers over some seconds. No targets but "idle means idle".
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from statistics import quantiles

from .harness import Finding
from .servers import broker, cpu_seconds
from .workers import family, local_home, mplite_worker

__all__ = ["run"]

_TRIPS = 300
_IDLE_SECONDS = 5.0


def run(rounds: int) -> list[Finding]:
    """Measure."""
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(broker("os"))
        stack.enter_context(local_home(running.home))
        worker = stack.enter_context(mplite_worker(4))
        from .noop_mplite import app, nothing

        stack.callback(app.close)
        _trips(lambda: nothing.delay(1).get(timeout=60))
        trips = [_trips(lambda: nothing.delay(1).get(timeout=60)) for _ in range(rounds)]
        halves = tuple(half for half, _ in trips)
        tails = tuple(tail for _, tail in trips)
        idle = _idle([running.pid, *family(worker)])
    return [
        Finding("latency", "round trip of a task, p50", "ms", halves),
        Finding("latency", "round trip of a task, p95", "ms", tails),
        Finding("latency", "idle: broker, supervisor, template, 4 consumers", "ms of CPU a second", (idle,)),
    ]


def _trips(trip: Callable[[], object]) -> tuple[float, float]:
    """Return the median and the 95th percentile, in milliseconds."""
    seconds = []
    for _ in range(_TRIPS):
        began = time.perf_counter()
        trip()
        seconds.append(time.perf_counter() - began)
    cuts = quantiles(seconds, n=20)
    return cuts[9] * 1000, cuts[18] * 1000


def _idle(pids: list[int]) -> float:
    """Return the milliseconds of processor time that these processes use in a second of doing nothing."""
    time.sleep(1.0)
    before = sum(map(cpu_seconds, pids))
    time.sleep(_IDLE_SECONDS)
    return (sum(map(cpu_seconds, pids)) - before) / _IDLE_SECONDS * 1000

"""How many tasks a second go through a worker? 20,000 tasks that do nothing, four consumer processes.

The queue is full before the worker starts; the clock runs from the result of one tenth of the tasks to the last one.
Every task's result is kept. Next to it Celery with 4,000 tasks, which take it as long: prefork, Redis as broker and
result backend, ``task_acks_late``, prefetch multiplier 1, no gossip, mingle or heartbeat. No target.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

from .harness import Finding, compare
from .servers import REDIS, broker, flush_redis, is_there
from .workers import celery_worker, local_home, mplite_worker

__all__ = ["run"]

TASKS = 20_000
CELERY_TASKS = 4_000
CONCURRENCY = 4

_PATIENCE = 300.0


def run(rounds: int) -> list[Finding]:
    """Measure. A round of both takes about 20 seconds: three are done at most."""
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(broker("os"))
        stack.enter_context(local_home(running.home))
        contenders: dict[str, Callable[[], float]] = {"MPLite (os)": _mplite}
        if find_spec("celery") is not None and is_there(REDIS):
            stack.callback(flush_redis)
            contenders["Celery (Redis, acks late)"] = _celery
        what = f"{TASKS:,} no-op tasks, -c {CONCURRENCY}"
        peers = {("MPLite (os)", "Celery (Redis, acks late)"): None}
        return compare("tasks", what, "jobs/s", contenders, min(rounds, 3), peers)


def _mplite() -> float:
    from .noop_mplite import app, nothing

    results = nothing.delay_many([(number,) for number in range(TASKS)])
    with mplite_worker(CONCURRENCY):
        rate = _rate(results)
    app.close()
    return rate


def _celery() -> float:
    from .noop_celery import nothing

    flush_redis()
    results = [nothing.delay(number) for number in range(CELERY_TASKS)]
    with celery_worker(CONCURRENCY):
        rate = _rate(results)
    flush_redis()
    return rate


def _rate(results: Sequence[Any]) -> float:
    """Wait for all results, which come in their order, and return how many a second came."""
    first = len(results) // 10
    results[first].get(timeout=_PATIENCE)
    began = time.perf_counter()
    results[-1].get(timeout=_PATIENCE)
    return (len(results) - 1 - first) / (time.perf_counter() - began)

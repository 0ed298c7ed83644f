"""Workers of both frameworks as processes, with an environment in which they find their broker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mplite_tasks_transport.home import HOME_ENV

__all__ = ["celery_worker", "family", "local_home", "mplite_worker"]

_ROOT = Path(__file__).parents[2]
_PATIENCE = 60.0


@contextmanager
def local_home(home: Path) -> Iterator[None]:
    """Let ``mplite://`` be the broker in this home, here and in processes that are started meanwhile."""
    before = os.environ.get(HOME_ENV)
    os.environ[HOME_ENV] = str(home)
    try:
        yield
    finally:
        if before is None:
            del os.environ[HOME_ENV]
        else:
            os.environ[HOME_ENV] = before


@contextmanager
def mplite_worker(concurrency: int) -> Iterator[int]:
    """Run ``mplite-worker`` for the time of a block, which is given its pid."""
    command = [sys.executable, "-m", "mplite_tasks.cli.worker", "-A", "tests.benchmarks.noop_mplite:app"]
    with _process([*command, "-c", str(concurrency), "-l", "warning"]) as pid:
        yield pid


@contextmanager
def celery_worker(concurrency: int) -> Iterator[int]:
    """Run ``celery worker`` (prefork) for the time of a block, which is given its pid."""
    command = [sys.executable, "-m", "celery", "-A", "tests.benchmarks.noop_celery:app", "worker", "-P", "prefork"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "warning"]
    with _process([*command, "-c", str(concurrency), *quiet]) as pid:
        yield pid


@contextmanager
def _process(command: list[str]) -> Iterator[int]:
    process = subprocess.Popen(
        command,
        cwd=_ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "C_FORCE_ROOT": "1"},
    )
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_PATIENCE)


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [pid, *(each for child in map(int, text.split()) for each in family(child))]

"""A consumer that waits for a message is stopped by its signal at whatever moment that arrives."""

from __future__ import annotations

import subprocess
import sys

#: Runs in a process of its own, since the handlers are there for as long as a process lives.
SCRIPT = """
import os, signal, socket, sys
from types import SimpleNamespace
from mplite_tasks.worker.stopping import StopIdle, StopSignals

stop = StopSignals()
stop.install()
ours, theirs = socket.socketpair()


class Destroyed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)


def drain_events(timeout=None):
    Destroyed()  # what its signal's handler raises is only printed
    raise TimeoutError


connection = SimpleNamespace(connection=SimpleNamespace(sock=ours), drain_events=drain_events)
try:
    with stop.idle():
        stop.drain(connection)
except StopIdle:
    sys.exit(7)
"""


def test_a_stop_whose_exception_is_lost_in_a_destructor_still_ends_the_wait() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=20, check=False)
    assert "Exception ignored in" in done.stderr
    assert done.returncode == 7, done.stderr

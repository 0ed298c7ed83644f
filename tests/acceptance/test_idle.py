"""With nothing to do, nothing happens: the kernel's own figures say so."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mplite_tasks import MPLite
from mplite_tasks_transport import local
from tests.support.brokers import listener_pid
from tests.support.workers import ROOT, wait_until, worker

from . import sample

#: Seconds of observation.
WINDOW = 3.0


def wake_ups(pid: int) -> int:
    """Return how often any thread of a process got the processor."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith(("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")):
                total += int(line.split()[1])
    return total


#: What a program does that waits for a message that never comes: it says that it is about to, and waits.
CONSUMER = """
import kombu
import mplite_tasks_transport
with kombu.Connection("mplite://") as connection, connection.Consumer(kombu.Queue("quiet"), callbacks=[print]):
    print("ready", flush=True)
    while True:
        connection.drain_events()
"""

#: What a program does that waits for a result that never comes.
CALLER = """
from tests.acceptance import sample
result = sample.add.options(countdown=3600).delay(1)
print("ready", flush=True)
result.get()
"""


@contextmanager
def program(source: str) -> Iterator[int]:
    """Run a program around a block, from when it is ready on."""
    process = subprocess.Popen([sys.executable, "-c", source], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def test_an_idle_worker_its_broker_and_idle_clients_wake_up_at_most_once_a_second(
    app: MPLite, local_home: Path
) -> None:
    with (
        worker("tests.acceptance.sample", concurrency=2) as process,
        program(CONSUMER) as consumer,
        program(CALLER) as caller,
    ):
        assert sample.add.delay(1, 1).get(timeout=20) == 2
        app.close()
        info = local.read_info(local_home)
        assert info is not None
        broker = listener_pid(info.socket)
        assert broker is not None
        watched = {"supervisor": process.pid, "template": process.template, "broker": broker}
        watched |= {f"consumer {number}": pid for number, pid in enumerate(process.consumers)}
        watched |= {"a Kombu consumer": consumer, "a caller who waits for a result": caller}
        settled = dict.fromkeys(watched, -1)

        def quiet() -> bool:
            before = dict(settled)
            settled.update({name: wake_ups(pid) for name, pid in watched.items()})
            return before == settled

        wait_until(quiet, "everything comes to rest")
        before = {name: wake_ups(pid) for name, pid in watched.items()}
        time.sleep(WINDOW)  # what is tested is that nothing happens in it
        counted = {name: wake_ups(pid) - before[name] for name, pid in watched.items()}
        assert all(count <= WINDOW for count in counted.values()), counted

"""With nothing to do, nothing happens: the kernel's own figures say so."""

from __future__ import annotations

import time
from pathlib import Path

from mplite_tasks import MPLite
from mplite_tasks_transport import local
from tests.support.brokers import listener_pid
from tests.support.workers import wait_until, worker

from . import sample

#: Seconds of observation.
WINDOW = 3.0


def wake_ups(pid: int) -> int:
    """Return how often any thread of a process has waited and was woken."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


def test_an_idle_worker_and_its_broker_wake_up_at_most_once_a_second(app: MPLite, local_home: Path) -> None:
    with worker("tests.acceptance.sample", concurrency=2) as process:
        assert sample.add.delay(1, 1).get(timeout=20) == 2
        app.close()
        info = local.read_info(local_home)
        assert info is not None
        broker = listener_pid(info.socket)
        assert broker is not None
        watched = {"supervisor": process.pid, "template": process.template, "broker": broker}
        watched |= {f"consumer {number}": pid for number, pid in enumerate(process.consumers)}
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

"""Real workers for tests: ``mplite-worker`` as a person starts it, whose whole family ends with the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["HANDLE", "WORKER", "WorkerProcess", "wait_until", "worker"]

#: Seconds within which anything that a test waits for has to happen.
PATIENCE = 20.0

ROOT = Path(__file__).parents[2]

#: The arguments of Python for ``mplite-worker -A`` and ``mplite handle``, up to what is run.
WORKER = ("-m", "mplite_tasks.cli.worker", "-A")
HANDLE = ("-c", "from mplite_tasks.cli import main; main(prog_name='mplite')", "handle")


def wait_until(condition: Callable[[], object], what: str, timeout: float = PATIENCE) -> None:
    """Wait until a condition holds that nothing announces; fail saying what was waited for."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"Within {timeout:g} s this did not happen: {what}")
        time.sleep(0.01)


class WorkerProcess:
    """One ``mplite-worker`` or ``mplite handle``: its supervisor, and through it all of its family.

    Its output (both streams) is in ``output``.
    """

    def __init__(
        self, app: str, options: tuple[str, ...], cwd: Path, env: dict[str, str], program: tuple[str, ...] = WORKER
    ) -> None:
        self.output = ""
        self._complete = False
        self._changed = threading.Condition()
        self._sessions: set[int] = set()
        command = [sys.executable, *program, app, *options]
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The supervisor."""
        return self.process.pid

    @property
    def template(self) -> int:
        """The template, once it is there."""
        wait_until(lambda: children_of(self.pid), "the supervisor has a template")
        pid = children_of(self.pid)[0]
        self._sessions.add(pid)
        return pid

    @property
    def consumers(self) -> list[int]:
        """The consumers that there are now."""
        return children_of(self.template)

    def wait_for(self, text: str, count: int = 1) -> None:
        """Wait until the output holds a text so many times."""
        with self._changed:
            self._changed.wait_for(lambda: self.output.count(text) >= count or self._complete, PATIENCE)
            if self.output.count(text) < count:
                raise AssertionError(f"{text!r} did not appear {count} times in the output:\n{self.output}")

    def wait_ready(self, consumers: int) -> None:
        """Wait until so many consumers are connected."""
        self.wait_for("Connected to the broker", consumers)
        self._sessions.add(self.template)

    def send(self, number: signal.Signals) -> None:
        """Signal the supervisor."""
        self.process.send_signal(number)

    def send_to_all(self, number: signal.Signals) -> None:
        """Signal every process of the worker, as a service manager does."""
        for pid in [self.pid, *self.family()]:
            os.kill(pid, number)

    def wait(self) -> int:
        """Wait until the supervisor has ended and return its exit status."""
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"The worker did not end:\n{self.output}") from None
        self.wait_family()
        return status

    def family(self) -> list[int]:
        """All processes of the worker that live: those of the sessions that its templates opened."""
        if self.process.poll() is None:
            self._sessions.update(children_of(self.pid))
        return [pid for pid, session in _sessions() if session in self._sessions]

    def wait_family(self) -> None:
        """Wait until no process of the worker is left, and its output is complete."""
        wait_until(lambda: not self.family(), f"the processes {self.family()} of the worker end")
        self._reader.join(PATIENCE)

    def clean_up(self) -> None:
        """End everything, the polite way first."""
        with suppress(ProcessLookupError):
            self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5.0)
        for pid in self.family():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _read(self) -> None:
        if self.process.stdout is None:
            return
        for line in self.process.stdout:
            with self._changed:
                self.output += line
                self._changed.notify_all()
        with self._changed:
            self._complete = True
            self._changed.notify_all()


@contextmanager
def worker(
    app: str,
    *,
    concurrency: int = 1,
    options: tuple[str, ...] = (),
    level: str = "info",
    cwd: Path = ROOT,
    ready: bool = True,
    program: tuple[str, ...] = WORKER,
) -> Iterator[WorkerProcess]:
    """Run a worker around a block.

    Parameters:
        app: what ``-A`` says, or what is to handle.
        program: :data:`WORKER` or :data:`HANDLE`.
        ready: whether to wait first until every consumer is connected.
    """
    command = ("-c", str(concurrency), "-l", level, *options)
    process = WorkerProcess(app, command, cwd, {**os.environ, "PYTHONUNBUFFERED": "1"}, program)
    try:
        if ready:
            process.wait_ready(concurrency)
        yield process
    except BaseException:
        print(process.output)
        raise
    finally:
        process.clean_up()


def children_of(pid: int) -> list[int]:
    """Return the living children of a process."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [child for child in map(int, text.split()) if _state(child) not in {"Z", ""}]


def _state(pid: int) -> str:
    fields = _stat(pid)
    return fields[0] if fields else ""


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _sessions() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) and fields[0] != "Z":
            yield int(entry.name), int(fields[3])

"""Real brokers for tests: processes of their own, in directories of their own, that end with the test."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mplite_tasks_transport import local
from mplite_tasks_transport.errors import LocalBrokerError
from mplite_tasks_transport.keys import new_key
from mplite_tasks_transport.url import BrokerURL

__all__ = ["BrokerProcess", "broker", "local_home", "make_broker", "short_directory"]

#: Seconds within which a broker process has to be ready, or to have ended.
PATIENCE = 30.0

_LISTENING = re.compile(r"Listening on mplite://127\.0\.0\.1:(\d+)/")


class BrokerProcess:
    """A broker in the foreground of a process, on a free port of the loopback, with a key and a data directory.

    Parameters:
        directory: where its data, key file and error output are.
        durability: ``os``, ``fsync`` or ``memory``.
        options: further options of the command line.
    """

    def __init__(self, directory: Path, durability: str = "os", options: tuple[str, ...] = ()) -> None:
        self.directory = directory
        self.key = new_key()
        self.port = 0
        self.lines: list[str] = []
        self._durability = durability
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._key_file = directory / "key"
        self._key_file.touch(mode=0o600)
        self._key_file.write_text(self.key + "\n")

    @property
    def url(self) -> str:
        """The URL for clients, with the key in it."""
        return f"mplite://:{self.key}@127.0.0.1:{self.port}/"

    @property
    def plain_url(self) -> str:
        """The URL without the key."""
        return f"mplite://127.0.0.1:{self.port}/"

    @property
    def broker_url(self) -> BrokerURL:
        """The URL as a value, with the key in it."""
        return BrokerURL.parse(self.url)

    @property
    def pid(self) -> int:
        """The process."""
        return self._running().pid

    @property
    def errors(self) -> str:
        """What it wrote to its error output."""
        return (self.directory / "stderr").read_text()

    def start(self) -> BrokerProcess:
        """Start it, on the same port as before, and return when it listens."""
        data = () if self._durability == "memory" else ("--data", str(self.directory / "data"))
        command = [
            *(sys.executable, "-m", "mplite_tasks_transport.broker.cli", "--listen", self.plain_url),
            *("--key-file", str(self._key_file), "--durability", self._durability, *data, *self._options),
        ]
        with (self.directory / "stderr").open("ab") as errors:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        self.lines = []
        deadline = time.monotonic() + PATIENCE
        buffer = b""
        while not (match := _LISTENING.search(buffer.decode())) or b"Durability" not in buffer:
            chunk = self._read(deadline)
            if not chunk:
                self.kill()
                raise AssertionError(f"The broker did not start: {buffer.decode()}{self.errors}")
            buffer += chunk
        self.port = int(match[1])
        self.lines = buffer.decode().splitlines()
        return self

    def kill(self) -> None:
        """End it as a crash would (SIGKILL), and wait until it is gone."""
        process = self._running()
        process.kill()
        self._reap(process)

    def stop(self) -> int:
        """End it as an administrator would (SIGTERM). Returns its exit status."""
        self._running().terminate()
        return self.wait()

    def wait(self) -> int:
        """Wait until it ends. Returns its exit status."""
        process = self._running()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"The broker did not end: {self.errors}") from None
        finally:
            status = self._reap(process)
        return status

    def restart(self) -> BrokerProcess:
        """Stop it if it runs, and start it again with the same data, port and key."""
        if self._process is not None:
            self.stop()
        return self.start()

    def clean_up(self) -> None:
        """Kill it if it runs."""
        if self._process is not None:
            self.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise AssertionError("The broker was not started, or has been stopped.")
        return self._process

    def _read(self, deadline: float) -> bytes:
        stdout = self._running().stdout
        if stdout is None:
            raise AssertionError("The broker has no output.")
        ready, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
        return os.read(stdout.fileno(), 65_536) if ready else b""

    def _reap(self, process: subprocess.Popen[bytes]) -> int:
        status = process.wait()
        if process.stdout is not None:
            process.stdout.close()
        self._process = None
        return status


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """A directory with a path that is short enough for a socket in it."""
    directory = Path(tempfile.mkdtemp(prefix="mplite-test-", dir="/tmp"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def local_home(short_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of its own for the local broker, which may be started, and is ended after the test."""
    home = short_directory / "home"
    monkeypatch.setenv(local.HOME_ENV, str(home))
    monkeypatch.delenv(local.AUTOSTART_ENV, raising=False)
    yield home
    end_local_broker(home)


def end_local_broker(home: Path) -> None:
    """Stop the broker of this home; kill it if it does not listen to that."""
    try:
        local.stop(home, timeout=10.0)
    except LocalBrokerError:
        info = local.read_info(home)
        pid = None if info is None else listener_pid(info.socket)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)


def listener_pid(path: str) -> int | None:
    """Return the process that listens on a unix socket, as the kernel says."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return None
        pid: int = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        return pid


@pytest.fixture
def make_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., BrokerProcess]]:
    """Start any number of brokers: ``make_broker(durability="fsync", options=("--memory-limit", "64M"))``."""
    made: list[BrokerProcess] = []

    def make(durability: str = "os", options: tuple[str, ...] = ()) -> BrokerProcess:
        process = BrokerProcess(tmp_path_factory.mktemp("broker"), durability, options)
        made.append(process)
        return process.start()

    yield make
    for process in made:
        process.clean_up()


@pytest.fixture
def broker(make_broker: Callable[..., BrokerProcess]) -> BrokerProcess:
    """A broker over TCP with a key and a journal (``os``), which the test may kill, stop and restart."""
    return make_broker()

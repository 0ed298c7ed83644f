"""The servers that are measured: brokers of our own, and Redis and RabbitMQ where they run."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kombu

from mplite_tasks_transport import BrokerClient, BrokerURL

__all__ = ["RABBITMQ", "REDIS", "REDIS_RESULTS", "LocalBroker", "broker", "cpu_seconds", "flush_redis", "is_there"]

#: Redis databases of the benchmarks' own; they are flushed.
REDIS = "redis://127.0.0.1:6379/13"
REDIS_RESULTS = "redis://127.0.0.1:6379/14"
RABBITMQ = "amqp://guest:guest@127.0.0.1:5672//"

_ROOT = Path(__file__).parents[2]
_PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class LocalBroker:
    """A broker that runs.

    Parameters:
        home: its home, for clients.
        pid: its process.
    """

    home: Path
    pid: int

    def client(self) -> BrokerClient:
        """Return a client."""
        return BrokerClient.connect(BrokerURL(), home=self.home, autostart=False)

    def connection(self, **options: Any) -> kombu.Connection:
        """Return a Kombu connection."""
        return kombu.Connection("mplite://", transport_options={"home": str(self.home), "autostart": False, **options})


@contextmanager
def home() -> Iterator[Path]:
    """Make a home for a broker, for the time of a block."""
    directory = Path(tempfile.mkdtemp(prefix="mplite-bench-"))
    directory.chmod(0o700)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def broker(
    durability: str = "os", *, directory: Path | None = None, profile: str | None = None
) -> Iterator[LocalBroker]:
    """Run a broker for the time of a block.

    Parameters:
        directory: its home, which may have a journal already; one of its own by default.
        profile: the file to write a profile to.
    """
    with contextlib.ExitStack() as stack:
        where = directory or stack.enter_context(home())
        command = [sys.executable, "-m", "tests.benchmarks.broker", str(where), durability]
        process = subprocess.Popen(
            [*command, profile] if profile else command, cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        try:
            if process.stdout is None or process.stdout.readline() != b"ready\n":
                raise RuntimeError("The broker did not start.")
            yield LocalBroker(where, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_PATIENCE)
            if process.stdout is not None:
                process.stdout.close()


def cpu_seconds(pid: int) -> float:
    """Return the seconds of processor time that a process has used, in user and system mode, over all its threads."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def is_there(url: str) -> bool:
    """Return whether a server accepts connections."""
    try:
        with kombu.Connection(url, connect_timeout=2) as connection:
            connection.ensure_connection(max_retries=1, timeout=2)
            connection.default_channel.close()
    except Exception:  # whatever the client library of an absent server raises
        return False
    return True


def flush_redis() -> None:
    """Empty the databases of the benchmarks."""
    import redis

    for url in (REDIS, REDIS_RESULTS):
        with redis.Redis.from_url(url) as client:
            client.flushdb()


def server_versions() -> dict[str, str]:
    """Return the versions of the servers that run."""
    versions = {}
    if is_there(REDIS):
        import redis

        with redis.Redis.from_url(REDIS) as client:
            versions["redis-server"] = str(client.info("server")["redis_version"])
    if is_there(RABBITMQ):
        with kombu.Connection(RABBITMQ) as connection:
            connection.connect()
            properties = connection.connection.server_properties
            versions["rabbitmq"] = str(properties["version"])
    return versions

"""The local broker, from a client's side: it is started by whoever needs it first, once, and can be stopped."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .errors import LocalBrokerError
from .home import (
    HOME_ENV,
    BrokerInfo,
    hold_lock,
    is_running,
    local_home,
    log_path,
    prepare_home,
    read_info,
    socket_path,
)
from .limits import LOCAL_START_SECONDS

__all__ = [
    "AUTOSTART_ENV",
    "HOME_ENV",
    "STOP_SECONDS",
    "BrokerInfo",
    "ensure_running",
    "hold_lock",
    "is_running",
    "local_home",
    "read_info",
    "running",
    "socket_path",
    "start",
    "stop",
]

#: The environment variable that, set to 0, forbids clients to start the local broker.
AUTOSTART_ENV: Final = "MPLITE_AUTOSTART"

#: Seconds that :func:`stop` gives the broker to end: it has to write what it has and to close its journal.
STOP_SECONDS: Final = 30.0

#: Bytes of the log above which a new one is begun; the old one is kept once.
_LOG_BYTES: Final = 1024 * 1024

#: Seconds between two looks whether the broker that another process starts is there.
_POLL_SECONDS: Final = 0.02


class _NotYetError(Exception):
    """The broker does not accept connections yet, and somebody is starting it."""


def running(home: Path | None = None) -> BrokerInfo | None:
    """Return what the local broker says about itself if its socket accepts connections now, else ``None``."""
    info = read_info(home or local_home())
    return info if info is not None and _accepts(info.socket) else None


def ensure_running(home: Path | None = None, *, autostart: bool = True) -> BrokerInfo:
    """Return how to reach the local broker, having started it if none was running.

    However many processes call this at once, one broker starts. It runs in a session of its own and outlives the
    caller; what it prints goes to ``broker.log`` in its home.

    Parameters:
        home: the broker's home; :func:`local_home` by default. It is made if needed, for this user only.
        autostart: whether it may be started; ``MPLITE_AUTOSTART=0`` forbids it too.

    Raises:
        LocalBrokerError: it cannot be started, or not within ``LOCAL_START_SECONDS``, or may not be.
    """
    where = home or local_home()
    info = running(where)
    if info is not None:
        return info
    if not autostart or os.environ.get(AUTOSTART_ENV, "").strip().lower() in {"0", "no", "off", "false"}:
        raise LocalBrokerError(f"No local broker runs in {where}, and none may be started: run mplite broker start.")
    return start(where)


def start(home: Path | None = None) -> BrokerInfo:
    """Do as :func:`ensure_running`, whatever ``MPLITE_AUTOSTART`` says."""
    where = home or local_home()
    prepare_home(where)
    return _start_and_wait(where)


def stop(home: Path | None = None, *, timeout: float = STOP_SECONDS) -> bool:
    """Ask the local broker to end and wait until it has. Returns whether one was running.

    Parameters:
        home: the broker's home; :func:`local_home` by default.
        timeout: seconds to wait.

    Raises:
        LocalBrokerError: it did not end in time; it is not killed.
    """
    where = home or local_home()
    deadline = time.monotonic() + timeout
    while is_running(where):
        pid = _listener_pid(where)
        if pid is not None and _terminate(pid, deadline):
            return True
        if time.monotonic() >= deadline:
            raise LocalBrokerError(
                f"The local broker in {where} did not end within {timeout:g} s; see {log_path(where)}."
            )
        time.sleep(_POLL_SECONDS)  # it starts, or is about to end
    return False


def _accepts(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5.0)
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


def _listener_pid(home: Path) -> int | None:
    """Return the process that listens on the broker's socket, as the kernel says: a file could name a stranger."""
    info = read_info(home)
    if info is None:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5.0)
        try:
            probe.connect(info.socket)
            if not hasattr(socket, "SO_PEERCRED"):
                return info.pid
            credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return None
        pid: int = struct.unpack("3i", credentials)[0]
        return pid


def _terminate(pid: int, deadline: float) -> bool:
    """Send SIGTERM and return whether the process has ended by the deadline."""
    try:
        if hasattr(os, "pidfd_open"):
            return _terminate_by_descriptor(pid, deadline)
        os.kill(pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def _terminate_by_descriptor(pid: int, deadline: float) -> bool:
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        return bool(ended.poll(max(0.0, deadline - time.monotonic()) * 1000))
    finally:
        os.close(descriptor)


def _start_and_wait(home: Path) -> BrokerInfo:
    import tenacity  # noqa: PLC0415 - it imports asyncio, which a client of a running broker does not need

    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_NotYetError),
        wait=tenacity.wait_fixed(_POLL_SECONDS),
        stop=tenacity.stop_after_delay(LOCAL_START_SECONDS),
        reraise=True,
    )
    try:
        return attempts(_start_once, home)
    except _NotYetError:
        raise LocalBrokerError(_complaint(home, f"was not ready within {LOCAL_START_SECONDS:g} s")) from None


def _start_once(home: Path) -> BrokerInfo:
    """Start the broker unless somebody else is at it. Raises :class:`_NotYetError` when it does not accept yet."""
    with _start_lock(home) as ours:
        info = running(home)
        if info is not None:
            return info
        if ours:
            _spawn(home)
            info = running(home)
            if info is not None:
                return info
    raise _NotYetError


@contextlib.contextmanager
def _start_lock(home: Path) -> Iterator[bool]:
    """Say whether it is this process that starts the broker: others wait, and start it should this one die."""
    try:
        descriptor = os.open(home / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise LocalBrokerError(
            f"The local broker's home {home} cannot be written: {exc.strerror}; "
            f"name a directory of yours that can be written in {HOME_ENV}."
        ) from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = True
    except BlockingIOError:
        ours = False
    try:
        yield ours
    finally:
        os.close(descriptor)


def _spawn(home: Path) -> None:
    """Start the broker process and return when it is ready, or has left the place to another one.

    The command puts the broker in the background when that is ready, so that no child of the caller is left.
    """
    if not sys.executable:
        raise LocalBrokerError("This interpreter does not know its own program: run mplite broker start beforehand.")
    command = [sys.executable, "-P", "-m", "mplite_tasks_transport.broker.cli", "--local", str(home), "--detach"]
    with _open_log(home) as log:
        process = subprocess.Popen(  # noqa: S603 - our own program, and no shell
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home, start_new_session=True
        )
        try:
            status = process.wait(LOCAL_START_SECONDS)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.returncode is None:
                process.kill()  # the one that waits for the broker, which itself goes on
                process.wait()
    if status is None:
        raise LocalBrokerError(_complaint(home, f"was not ready within {LOCAL_START_SECONDS:g} s"))
    if status != 0:
        raise LocalBrokerError(_complaint(home, f"did not start (exit status {status})"))


@contextlib.contextmanager
def _open_log(home: Path) -> Iterator[int]:
    path = log_path(home)
    try:
        if path.exists() and path.stat().st_size > _LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise LocalBrokerError(f"The local broker's log {path} cannot be written: {exc.strerror}.") from exc
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _complaint(home: Path, what: str) -> str:
    path = log_path(home)
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    last = f" Its last line: {lines[-1]}" if lines else ""
    return f"The local broker in {home} {what}; see {path}.{last}"

"""Processes of this machine: who is at the other end of a unix socket, and when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from ..limits import MAX_CONNECTIONS, MAX_UNAUTHENTICATED
from .session import Process

__all__ = ["ProcessWatch", "is_alive", "peer_of", "raise_file_limit", "same_user"]

#: Descriptors that a broker has for other things than connections: journal, listeners, pidfds of local clients.
_OWN_FILES = 512

_UCRED = struct.Struct("3i")


def peer_of(sock: socket.socket) -> tuple[Process, int] | None:
    """Return the process that connected a unix socket and its user id; ``None`` where the system cannot tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    pid, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, option, _UCRED.size))
    return Process(pid, start_time(pid)), uid


def same_user(uid: int) -> bool:
    """Return whether a peer may use a broker of ours: it is us, or root."""
    return uid in (0, os.getuid())


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 if there is none, or no way to know."""
    try:
        # The name in the second field may have spaces and brackets; the fields after its last bracket do not.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[19])
    except (OSError, IndexError, ValueError):
        return 0


def is_alive(process: Process) -> bool:
    """Return whether this very process still runs, and not a later one with its pid."""
    if process.pid <= 0:
        return False
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return start_time(process.pid) == process.started


def raise_file_limit() -> None:
    """Let this process have as many descriptors as it may, up to what the limit of connections can take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + MAX_UNAUTHENTICATED + _OWN_FILES
    wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class ProcessWatch:
    """Calls back when a process has ended, even if a child of it still holds its socket open.

    Where the system has no pidfd (Linux has since 5.3), it never does; the end of the connection then has to tell.

    Parameters:
        ended: called once, from the loop, after what the process wrote before its end was read.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, pid: int, ended: Callable[[], None]) -> None:
        self._loop = loop
        self._ended = ended
        self._fd: int | None = None
        self._gone = False
        if pid <= 0 or not hasattr(os, "pidfd_open"):
            return
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._gone = True
            loop.call_soon(ended)
        except OSError:
            return  # no pidfd here, or no descriptor left: the connection's end will tell
        else:
            loop.add_reader(self._fd, self._fire)

    @property
    def watching(self) -> bool:
        """Whether the end of the process will be noticed."""
        return self._fd is not None or self._gone

    def _fire(self) -> None:
        self.close()
        # What it wrote last became readable before its pidfd did, so it is read in this turn; end it in the next.
        self._loop.call_soon(self._ended)

    def close(self) -> None:
        """Stop watching."""
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

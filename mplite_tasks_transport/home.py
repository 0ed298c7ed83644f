"""The local broker's home: the directory that identifies it, the lock that guards it, and where its socket is.

The home is ``$MPLITE_HOME``, else ``mplite/<host name>`` in the XDG state directory. ``XDG_RUNTIME_DIR`` is not used:
it is unset under cron and in containers, and removed at logout.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from .errors import LocalBrokerError
from .limits import MAX_SOCKET_PATH_BYTES

__all__ = [
    "HOME_ENV",
    "BrokerInfo",
    "hold_lock",
    "is_running",
    "journal_path",
    "local_home",
    "log_path",
    "prepare_home",
    "read_info",
    "remove_info",
    "served_home",
    "socket_path",
    "write_info",
]

#: The environment variable that names the home.
HOME_ENV: Final = "MPLITE_HOME"

#: Seconds for which a starting broker tries to get the lock: :func:`is_running` holds it for some microseconds.
_LOCK_PATIENCE: Final = 0.2

_HINT: Final = f"name a directory of yours that can be written in {HOME_ENV}"


@dataclass(frozen=True, slots=True)
class BrokerInfo:
    """What a running local broker says about itself in ``broker.json``.

    Parameters:
        socket: the path of the unix socket that it listens on.
        pid: its process.
        version: the package version that it runs.
        started: when it began to listen, in seconds since the epoch.
        listen: the URLs of its TCP listeners.
    """

    socket: str
    pid: int
    version: str
    started: float
    listen: tuple[str, ...] = ()


def local_home(environ: Mapping[str, str] | None = None) -> Path:
    """Return the home of this user's local broker. Nothing is created.

    Parameters:
        environ: where the variables are looked up; ``os.environ`` by default.

    Raises:
        LocalBrokerError: the user has no home directory and ``MPLITE_HOME`` is not set.
    """
    env = os.environ if environ is None else environ
    try:
        if named := env.get(HOME_ENV):
            return Path(named).expanduser().absolute()
        state = Path(env.get("XDG_STATE_HOME", ""))
        if not state.is_absolute():  # the XDG specification: a relative path is to be ignored
            state = Path("~/.local/state").expanduser()
    except RuntimeError as exc:
        raise LocalBrokerError(f"The local broker has no home, as this user has no home directory: {_HINT}.") from exc
    return state / "mplite" / socket.gethostname().replace("/", "_")


def served_home() -> Path:
    """Return the data directory of a broker in the foreground that was told none. Nothing is created.

    Raises:
        LocalBrokerError: as :func:`local_home`.
    """
    return local_home() / "served"


def prepare_home(home: Path) -> None:
    """Make sure that the home exists, belongs to this user and can be written by nobody else.

    A directory that is made has mode 0700. One that was there keeps its mode: it may be somebody's own choice.

    Raises:
        LocalBrokerError: it cannot be made or used; the text names ``MPLITE_HOME``.
    """
    try:
        home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.mkdir(mode=0o700, exist_ok=True)
        status = home.stat()
    except OSError as exc:
        raise LocalBrokerError(f"The local broker's home {home} cannot be made: {exc.strerror}; {_HINT}.") from exc
    if status.st_uid != os.geteuid():
        raise LocalBrokerError(
            f"The local broker's home {home} belongs to another user (uid {status.st_uid}): {_HINT}."
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise LocalBrokerError(
            f"The local broker's home {home} can be written by other users: chmod 700 it, or {_HINT}."
        )
    if not os.access(home, os.W_OK | os.X_OK):
        raise LocalBrokerError(f"The local broker's home {home} cannot be written: {_HINT}.")


def journal_path(home: Path) -> Path:
    """Return the path of the local broker's journal."""
    return home / "journal.sqlite"


def log_path(home: Path) -> Path:
    """Return the path of the file that has what the local broker printed."""
    return home / "broker.log"


def socket_path(home: Path) -> Path:
    """Return where the broker of this home listens: in it, or in a directory of this user's under the temporary one.

    For the broker. A client takes the path from :func:`read_info`, since its temporary directory may be another.

    Raises:
        LocalBrokerError: the path in the home is too long for a socket, and the directory under the temporary one
            is not safely ours.
    """
    path = home / "broker.sock"
    if _fits(path):
        return path
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16] + ".sock"
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - the directory's owner and mode are checked below
        path = Path(parent) / f"mplite-{os.geteuid()}" / name
        if _fits(path):
            _private_directory(path.parent)
            return path
    raise LocalBrokerError(
        f"The path {home / 'broker.sock'} is longer than {MAX_SOCKET_PATH_BYTES} bytes, which a socket may not have: "
        f"name a shorter directory in {HOME_ENV}."
    )


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES


def _private_directory(directory: Path) -> None:
    """Make the directory, or check that nobody else made it or can change it: anybody may write to its parent."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        status = directory.lstat()
    except OSError as exc:
        raise LocalBrokerError(f"The directory {directory} for the broker's socket: {exc.strerror}.") from exc
    safe = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
    if not safe:
        raise LocalBrokerError(
            f"{directory}, the place for the broker's socket, is not a directory that only this user can enter: "
            f"remove it, or name a shorter directory in {HOME_ENV}."
        )


def read_info(home: Path) -> BrokerInfo | None:
    """Return what the broker of this home wrote about itself, ``None`` if there is nothing that can be read.

    The file of a broker that was killed stays behind: see whether its socket accepts, or :func:`is_running`.
    """
    try:
        fields = json.loads((home / "broker.json").read_bytes())
        return BrokerInfo(**{**fields, "listen": tuple(fields["listen"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_info(home: Path, info: BrokerInfo) -> None:
    """Put the information in place, whole: a reader sees the old or the new and never a part."""
    draft = home / f"broker.json.{os.getpid()}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(asdict(info), stream, indent=2)
        stream.write("\n")
    draft.replace(home / "broker.json")


def remove_info(home: Path) -> None:
    """Remove the information, if there is any. For the holder of the lock only."""
    (home / "broker.json").unlink(missing_ok=True)


@contextlib.contextmanager
def hold_lock(home: Path) -> Iterator[bool]:
    """Hold the lock that makes this process the broker of the home, and say whether it has it.

    The lock ends with the process, however that ends. It is the only guard against a second broker.

    Raises:
        LocalBrokerError: the lock file cannot be made.
    """
    with _lock_file(home) as descriptor:
        yield _acquire(descriptor)


def is_running(home: Path) -> bool:
    """Return whether a process holds the lock of this home: a broker that runs, starts or is about to end."""
    try:
        descriptor = os.open(home / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def _lock_file(home: Path) -> Iterator[int]:
    try:
        descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise LocalBrokerError(f"The lock {home / 'lock'} cannot be made: {exc.strerror}; {_HINT}.") from exc
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(descriptor: int) -> bool:
    deadline = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        else:
            return True

"""The local broker's process: alone in its home, on a unix socket, until nobody needs it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from ..._version import __version__
from ...home import BrokerInfo, hold_lock, journal_path, prepare_home, remove_info, socket_path, write_info
from ...url import BrokerURL
from ..journal import SQLiteJournal
from ..server import BrokerConfig, serve

__all__ = ["run_local"]

log = logging.getLogger("mplite.broker")


def run_local(home: Path, *, idle_seconds: float, memory_limit: int | None = None, detach: bool = False) -> int:
    """Be the local broker of this home until it is stopped or idle. Returns the exit status.

    It is 0 at once if another process is that broker already.

    Parameters:
        idle_seconds: ends after so long without a connection.
        memory_limit: bytes of messages above which publishers wait; ``None`` for the broker's default.
        detach: go on in a process of its own; this one ends when that is ready, or with its exit status.

    Raises:
        LocalBrokerError, JournalError: the home or the journal in it cannot be used.
    """
    os.umask(0o077)
    prepare_home(home)
    say_ready = _detach() if detach else None
    with hold_lock(home) as held:
        if not held:
            return 0
        remove_info(home)  # a broker that was killed left it
        path = socket_path(home)

        def ready(_: list[BrokerURL]) -> None:
            write_info(home, BrokerInfo(str(path), os.getpid(), __version__, time.time()))
            log.info("The local broker %s (pid %d) listens on %s", __version__, os.getpid(), path)
            if say_ready is not None:
                say_ready()

        journal = SQLiteJournal(journal_path(home))
        try:
            config = BrokerConfig(path, (), journal, None, memory_limit, idle_seconds)
            return asyncio.run(serve(config, ready))
        finally:
            remove_info(home)
            journal.close()
            log.info("The local broker (pid %d) has ended.", os.getpid())


def _detach() -> Callable[[], None]:
    """Go on in a child, and return the function by which it says that it is ready.

    The parent, which is all that the caller of this program sees, waits for that word and exits with status 0; if the
    child ends without it, it exits as the child did. So nobody has to poll, and nobody is left with a child.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        status = 0 if os.read(reader, 1) else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os._exit(status if status >= 0 else 1)
    os.close(reader)

    def say_ready() -> None:
        with contextlib.suppress(BrokenPipeError):  # whoever waited lost patience; the broker is of use all the same
            os.write(writer, b"\n")
        os.close(writer)

    return say_ready

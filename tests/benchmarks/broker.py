"""A broker process for the benchmarks: on a unix socket, with any durability.

``python -m tests.benchmarks.broker HOME DURABILITY [PROFILE]`` serves until SIGTERM; it is the local broker of HOME to
clients. With PROFILE, what :mod:`cProfile` saw is written to that file.
"""

from __future__ import annotations

import asyncio
import cProfile
import os
import sys
import time
from pathlib import Path

from mplite_tasks_transport import __version__
from mplite_tasks_transport.broker.journal import Durability, Journal, MemoryJournal, SQLiteJournal
from mplite_tasks_transport.broker.server import BrokerConfig, serve
from mplite_tasks_transport.home import (
    BrokerInfo,
    hold_lock,
    journal_path,
    prepare_home,
    remove_info,
    socket_path,
    write_info,
)

#: Bytes of messages, for a million of them whatever the machine has.
_MEMORY_LIMIT = 8 * 2**30


def main(home: Path, durability: Durability) -> int:
    """Serve until SIGTERM."""
    prepare_home(home)
    with hold_lock(home) as held:
        if not held:
            raise SystemExit(f"Another broker is in {home}.")
        memory = durability is Durability.MEMORY
        journal: Journal = MemoryJournal() if memory else SQLiteJournal(journal_path(home), durability)
        path = socket_path(home)

        def ready(_: list[tuple[str, int]]) -> None:
            write_info(home, BrokerInfo(str(path), os.getpid(), __version__, time.time()))
            print("ready", flush=True)

        try:
            return asyncio.run(serve(BrokerConfig(path, (), journal, None, _MEMORY_LIMIT), ready))
        finally:
            remove_info(home)
            journal.close()


def _profiled(home: Path, durability: Durability, file: str) -> int:
    with cProfile.Profile() as profile:
        status = main(home, durability)
    profile.dump_stats(file)
    return status


if __name__ == "__main__":
    where, level, *profile = sys.argv[1:]
    if profile:
        sys.exit(_profiled(Path(where), Durability(level), profile[0]))
    sys.exit(main(Path(where), Durability(level)))

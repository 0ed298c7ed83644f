"""A program that appends turns to a journal and prints the number of each one that is durable, until it is killed.

Each turn has three messages, the payload of which is the number of the turn.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from pathlib import Path

from mplite_tasks_transport.broker.journal import Durability, SQLiteJournal

from .journals import BASE, message, queue

#: Messages in a turn.
TURN = 3

#: Turns that may wait for the disk: with no bound, each transaction would be larger than the last.
IN_FLIGHT = 4


def main(path: str, durability: str) -> None:
    """Append for ever."""
    journal = SQLiteJournal(Path(path), Durability(durability))
    room = threading.Semaphore(IN_FLIGHT)
    confirmed = itertools.count(1)

    def durable(sequence: int) -> None:
        os.write(1, b"%d\n" % sequence)
        while next(confirmed) < sequence:
            room.release()
        room.release()

    journal.on_durable = durable
    room.acquire()
    journal.append([queue()], BASE)
    for turn in itertools.count(2):
        room.acquire()
        last = turn * TURN + TURN - 1
        journal.append([message(turn * TURN + n, payload=b"%d" % turn) for n in range(TURN)], BASE + last)


if __name__ == "__main__":
    main(*sys.argv[1:])

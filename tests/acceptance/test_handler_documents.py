"""The how-to of handlers, done as it says."""

from __future__ import annotations

from pathlib import Path

from tests.support.documents import Block, Reader, blocks_of

BLOCKS = blocks_of("docs/howto-handlers.md")

PUT_AND_WAIT = """
from mplite_tasks_transport import PriorityQueue
with PriorityQueue("orders") as orders:
    orders.put({"number": 4})
    orders.join()
"""


def test_each_example_does_what_it_says(local_home: Path, tmp_path: Path) -> None:
    printed: dict[str, str] = {}
    with Reader.in_(tmp_path) as reader:
        for block in BLOCKS:
            printed[block.heading] = printed.get(block.heading, "") + reader.follow(block)
        reader.follow(Block("", "python", PUT_AND_WAIT))
    assert printed["In this process"] == "shipping 2\nshipping 3\nshipping 1\n"
    assert printed["See more than the body"] == "hello letters 7 me True\n"
    assert printed["Look at what failed for good"] == "0 ZeroDivisionError: division by zero\n"
    assert printed["From the shell"].count("mplite handle") == 2

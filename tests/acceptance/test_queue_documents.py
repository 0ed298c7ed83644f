"""The how-to of queues between scripts, done as it says."""

from __future__ import annotations

from pathlib import Path

from tests.support.documents import Reader, blocks_of

BLOCKS = blocks_of("docs/howto-queue.md")


def test_each_example_does_what_it_says(local_home: Path, tmp_path: Path) -> None:
    printed: dict[str, str] = {}
    with Reader.in_(tmp_path) as reader:
        for block in BLOCKS:
            printed[block.heading] = printed.get(block.heading, "") + reader.follow(block)
    assert "shipping 2\nshipping 3\nshipping 1\n" in printed["One script puts, another gets"]
    assert printed["Wait until all is done"] == "all done\n"
    assert printed["Let the producer wait for the consumer"] == "no room for c\n2 wait\n"
    assert printed["In asyncio"] == "fetching http://example.org/\n"

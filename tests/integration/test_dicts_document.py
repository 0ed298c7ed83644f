"""The table of ``docs/dicts.md``: each row is done as it stands there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any, NamedTuple

import pytest

from mplite_tasks_transport import MPLiteManager, PreconditionFailed, PriorityQueue, ResourceLocked
from tests.support.documents import blocks_of
from tests.support.shared import shared_broker, vhost_url
from tests.support.workers import ROOT

__all__ = ["shared_broker", "vhost_url"]

DOCUMENT = "docs/dicts.md"

ERRORS: dict[str, type[Exception]] = {
    error.__name__: error
    for error in (
        *(Empty, KeyError, NotImplementedError, PreconditionFailed, ResourceLocked, RuntimeError),
        *(TypeError, ValueError),
    )
}


class Row(NamedTuple):
    do: str
    gives: str
    then: str


def rows() -> list[Row]:
    lines = [line for line in (ROOT / DOCUMENT).read_text().splitlines() if line.startswith("| `")]
    return [Row(*(cell.strip("`") for cell in re.split(r"\s*\|\s*", line)[1:4])) for line in lines]


class World:
    """One message, and all that the table names."""

    def __init__(self, url: str) -> None:
        # Another connect_timeout is another address, so another connection: as if it were another thread's.
        self.managers = [MPLiteManager(url), MPLiteManager(url, connect_timeout=6)]
        self.names: dict[str, Any] = {}
        for prefix, manager in zip(("", "other_"), self.managers, strict=True):
            manager.connect()
            self.names[f"{prefix}index"] = manager.shared_index("q")
            self.names[f"{prefix}queue"] = manager.shared_queue("q")
            self.names[f"{prefix}lock"] = manager.lock("q")
        self.names["jobs"] = PriorityQueue("q", url)
        self.names["index"]["a"] = 5
        self.names["queue"]["a"] = "data"
        self.names["stamp"] = self.names["index"]["a"][1]

    def do(self, program: str) -> Any:
        """Do what a cell says and return the value of its last expression."""
        tree = ast.parse(program)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, program, "exec"), self.names)
        return self.value(ast.unparse(last)) if last is not None else None

    def value(self, expression: str) -> Any:
        return eval(expression, self.names)


@pytest.fixture
def world(vhost_url: str) -> Iterator[World]:
    made = World(vhost_url)
    yield made
    made.names["jobs"].close()
    for manager in made.managers:
        manager.close()


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.do)
def test_the_dicts_do_what_the_table_says(world: World, row: Row) -> None:
    if row.gives in ERRORS:
        with pytest.raises(ERRORS[row.gives]):
            world.do(row.do)
    else:
        assert world.do(row.do) == world.value(row.gives)
    if row.then:
        assert world.value(row.then), f"it is not true that {row.then}"


def test_the_table_has_all_methods_of_a_stock_dict_proxy(world: World) -> None:
    text = " ".join(row.do + row.then for row in rows())
    methods = [name for name in type(world.names["index"])._exposed_ if not name.startswith("__")]
    assert [name for name in methods if f".{name}(" not in text] == []


def test_the_example_prints_what_the_document_says(local_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks_of(DOCUMENT)
    exec(compile(example.text, DOCUMENT, "exec"), {})
    assert capsys.readouterr().out == "job-2 this first\njob-1 this\n"

"""Every command and example that the documents show, done as they say."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

import pytest

from tests.support.documents import Block, Reader, blocks_of
from tests.support.workers import ROOT

#: What cannot be done inside a test: it installs, is this suite, or has a test of its own.
ELSEWHERE = {"$ pip install mplite-tasks", "$ make demo", "$ make test"}


def sections(document: str) -> list[tuple[str, list[Block]]]:
    return [
        (heading, list(blocks)) for heading, blocks in groupby(blocks_of(document), key=lambda block: block.heading)
    ]


@pytest.mark.parametrize("document", ["docs/howto.md"])
def test_each_how_to_does_what_it_says(document: str, local_home: Path, tmp_path: Path) -> None:
    printed = {}
    for number, (heading, blocks) in enumerate(sections(document)):
        directory = tmp_path / str(number)
        directory.mkdir()
        with Reader.in_(directory) as reader:
            printed[heading] = "".join(reader.follow(b) for b in blocks if b.language in {"python", "console"})
    assert printed["Change a URL: a Kombu program"] == "priority 9\npriority 5\npriority 0\n"
    assert printed["Cancel a waiting job, change its priority, ask for its place"] == "2\n0\nTrue\n"
    assert printed["Run a broker in the foreground"].endswith("connected\n")


def test_the_readme_example_runs(local_home: Path, tmp_path: Path) -> None:
    example = [block for block in blocks_of("README.md") if block.heading == "MPLite"]
    assert [block.language for block in example] == ["python", "console", "python", "python"]
    program = re.sub(r"^(add\.delay.*?\))  #.*$", r"print(\1)", example[2].text, flags=re.MULTILINE)
    with Reader.in_(tmp_path) as reader:
        reader.follow(example[0])
        reader.follow(example[1])
        assert reader.follow(Block("MPLite", "python", program)) == "5\n"
        assert reader.follow(example[3]) == "{'number': 2}\n"


def test_other_commands_of_the_readme_are_tested_elsewhere() -> None:
    others = [block for block in blocks_of("README.md") if block.heading != "MPLite" and block.language == "console"]
    assert {line for block in others for line in block.text.splitlines()} == ELSEWHERE


@pytest.mark.parametrize("document", [*sorted(path.name for path in (ROOT / "docs").glob("*.md")), "../README.md"])
def test_each_link_leads_somewhere(document: str) -> None:
    path = ROOT / "docs" / document
    links = re.findall(r"\]\(([^)#]+)?(?:#([^)]*))?\)", path.read_text())
    for target, anchor in links:
        if target.startswith("http"):
            continue
        to = (path.parent / target).resolve() if target else path
        assert to.exists(), f"{document} links to {target}, which does not exist"
        if anchor and to.suffix == ".md":
            assert anchor in anchors(to.read_text()), f"{document} links to #{anchor} of {to.name}"


def anchors(text: str) -> set[str]:
    """Return the anchors that a document's headings have."""
    names = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-") for name in names}

"""``docs/channel-contract.md`` lists names that exist, and leaves out none of Kombu's that ours replaces."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mplite_tasks_transport import transport

TEXT = (Path(__file__).parents[2] / "docs" / "channel-contract.md").read_text(encoding="utf-8")
LISTED = re.findall(r"^\| `(Transport|Connection|Channel)\.(\w+)` \|", TEXT, re.MULTILINE)

#: Names that instances get in ``__init__``.
OF_INSTANCES = {
    ("Connection", "client"),
    ("Connection", "channels"),
    ("Channel", "channel_id"),
    ("Channel", "connection"),
    ("Channel", "events"),
}


def test_the_contract_lists_something() -> None:
    assert len(LISTED) > 60


@pytest.mark.parametrize(("owner", "name"), LISTED)
def test_each_name_of_the_contract_exists(owner: str, name: str) -> None:
    cls = getattr(transport, owner)
    if (owner, name) in OF_INSTANCES:
        assert name in cls.__init__.__code__.co_names
    else:
        assert hasattr(cls, name)


@pytest.mark.parametrize("owner", ["Transport", "Channel"])
def test_each_public_method_that_ours_replaces_or_adds_for_kombu_is_in_the_contract(owner: str) -> None:
    cls = getattr(transport, owner)
    inherited = {name for base in cls.__mro__[1:] if base.__module__.startswith("kombu") for name in vars(base)}
    replaced = {name for name in vars(cls) if name in inherited and not name.startswith("_")}
    assert replaced - {"__init__"} <= {name for listed_owner, name in LISTED if listed_owner == owner}

"""The reference names every public name, and what it says of each command is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mplite_tasks
import mplite_tasks_transport

REFERENCE = (Path(__file__).parents[2] / "docs" / "reference.md").read_text()
NAMES = {name for module in (mplite_tasks, mplite_tasks_transport) for name in module.__all__} - {"__version__"}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_reference_has_every_public_name(name: str) -> None:
    assert re.search(rf"[`.]{name}`", REFERENCE), f"docs/reference.md does not have {name}"


def test_the_reference_names_no_class_that_is_not_public() -> None:
    kinds = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][A-Za-z]+)+)`", REFERENCE))
    builtins = {"TimeoutError", "ConnectionError", "LookupError", "TypeError", "ValueError"}
    assert kinds - builtins <= NAMES

"""Fixtures of the acceptance tests: the sample app on a local broker of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mplite_tasks import MPLite

from . import sample


@pytest.fixture
def app(local_home: Path) -> Iterator[MPLite]:
    """The sample app on a local broker that starts by itself and ends with the test."""
    yield sample.app
    sample.app.close()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """The file into which tasks write what they did."""
    return tmp_path / "notes"


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A fifo on which a job waits."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.fixture
def lines(notes: Path) -> Callable[[], list[str]]:
    """Return the lines that tasks have written so far."""
    return lambda: notes.read_text().splitlines() if notes.exists() else []

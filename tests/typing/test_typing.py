"""Type checkers see the types that the package promises: mypy --strict, and pyright where it is installed."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def refused_lines() -> set[int]:
    lines = (HERE / "wrong.py").read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# refused")}


def mypy(name: str) -> dict[int, str]:
    """Return what mypy finds in a file, by line."""
    pytest.importorskip("mypy", reason="mypy is not installed")
    options = ("--strict", "--follow-imports", "silent", "--no-error-summary", "--no-pretty")
    command = [sys.executable, "-m", "mypy", *options, str(HERE / name)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    found = re.findall(rf"{name}:(\d+): error: (.*)", done.stdout)
    assert bool(found) == bool(done.returncode), done.stdout
    return {int(line): text for line, text in found}


def pyright(name: str) -> dict[int, str]:
    """Return what pyright finds in a file, by line."""
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed")
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(HERE / name)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)
    start = done.stdout.find("{")
    if start < 0:
        pytest.skip(f"pyright cannot run here: {done.stderr.strip()[-200:]}")
    found = json.loads(done.stdout[start:])["generalDiagnostics"]
    return {one["range"]["start"]["line"] + 1: one["message"] for one in found if one["severity"] == "error"}


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_correct_calls_are_accepted_with_their_types(checker: object) -> None:
    assert callable(checker)
    assert checker("correct.py") == {}


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_wrong_calls_are_refused_where_they_are_written(checker: object) -> None:
    assert callable(checker)
    found = checker("wrong.py")
    assert set(found) == refused_lines(), found

"""The tutorial's first steps, done as it says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.workers import ROOT, worker

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL)


def test_the_first_task_runs_as_the_tutorial_says(local_home: Path, tmp_path: Path) -> None:
    (tmp_path / "proj.py").write_text(BLOCKS[0])
    with worker("proj", concurrency=4, cwd=tmp_path) as process:
        done = subprocess.run(
            [sys.executable, "-c", BLOCKS[1]], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout == "5\n"
        process.wait_for("tasks        proj.add")


@pytest.mark.parametrize("block", BLOCKS)
def test_each_example_is_python(block: str) -> None:
    ast.parse(block)

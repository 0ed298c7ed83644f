"""The demo, run as a person runs it, and its verdict on runs that went wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from examples.demo.proof import Span, judge
from tests.support.workers import ROOT


def test_the_demo_analyses_the_library_and_keeps_its_promises(local_home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo", "--files", "400"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for promise in ("0 jobs lost", "0 jobs run twice", "0 jobs started while an urgent one waited"):
        assert promise in done.stdout


ORDINARY = [Span("a", 0, 10), Span("b", 1, 30)]
URGENT = [Span("u", 20, 25)]


def test_a_run_in_which_all_went_well_is_clean() -> None:
    assert judge(["a", "b", "u"], ["a", "u", "b"], ORDINARY, URGENT).clean


@pytest.mark.parametrize(
    ("runs", "ordinary", "urgent", "verdict"),
    [
        pytest.param(["a", "u"], ORDINARY[:1], URGENT, (["b"], [], []), id="no answer"),
        pytest.param(["a", "u"], ORDINARY, URGENT, (["b"], [], []), id="an answer without a run"),
        pytest.param(["a", "b", "u", "b"], ORDINARY, URGENT, ([], ["b"], []), id="two runs"),
        pytest.param(["a", "b", "u"], [ORDINARY[0], Span("b", 1, 22)], URGENT, ([], [], ["b"]), id="overtaken"),
    ],
)
def test_what_went_wrong_is_named(
    runs: list[str], ordinary: list[Span], urgent: list[Span], verdict: tuple[list[str], list[str], list[str]]
) -> None:
    found = judge(["a", "b", "u"], runs, ordinary, urgent)
    assert (found.lost, found.repeated, found.overtaken) == verdict
    assert not found.clean

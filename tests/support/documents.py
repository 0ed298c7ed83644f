"""Documents as programs: what stands in their blocks is done, in order, in an empty directory."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.workers import ROOT

__all__ = ["Block", "Reader", "blocks_of"]

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_FILE = re.compile(r"# (\w+\.py)\n")

#: Programs that run until they are told to stop.
_SERVERS = ("mplite-worker ", "mplite-broker ", "mplite handle ")


@dataclass(frozen=True)
class Block:
    """One block of code of a document, and the heading that it stands under."""

    heading: str
    language: str
    text: str


def blocks_of(document: str) -> list[Block]:
    """Return the blocks of a document, by its path from the project's root."""
    text = (ROOT / document).read_text()
    headings = [(match.start(), match[1]) for match in _HEADING.finditer(_BLOCK.sub(lambda m: " " * len(m[0]), text))]
    return [
        Block(next(name for at, name in reversed(headings) if at < match.start()), match[1], match[2])
        for match in _BLOCK.finditer(text)
    ]


class Reader:
    """Somebody who types what a document says."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        scripts = sysconfig.get_path("scripts")
        self._environment = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "PYTHONPATH": str(directory)}
        self._running: list[subprocess.Popen[str]] = []

    @classmethod
    @contextmanager
    def in_(cls, directory: Path) -> Iterator[Reader]:
        """Let somebody read in this directory; what was started is stopped afterwards."""
        reader = cls(directory)
        try:
            yield reader
        finally:
            for process in reader._running:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=30)

    def follow(self, block: Block) -> str:
        """Do what a block says, and return what it printed."""
        if block.language == "python":
            name = _FILE.match(block.text)
            if name:
                (self._directory / name[1]).write_text(block.text)
                return ""
            return self._run([sys.executable, "-c", block.text])
        return "".join(self._type(line[2:]) for line in block.text.splitlines() if line.startswith("$ "))

    def _type(self, line: str) -> str:
        if line.startswith(_SERVERS):
            return self._start(line)
        if line.startswith("export "):
            return self._export(line.removeprefix("export "))
        return self._run(["bash", "-euc", line])

    def _export(self, assignments: str) -> str:
        printed = self._run(["bash", "-euc", f"export {assignments}; env -0"])
        self._environment.update(pair.split("=", 1) for pair in printed.split("\0") if "=" in pair)
        return ""

    def _start(self, line: str) -> str:
        process = subprocess.Popen(
            ["bash", "-euc", f"exec {line}"],
            cwd=self._directory,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._running.append(process)
        assert process.stdout is not None
        first = process.stdout.readline()  # a program that serves says so when it is ready
        assert first and process.poll() is None, f"{line} ended at once: {first}{process.stdout.read()}"
        return first

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(
            command, cwd=self._directory, env=self._environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{command[-1]}\nended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

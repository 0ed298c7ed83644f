"""Run the demo: start workers, send the batch, ask urgent questions while it runs, and prove what is promised."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from mplite_tasks import Result, ResultTimeout

from . import proof, report
from .tasks import analyse, app, outline

#: Files that make a batch; a Python without its test suite has fewer, and the packages beside it fill up.
ENOUGH_FILES = 1_500

#: Seconds between two questions of the person in a hurry.
PAUSE = 0.15

#: Seconds without an answer after which a job counts as lost.
LOST_AFTER = 60.0

#: What the tasks returned, by the id of the job.
Answers = dict[str, dict[str, Any]]


def source_files() -> list[Path]:
    """Return the source files of the standard library, and of the packages installed beside it if those are few."""
    library = Path(sysconfig.get_path("stdlib"))
    packages = Path(sysconfig.get_path("purelib"))
    found = [path for path in sorted(library.rglob("*.py")) if "site-packages" not in path.parts]
    if len(found) < ENOUGH_FILES:
        found += sorted(packages.rglob("*.py"))
    return found


def command(name: str) -> str:
    """Return the path of a command that was installed with this Python."""
    return str(Path(sysconfig.get_path("scripts")) / name)


@contextmanager
def own_broker() -> Iterator[Path]:
    """Let the demo have a local broker of its own, which starts by itself, and take it away afterwards."""
    with tempfile.TemporaryDirectory(prefix="mplite-demo-") as home:
        os.environ["MPLITE_HOME"] = home
        os.environ["DEMO_RUNS"] = str(Path(home) / "runs")
        try:
            yield Path(home)
        finally:
            app.close()
            subprocess.run([command("mplite"), "broker", "stop"], check=False, stdout=subprocess.DEVNULL)


@contextmanager
def workers(count: int, log: Path) -> Iterator[None]:
    """Run ``mplite-worker`` with so many consumers."""
    arguments = ["-A", "examples.demo.tasks", "-c", str(count), "-l", "WARNING"]
    with log.open("w") as output:
        process = subprocess.Popen([command("mplite-worker"), *arguments], stdout=output, stderr=output)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


class Person(threading.Thread):
    """Somebody who asks one urgent question after the other while the batch runs."""

    def __init__(self, files: list[Path]) -> None:
        super().__init__(daemon=True)
        self._files = files
        self._enough = threading.Event()
        self.asked: list[str] = []
        self.answers: Answers = {}

    def run(self) -> None:
        """Ask until told that it is enough."""
        choice = random.Random(0)
        while not self._enough.wait(PAUSE):
            question = outline.delay(str(choice.choice(self._files)))
            self.asked.append(question.id)
            with suppress(ResultTimeout):
                self.answers[question.id] = question.get(timeout=LOST_AFTER)

    def stop(self) -> None:
        """Have the current question answered, and ask no more."""
        self._enough.set()
        self.join()


def collect(console: Console, batch: list[Result[dict[str, Any]]], person: Person) -> Answers:
    """Wait for the batch, which finishes about in its order, and show how far it is. Lost jobs have no answer."""
    answers: Answers = {}
    with report.progress(console) as bar:
        task = bar.add_task("Analysing", total=len(batch), note="")
        for result in batch:
            with suppress(ResultTimeout):
                answers[result.id] = result.get(timeout=LOST_AFTER)
            bar.update(task, advance=1, note=f"{len(person.answers)} urgent questions answered meanwhile")
    return answers


def spans(answers: Answers) -> list[proof.Span]:
    """Return the stamps of jobs."""
    return [proof.Span(id, facts["posted_at"], facts["started_at"]) for id, facts in answers.items()]


@click.command()
@click.option("--files", "most", type=click.IntRange(min=1), help="Analyse so many files only.")
def main(most: int | None) -> None:
    """Analyse Python's standard library on all cores, and let urgent questions overtake the batch.

    Ends with status 1 if a job was lost or ran twice, or was started while an urgent one waited.
    """
    sys.exit(run(source_files()[:most]))


def run(files: list[Path]) -> int:
    """Run the demo and return its exit status."""
    console = Console()
    count = max(2, os.cpu_count() or 2)
    with own_broker() as home:
        console.print(f"Sending {len(files):,} files to {count} workers on {app.broker_url} …")
        batch = app.send_many([analyse.s(str(path)) for path in files])
        person = Person(files)
        began = time.monotonic()
        with workers(count, home / "worker.log"):
            person.start()
            answers = collect(console, batch, person)
            seconds = time.monotonic() - began
            person.stop()
        ordinary, urgent = spans(answers), spans(person.answers)
        sent = [*(result.id for result in batch), *person.asked]
        verdict = proof.judge(sent, (home / "runs").read_text().split(), ordinary, urgent)
        by_path = {
            str(path): answers[result.id] for path, result in zip(files, batch, strict=True) if result.id in answers
        }
        found = report.findings(by_path, Path(sysconfig.get_path("stdlib")))
        report.show(console, seconds=seconds, ordinary=ordinary, urgent=urgent, found=found, verdict=verdict)
    return 0 if verdict.clean else 1


if __name__ == "__main__":
    main()

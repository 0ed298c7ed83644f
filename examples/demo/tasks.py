"""The app and its tasks. A worker imports this module: ``mplite-worker -A examples.demo.tasks``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mplite_tasks import MPLite, current_job

from . import analysis

app = MPLite("demo")

#: The batch can wait; a person cannot. Any signed 32-bit integer will do, and higher runs first.
BATCH, URGENT = 0, 9


@app.task(priority=BATCH)
def analyse(path: str) -> dict[str, Any]:
    """Work out the measures of one file."""
    return signed(analysis.analyse(Path(path)))


@app.task(priority=URGENT)
def outline(path: str) -> dict[str, Any]:
    """Answer a person's question about one file."""
    return signed({"names": analysis.outline(Path(path))})


def signed(facts: dict[str, Any]) -> dict[str, Any]:
    """Add the broker's stamps of this run, and put it on record, so that the demo can prove its claims."""
    job = current_job()
    if job is None:
        return facts
    runs = os.environ.get("DEMO_RUNS")
    if runs:
        with Path(runs).open("a") as file:  # short appends of several processes do not mix
            file.write(job.id + "\n")
    return {**facts, "posted_at": job.posted_at, "started_at": job.delivered_at}

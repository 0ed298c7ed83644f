"""The app of the tests that kill: its jobs put on record which process ran them, and when the broker handed them out.

``$CHAOS_LOG`` names the directory of the records.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from mplite_tasks import MPLite, current_job
from tests.support.chronicle import Writer

#: Seconds for which callers try to reach a broker that was killed, on a machine that has other things to do.
PATIENCE = 90.0

app = MPLite("chaos", patience=PATIENCE)


def log_directory() -> Path:
    """Return where the records are."""
    return Path(os.environ["CHAOS_LOG"])


@app.task
def work(milliseconds: float) -> float:
    """Take some time."""
    job = current_job()
    assert job is not None and job.posted_at is not None and job.delivered_at is not None
    record = Writer.of(log_directory() / "runs")
    record.start(job.id, job.priority, job.posted_at, job.delivered_at)
    if milliseconds:
        time.sleep(milliseconds / 1000)
    record.end(job.id)
    return milliseconds

"""The app of the task benchmarks: a task that does nothing."""

from __future__ import annotations

from mplite_tasks import MPLite

app = MPLite("benchmark", broker="mplite://")


@app.task(priority=0)
def nothing(number: int) -> int:
    return number

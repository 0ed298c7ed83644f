"""Handlers of the acceptance tests. A message is ``{"notes": path, …}``; what was done is written there."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from mplite_tasks import ReceivedMessage, handler
from tests.acceptance.sample import note

not_callable = 3


def record(body: dict[str, Any]) -> None:
    note(body["notes"], body["line"])


def hold(body: dict[str, Any]) -> None:
    """Note the start and the process, wait until somebody writes to the fifo, note the end."""
    note(body["notes"], f"start {os.getpid()}")
    Path(body["fifo"]).read_text()
    note(body["notes"], "end")


@handler(queues=["declared"], concurrency=2, retry=1)
def flaky(body: dict[str, Any], message: ReceivedMessage) -> None:
    note(body["notes"], message.retries)
    if message.retries < body["failures"]:
        raise ConnectionError("not yet")


def die(body: dict[str, Any]) -> None:
    note(body["notes"], "dies")
    os.kill(os.getpid(), signal.SIGKILL)

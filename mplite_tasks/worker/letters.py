"""Dead letters: a message that cannot be dealt with, as it was, and with headers that say why."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

from kombu import Message

from mplite_tasks_transport import Publication

from ..topology import dead_queue
from .attempts import MAX_ERROR_CHARS

__all__ = ["dead_letter"]


def dead_letter(
    message: Message,
    queue: str,
    *,
    reason: str,
    error: str,
    headers: Mapping[str, Any],
    properties: Mapping[str, Any],
) -> Publication:
    """Return a message as a dead letter of its queue.

    It has an id of its own: the same message may come back from the dead letters and become one again.

    Parameters:
        reason: one word, in the header ``x-dead-reason``.
        error: in the header ``x-dead-error``, shortened.
        headers: further headers.
        properties: AMQP's.
    """
    own = dict(message.headers)
    if not message.errors:
        own.pop("compression", None)  # Kombu has decompressed the body
    return Publication(
        queue=dead_queue(queue),
        id=uuid.uuid4().hex,
        body=message.body if isinstance(message.body, bytes) else str(message.body).encode(),
        content_type=message.content_type or "application/data",
        content_encoding=message.content_encoding or "binary",
        headers={
            **own,
            "x-dead-reason": reason,
            "x-dead-error": error[:MAX_ERROR_CHARS],
            "x-dead-queue": queue,
            "x-dead-at": time.time(),
            **headers,
        },
        properties=properties,
    )

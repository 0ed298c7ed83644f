"""Fakes of the task framework's tests: messages as a transport would deliver them, without one."""

from __future__ import annotations

from typing import Any

from kombu import Message

from mplite_tasks.signature import Signature
from mplite_tasks_transport import DeliveryFacts, Publication

FACTS = DeliveryFacts(
    id="the-id", queue="q", priority=3, posted_at=10, delivered_at=20, deliveries=0, redelivered=False
)


def delivered(publication: Publication, **changes: Any) -> Message:
    """Return a publication as the message that a consumer gets."""
    fields: dict[str, Any] = {
        "body": publication.body,
        "content_type": publication.content_type,
        "content_encoding": publication.content_encoding,
        "headers": dict(publication.headers),
        "delivery_info": {"routing_key": publication.queue},
        **changes,
    }
    return Message(accept={"application/x-mplite-json", "application/json"}, **fields)


def publication_of(app: Any, signature: Signature[Any]) -> Publication:
    """Return what sending a call would publish."""
    publication: Publication = app._message(signature).publication()
    return publication

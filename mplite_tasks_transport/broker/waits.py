"""Requests that are answered later, by the ids that their client gave them."""

from __future__ import annotations

from ..errors import PreconditionFailed
from .session import Session

__all__ = ["check_wait"]


def check_wait(session: Session, request: int) -> None:
    """Raise :class:`PreconditionFailed` unless a request may wait: it could not be told apart from another one.

    What waits under an id that is used twice would be forgotten by its session, and outlive it.
    """
    if not request:
        raise PreconditionFailed("A request that waits for its answer needs a request id; 0 wants no answer.")
    if request in session.waits:
        raise PreconditionFailed(f"Request {request} of this connection waits already; give every request its own id.")

"""The Kombu transport ``mplite://``. ``docs/channel-contract.md`` lists what Kombu and Celery use of it."""

from __future__ import annotations

from .channel import Channel
from .connection import Connection
from .message import Message
from .transport import SecureTransport, Transport

__all__ = ["Channel", "Connection", "Message", "SecureTransport", "Transport"]

"""Requests that make and remove channels, exchanges, queues, bindings and consumers."""

from __future__ import annotations

from typing import Any

from .base import Frame

__all__ = [
    "BindQueue",
    "CancelConsumer",
    "CloseChannel",
    "Consume",
    "DeclareExchange",
    "DeclareQueue",
    "DeleteExchange",
    "DeleteQueue",
    "OpenChannel",
    "PurgeQueue",
    "UnbindQueue",
]


class OpenChannel(Frame, tag=1):
    """Open a channel. The client picks the number, 1 or more."""

    r: int
    channel: int


class CloseChannel(Frame, tag=2):
    """Close a channel: its consumers end, what it held goes back to its old place."""

    r: int
    channel: int


class DeclareExchange(Frame, tag=3):
    """Make sure that an exchange exists; ``passive`` only asks."""

    r: int
    name: str
    kind: str = "direct"
    passive: bool = False
    durable: bool = True
    auto_delete: bool = False
    arguments: dict[str, Any] = {}


class DeleteExchange(Frame, tag=4):
    """Delete an exchange and its bindings."""

    r: int
    name: str
    if_unused: bool = False


class DeclareQueue(Frame, tag=5):
    """Make sure that a queue exists. Answers ``[name, messages waiting, consumers]``; an empty name is picked."""

    r: int
    name: str
    passive: bool = False
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    arguments: dict[str, Any] = {}


class DeleteQueue(Frame, tag=6):
    """Delete a queue with all that it holds. Answers the number of messages that were waiting."""

    r: int
    name: str
    if_unused: bool = False
    if_empty: bool = False


class BindQueue(Frame, tag=7):
    """Route messages of an exchange to a queue."""

    r: int
    queue: str
    exchange: str
    routing_key: str = ""
    arguments: dict[str, Any] = {}


class UnbindQueue(Frame, tag=8):
    """Take a binding back. One that does not exist is no error (RabbitMQ's reading of AMQP)."""

    r: int
    queue: str
    exchange: str
    routing_key: str = ""
    arguments: dict[str, Any] = {}


class PurgeQueue(Frame, tag=9):
    """Drop every waiting message, also those that are not due yet. Answers how many."""

    r: int
    name: str


class Consume(Frame, tag=11):
    """Register a consumer. Its tag is unique in its channel.

    The argument ``x-starts-on-delivery`` (true) says that each delivery counts as :class:`Started` when handed out.
    """

    r: int
    channel: int
    tag: str
    queue: str
    no_ack: bool = False
    exclusive: bool = False
    arguments: dict[str, Any] = {}


class CancelConsumer(Frame, tag=12):
    """End a consumer. What it holds stays held until it is settled."""

    r: int
    channel: int
    tag: str

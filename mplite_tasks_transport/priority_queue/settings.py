"""What a queue object was made with, and how it connects."""

from __future__ import annotations

import contextlib
import os
import uuid
from dataclasses import dataclass, field
from typing import Any

from ..client import BrokerClient
from ..errors import NotFound, ReplyError
from ..frames import DeclareQueue, Deliver, Identify, OpenChannel, Publish
from ..keys import load_key
from ..serializer import NAME
from ..tls import TLSOptions
from ..transport.outgoing import checked_priority
from ..url import BrokerURL
from ..values import check_serializer, decode_value, encode_value
from .intake import CHANNEL
from .ledger import Ledger

__all__ = ["Settings", "new_identity"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The parameters of a queue object (see :class:`~mplite_tasks_transport.PriorityQueue`)."""

    name: str
    url: BrokerURL
    maxsize: int = 0
    serializer: str = NAME
    key: bytes | None = field(default=None, repr=False)
    reconnect: float = 60.0
    connect_timeout: float = 5.0
    autostart: bool = True
    credentials: str | None = None
    tls: TLSOptions | None = None
    allow_plaintext: bool = False

    @classmethod
    def of(
        cls,
        name: str,
        broker: str | BrokerURL,
        maxsize: int,
        *,
        serializer: str,
        key: str | bytes | None,
        reconnect: float,
        connect_timeout: float,
        autostart: bool,
        credentials: str | os.PathLike[str] | None,
        tls: TLSOptions | None,
        allow_plaintext: bool,
    ) -> Settings:
        """Return the settings that a user's words mean. Raises :class:`TypeError` or :class:`ValueError`."""
        if not isinstance(name, str):
            raise TypeError(f"The name of a queue is text, not {name!r}.")
        if not isinstance(maxsize, int):
            raise TypeError(f"maxsize is an integer, not {maxsize!r}.")
        if not name:
            raise ValueError("The name of the queue is empty.")
        return cls(
            name,
            broker if isinstance(broker, BrokerURL) else BrokerURL.parse(broker),
            maxsize,
            check_serializer(serializer),
            None if key is None else load_key(key),
            reconnect,
            connect_timeout,
            autostart,
            None if credentials is None else os.fspath(credentials),
            tls,
            allow_plaintext,
        )

    def publish(self, item: Any, priority: int, *, wait: bool) -> Publish:
        """Return the frame that puts an item. Raises :class:`TypeError` or :class:`ValueError` for what cannot be."""
        payload = encode_value(item, self.serializer)
        number = checked_priority(priority)
        return Publish(0, "", self.name, uuid.uuid4().hex, number, payload, mandatory=True, wait=wait)

    def value(self, delivery: Deliver) -> Any:
        """Return the item in a message. Raises :class:`UnreadableValue`."""
        return decode_value(delivery.payload, f"message {delivery.id!r} of queue {self.name!r}")

    def connect(self, identity: str, ledger: Ledger) -> BrokerClient:
        """Return a connection with the queue declared, a channel open, and what the object holds taken over."""
        client = BrokerClient.connect(
            self.url,
            key=self.key,
            timeout=self.connect_timeout,
            autostart=self.autostart,
            credentials=self.credentials,
            tls=self.tls,
            allow_plaintext=self.allow_plaintext,
        )
        try:
            self._declare(client)
            client.call(OpenChannel(0, CHANNEL))
            for request in ledger.resume(client.call(Identify(0, identity)) or []):
                with contextlib.suppress(ReplyError):  # its queue was deleted: it went with it
                    client.call(request)
        except BaseException:
            client.abandon()
            raise
        return client

    def _declare(self, client: BrokerClient) -> None:
        """Use the queue as it exists, unless a size is wanted; else declare it durable."""
        arguments: dict[str, Any] = {}
        if self.maxsize > 0:
            arguments = {"x-max-length": self.maxsize, "x-overflow": "reject-publish"}
        else:
            with contextlib.suppress(NotFound):
                client.call(DeclareQueue(0, self.name, passive=True))
                return
        client.call(DeclareQueue(0, self.name, arguments=arguments))


def new_identity() -> str:
    """Return the name by which the broker knows a queue object of one process, across its connections."""
    return f"queue.{uuid.uuid4().hex}"

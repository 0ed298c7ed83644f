"""A received message, as Kombu knows it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from kombu.transport import base

from ..errors import ProtocolError
from ..frames import Deliver
from ..payload import Payload, decode_payload

if TYPE_CHECKING:
    from .channel import Channel

__all__ = ["Message"]


class Message(base.Message):  # type: ignore[misc]  # Kombu has no types
    """A delivery, with what the broker said of it in ``delivery_info``.

    Beyond AMQP's ``exchange``, ``routing_key``, ``redelivered``, ``consumer_tag`` and ``delivery_tag``, that has
    ``queue``, ``message_id`` (the key in the queue's index), ``priority``, ``posted_at`` and ``delivered_at`` (stamps
    of the broker's clock in microseconds) and ``deliveries`` (how often a consumer that had started with it died).

    A payload that is not one of ours is no reason to fail here: it becomes the body as it is and an error in
    ``errors``, so that Kombu's ``on_decode_error`` can deal with it.
    """

    def __init__(self, deliver: Deliver, channel: Channel, **kwargs: Any) -> None:
        try:
            payload = decode_payload(deliver.payload)
        except ProtocolError:
            self.errors = [sys.exc_info()]
            payload = Payload(deliver.payload)
        properties = payload.properties
        properties["priority"] = deliver.priority
        super().__init__(
            body=payload.body,
            channel=channel,
            delivery_tag=deliver.delivery,
            content_type=properties.get("content_type"),
            content_encoding=properties.get("content_encoding"),
            delivery_info={
                "consumer_tag": deliver.consumer,
                "delivery_tag": deliver.delivery,
                "redelivered": deliver.redelivered,
                "exchange": deliver.exchange,
                "routing_key": deliver.routing_key,
                "queue": deliver.queue,
                "message_id": deliver.id,
                "priority": deliver.priority,
                "posted_at": deliver.posted_at,
                "delivered_at": deliver.delivered_at,
                "deliveries": deliver.deliveries,
            },
            properties=properties,
            headers=properties.get("headers") or {},
            **kwargs,
        )
        if not deliver.consumer:
            # A message of basic_get has no consumer; Kombu looks the tag up among those that need no ack.
            del self.delivery_info["consumer_tag"]

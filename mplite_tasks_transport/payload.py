"""A message's payload: its body and AMQP properties, as one string of bytes that the broker need not look into.

The broker stores and delivers payloads as they are. It opens one only to add the history of a dead letter and to
route by headers.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .errors import ProtocolError

__all__ = ["Payload", "decode_payload", "encode_payload"]


class Payload(msgspec.Struct, array_like=True, frozen=True):
    """What a publisher hands over.

    Parameters:
        body: the serialized (and perhaps compressed) content.
        properties: AMQP's basic properties by Kombu's names: ``content_type``, ``content_encoding``,
            ``correlation_id``, ``reply_to``, ``delivery_mode``, ``headers`` (a mapping) and so on. Only what msgpack
            can carry: numbers, strings, bytes, booleans, None, timestamps, lists and mappings.
    """

    body: bytes
    properties: dict[str, Any] = {}


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Payload)


def encode_payload(payload: Payload) -> bytes:
    """Return the payload as bytes. Raises :class:`TypeError` for a property that msgpack cannot carry."""
    return _encoder.encode(payload)


def decode_payload(data: bytes) -> Payload:
    """Return the payload that :func:`encode_payload` made. Raises :class:`ProtocolError` for anything else."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:  # ValueError: not UTF-8
        raise ProtocolError(f"The payload is not [body, properties] in msgpack: {exc}") from exc

"""Values as messages: how the dicts and the queue classes write Python data, and read what others wrote.

What is read is data only: a content type that can do more than carry data, such as pickle, is refused by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .errors import ProtocolError
from .payload import Payload, decode_payload, encode_payload
from .serializer import CONTENT_TYPE, NAME, dumps, loads

__all__ = ["SERIALIZERS", "UnreadableValue", "check_serializer", "decode_value", "encode_value"]

_JSON: Final = "application/json"
_TEXT: Final = frozenset({"text/plain", "application/text"})
_BINARY: Final = frozenset({"application/data", "application/octet-stream"})

#: How values can be written: ``mplite-json`` (refuses what JSON cannot carry) or Kombu's ``json``, for readers that
#: have Kombu and not this package.
SERIALIZERS: Final = (NAME, "json")


class UnreadableValue(ValueError):
    """A message's body is not data that is read here: another serializer wrote it, or it is damaged."""


def check_serializer(name: str) -> str:
    """Return the name of a serializer. Raises :class:`ValueError` if values are not written with it."""
    if name not in SERIALIZERS:
        raise ValueError(f"Values are written with {' or '.join(SERIALIZERS)}, not with {name!r}.")
    return name


def encode_value(value: Any, serializer: str = NAME) -> bytes:
    """Return a value as the payload of a message, which Kombu consumers and task workers read too.

    Bytes travel as they are, everything else as JSON by the rules of the serializer.

    Raises:
        TypeError, ValueError: it has no JSON form; the text says where.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return _payload(bytes(value), "application/data", "binary")
    if serializer == NAME:
        return _payload(dumps(value), CONTENT_TYPE, "utf-8")
    return _payload(_kombu_json().dumps(value).encode(), _JSON, "utf-8")


def decode_value(data: bytes, what: str) -> Any:
    """Return the value in a message's payload.

    JSON becomes plain data, text ``str``, binary content ``bytes``; compressed bodies are opened.

    Parameters:
        what: how the error calls the message.

    Raises:
        UnreadableValue: its content type is none of these, its body is not what the content type says, or it is no
            payload at all.
    """
    try:
        payload = decode_payload(data)
    except ProtocolError as exc:
        raise UnreadableValue(f"What {what} holds is no message of Kombu's: {exc}") from exc
    kind = payload.properties.get("content_type")
    encoding = payload.properties.get("content_encoding") or "utf-8"
    read = _reader(kind, encoding)
    if read is None:
        raise UnreadableValue(
            f"The content type of {what} is {kind!r}: only JSON, text and binary content is read here, since others "
            "may run code. Let a consumer that trusts its producer take it."
        )
    try:
        return read(_opened(payload))
    except Exception as exc:  # a codec or a decompressor raises what it likes for damaged content
        raise UnreadableValue(f"The body of {what} is not what its content type {kind!r} says: {exc}") from exc


def _payload(body: bytes, kind: str, encoding: str) -> bytes:
    properties = {"content_type": kind, "content_encoding": encoding, "delivery_mode": 2, "headers": {}}
    return encode_payload(Payload(body, properties))


def _reader(kind: Any, encoding: Any) -> Callable[[bytes], Any] | None:
    if not isinstance(kind, str | None) or not isinstance(encoding, str):
        return None
    if kind == CONTENT_TYPE:
        return loads
    if kind == _JSON:
        return lambda body: _kombu_json().loads(body.decode(encoding))
    if kind in _TEXT:
        return lambda body: body.decode(encoding)
    if kind in _BINARY or (kind is None and encoding == "binary"):
        return bytes
    return None


def _opened(payload: Payload) -> bytes:
    headers = payload.properties.get("headers")
    method = headers.get("compression") if isinstance(headers, dict) else None
    if method is None:
        return payload.body
    from kombu.compression import decompress  # noqa: PLC0415 - few messages are compressed

    body: bytes = decompress(payload.body, method)
    return body


def _kombu_json() -> Any:
    from kombu.utils import json  # noqa: PLC0415 - it imports much that a queue of mplite-json does not need

    return json

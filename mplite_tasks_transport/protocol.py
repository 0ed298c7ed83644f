"""The protocol's framing and codec, without I/O: bytes in, frames out.

A frame is a length (unsigned 32-bit, big-endian) and that many bytes of msgpack. The length is checked before a byte
of the body is kept, so that a peer cannot make us hold more than the limit.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

import msgspec

from .errors import Code, ProtocolError
from .frames import Publish, Push, Request, Settle, StoreResult, ViewSet
from .limits import MAX_FRAME_BYTES, MAX_SMALL_FRAME_BYTES

__all__ = [
    "PROTOCOL_MAJOR",
    "PROTOCOL_MINOR",
    "FrameReader",
    "decode_push",
    "decode_request",
    "encode_push",
    "encode_request",
    "encode_requests",
]

#: Peers of different majors do not talk; within a major, both keep to the lower of their minors.
PROTOCOL_MAJOR: Final = 1
PROTOCOL_MINOR: Final = 0

_LENGTH: Final = struct.Struct(">I")
_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(Request)
_pushes = msgspec.msgpack.Decoder(Push)

#: The numbers of the requests that carry a payload, as they stand in the second byte of a body: all are below 128.
_LARGE: Final = frozenset(int(each.__struct_config__.tag or 0) for each in (Publish, Settle, StoreResult, ViewSet))


class FrameReader:
    """Cuts a stream of bytes into the bodies of frames.

    Parameters:
        limit: bytes that a body may have. It may be changed between frames: a handshake's is small.
    """

    __slots__ = ("_buffer", "limit")

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        """Take what was read and return the bodies that are complete now, in order.

        Raises :class:`ProtocolError` (``FRAME_TOO_LARGE``) as soon as a length over the limit is announced, and for
        an empty frame.
        """
        buffer = self._buffer
        buffer += data
        bodies: list[bytes] = []
        start, end = 0, len(buffer)
        while end - start >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(buffer, start)
            if size > self.limit:
                raise ProtocolError(
                    f"A frame of {size} bytes was announced; {self.limit} are allowed.", Code.FRAME_TOO_LARGE
                )
            if size == 0:
                raise ProtocolError("A frame without content was announced.")
            begin = start + _LENGTH.size
            if end - begin < size:
                break
            start = begin + size
            bodies.append(bytes(buffer[begin:start]))
        if start:
            del buffer[:start]
        return bodies

    def take_rest(self) -> bytes:
        """Return, and let go of, what was read beyond the last complete frame."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest


def frame_bytes(body: bytes) -> bytes:
    """Return a body with its length before it."""
    return _LENGTH.pack(len(body)) + body


def _encode(frame: msgspec.Struct) -> bytes:
    body = _encoder.encode(frame)
    if len(body) > MAX_FRAME_BYTES:
        raise ProtocolError(
            f"A {type(frame).__name__} frame of {len(body)} bytes exceeds the limit of {MAX_FRAME_BYTES}; "
            "send large content by reference.",
            Code.CONTENT_TOO_LARGE,
        )
    return _LENGTH.pack(len(body)) + body


def encode_request(frame: Request) -> bytes:
    """Return a client's frame as bytes, ready to be sent.

    Raises :class:`ProtocolError` (``CONTENT_TOO_LARGE``) when it exceeds the limit of a frame.
    """
    return _encode(frame)


def encode_requests(frames: Iterable[Request]) -> bytes:
    """Return several of a client's frames as one string of bytes."""
    return b"".join(map(_encode, frames))


def encode_push(frame: Push) -> bytes:
    """Return a broker's frame as bytes, ready to be sent."""
    return _encode(frame)


def decode_request(body: bytes) -> Request:
    """Return the client's frame in a body. Raises :class:`ProtocolError` for anything that is not one."""
    if len(body) > MAX_SMALL_FRAME_BYTES and body[1] not in _LARGE:
        raise ProtocolError(
            f"A frame of {len(body)} bytes without a payload; {MAX_SMALL_FRAME_BYTES} are allowed.",
            Code.FRAME_TOO_LARGE,
        )
    try:
        frame: Request = _requests.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:  # ValueError: not UTF-8
        raise ProtocolError(f"Not a request of protocol {PROTOCOL_MAJOR}.{PROTOCOL_MINOR}: {exc}") from exc
    return frame


def decode_push(body: bytes) -> Push:
    """Return the broker's frame in a body. Raises :class:`ProtocolError` for anything that is not one."""
    try:
        frame: Push = _pushes.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:  # ValueError: not UTF-8
        raise ProtocolError(f"Not a frame of protocol {PROTOCOL_MAJOR}.{PROTOCOL_MINOR}: {exc}") from exc
    return frame
